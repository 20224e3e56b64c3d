"""Public suites on small data in their formats, and embeddings that are kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from eval import suites
from eval.cache import CachedCrossEncoder, CachedEncoder
from eval.cases import Case, CaseError
from eval.commands import run_suite
from eval.public import canard, locomo, qmsum, squad2_articles, squad2_paragraphs
from eval.runner import Progress
from eval.suites import SUITES, run_public, squad_scores
from index.chunks import Window, make_block
from index.encoder import EncodedQuestion, EncodedWindows
from index.sentences import split_sentences
from index.transcript import Transcript
from rag.cross import CrossEncoder
from tests.conftest import HashEncoder

CONTEXT = " Normandy lies in France. The duke came in 911, it is said."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of public sets with a few lines in each."""
    conversation = {
        "session_2": [{"dia_id": "D2:1", "speaker": "Mel", "text": "I adopted a red cat."}],
        "session_1": [
            {"dia_id": "D1:1", "speaker": "Ann", "text": "I painted a lake in June."},
            {"dia_id": "D1:2", "speaker": "Mel", "text": ""},
        ],
        "qa": [
            {"question": "When did Ann paint?", "answer": "June", "evidence": ["D1:1"], "category": 2},
            {"question": "What did both do?", "answer": "x", "evidence": ["D1:1; D2:1"], "category": 1},
            {"question": "Which cat did Ann adopt?", "evidence": ["D2:1"], "category": 5},
            {"question": "Lost?", "answer": "x", "evidence": ["D9:9"], "category": 4},
        ],
    }
    start = CONTEXT.index("France")
    article = {
        "title": "Normans",
        "paragraphs": [
            {"context": "Nothing here.", "qas": []},
            {
                "context": CONTEXT,
                "qas": [
                    {
                        "id": "q1",
                        "question": "Where is Normandy?",
                        "answers": [{"text": "France", "answer_start": start}],
                    },
                    {"id": "q2", "question": "Where is Mars?", "answers": [], "is_impossible": True},
                ],
            },
        ],
    }
    meeting = {
        "meeting_transcripts": [
            {"speaker": "A", "content": "{disfmarker} Um the remote is yellow <laugh> ."},
            {"speaker": "B", "content": "{vocalsound}"},
            {"speaker": "C", "content": "And the price is twelve euros ."},
        ],
        "specific_query_list": [
            {"query": "What of the price?", "answer": "12", "relevant_text_span": [["1", "2"]]}
        ],
    }
    asked = ["Title", "Section", "Who was she?", "A singer.", "When?", "CANNOTANSWER", "Where?"]
    dialogue = [
        {
            "QuAC_dialog_id": "d",
            "Question_no": n,
            "Question": q,
            "Rewrite": f"{q}!",
            "History": asked[: 2 * n],
        }
        for n, q in ((1, "Who was she?"), (2, "When?"), (3, "Where?"))
    ]
    for name, content in {
        "locomo10/data/multimodal_dialog/locomo10_v2/1.json": conversation,
        "squad2_half/dev-v2.0.cs224n.json": {"data": [article]},
        "squad2_half/official_ids.json": {"q1": "o1", "q2": "o2"},
        "squad2_half/leaderboard_predictions/v2.0_BERT (single).json": {"o1": "in France", "o2": ""},
        "qmsum/val/m.json": meeting,
        "canard/dev.json": dialogue,
    }.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "data"


def test_locomo_keeps_order_and_speakers_and_drops_what_has_no_evidence(data: Path) -> None:
    (scope,) = locomo(data)
    assert [t.speaker for t in scope.transcript.turns] == ["Ann", "Mel"]
    assert [c.kind for c in scope.cases] == ["temporal", "multi-hop", "adversarial"]
    assert [len(c.evidence) for c in scope.cases] == [1, 2, 0]
    assert scope.transcript.words(*scope.cases[2].near[0]) == "I adopted a red cat."


def test_squad_spans_are_the_annotated_words(data: Path) -> None:
    for load, texts in ((squad2_articles, 1), (squad2_paragraphs, 2)):
        scopes = list(load(data))
        assert len(scopes) == texts
        answerable, unanswerable = scopes[-1].cases
        assert scopes[-1].transcript.words(*answerable.evidence[0][0]) == "France"
        assert (unanswerable.answerable, unanswerable.reason) == (False, "never_mentioned")


def test_qmsum_leaves_noises_out(data: Path) -> None:
    (scope,) = qmsum(data)
    assert [scope.transcript.words(t.start, t.end) for t in scope.transcript.turns] == [
        "Um the remote is yellow .",
        "And the price is twelve euros .",
    ]
    assert len(scope.cases[0].evidence) == 1


def test_canard_asks_for_known_answers_only(data: Path) -> None:
    (scope,) = canard(data)
    assert [(c.question, c.history) for c in scope.cases] == [("Who was she?", ())]
    assert scope.rewrites == {"d.1": "Who was she?!"}


def test_squad_scores_follow_the_leaderboard() -> None:
    none = Case(case_id="n", kind="k", split="test", question="?")
    some = Case(case_id="s", kind="k", split="test", question="?", evidence=(((0, 1),),), short=("the Cat",))
    assert squad_scores(none, "")["squad_f1"] == 1
    assert squad_scores(none, "cat")["squad_em"] == 0
    assert squad_scores(some, "")["squad_avna"] == 0
    assert squad_scores(some, "a cat")["squad_em"] == 1


@pytest.mark.parametrize("name", [name for name in SUITES if name != "xquad"])
def test_every_suite_runs_and_a_second_run_embeds_nothing(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders: list[HashEncoder] = []

    def make(_name: str) -> HashEncoder:
        encoders.append(HashEncoder())
        return encoders[-1]

    monkeypatch.setattr(suites, "Encoder", make)
    first, second = (run_public(name, data, tmp_path / "kept") for _ in range(2))
    assert encoders[0].encoded
    assert not encoders[1].encoded
    assert first["digest"] == second["digest"]
    assert first["figures"]["all"][0]["value"] is not None
    if SUITES[name].asks:
        exact = next(f for f in first["figures"]["all"] if f["name"] == "quote_exactness")
        assert exact["value"] == 1


def test_a_missing_folder_or_suite_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="there is no suite 'nothing': choose interview, xquad"):
        run_suite("nothing")
    with pytest.raises(CaseError, match="needs its data"):
        run_suite("locomo")
    with pytest.raises(CaseError, match="give the folder of the public sets"):
        list(locomo(tmp_path))


# Kept embeddings ---------------------------------------------------------------------------


class Counting(HashEncoder):
    """Counts the questions that it embeds."""

    asked = 0

    def encode_questions(self, texts: Sequence[str]) -> tuple[EncodedQuestion, ...]:
        self.asked += len(texts)
        return super().encode_questions(texts)


def windows(*texts: str) -> list[Window]:
    return [Window(text=text, focus=((0, len(text)),)) for text in texts]


def same(a: EncodedWindows, b: EncodedWindows) -> bool:
    return all(
        np.array_equal(getattr(a, k), getattr(b, k)) for k in ("vectors", "tokens", "token_starts", "spots")
    )


def test_kept_embeddings_are_those_of_the_first_time(tmp_path: Path) -> None:
    wanted = windows("one two three", "four", "one two three")
    first = CachedEncoder(Counting(), tmp_path).encode_windows(wanted)
    again = Counting()
    assert same(first, CachedEncoder(again, tmp_path).encode_windows(wanted))
    assert not again.encoded
    direct = HashEncoder().encode_windows(wanted)
    assert np.allclose(first.vectors, direct.vectors, atol=1e-3)
    assert np.array_equal(first.token_starts, direct.token_starts)


def test_the_same_text_with_another_focus_is_embedded_again(tmp_path: Path) -> None:
    inner = Counting()
    encoder = CachedEncoder(inner, tmp_path)
    encoder.encode_windows(windows("one two"))
    encoder.encode_windows([Window(text="one two", focus=((0, 3),))])
    assert len(inner.encoded) == 2


def test_a_question_is_embedded_once(tmp_path: Path) -> None:
    inner = Counting()
    for _ in range(2):
        (found,) = CachedEncoder(inner, tmp_path).encode_questions(["who is it"])
    assert inner.asked == 1
    assert found.spans == inner.encode_questions(["who is it"])[0].spans


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CaseError, match="embeddings cannot be kept"):
        CachedEncoder(HashEncoder(), tmp_path / "file")


def test_progress_counts_all_cases(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "Encoder", lambda _name: HashEncoder())
    seen: list[Sequence[int]] = []
    progress: Progress = lambda *counts: seen.append(counts)  # noqa: E731
    run_public("squad2-article", data, tmp_path / "kept", progress=progress)
    assert seen[-1] == (2, 2)


def test_what_a_block_was_thought_of_is_kept(
    tmp_path: Path, lavrov: Transcript, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = split_sentences(lavrov)
    blocks = [make_block(lavrov, sentences, 0, 4), make_block(lavrov, sentences, 100, 104)]
    first = CachedCrossEncoder(CachedEncoder(HashEncoder(), tmp_path)).read("Who was invited?", blocks)
    assert first == CrossEncoder().read("Who was invited?", blocks)

    def judge(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(CrossEncoder, "judge", judge)
    second = CachedCrossEncoder(CachedEncoder(HashEncoder(), tmp_path))
    assert second.read("Who was invited?", blocks) == first
    assert set(second.read("Who was invited?", blocks[1:])) == set(range(100, 105))
    with pytest.raises(AssertionError, match="read again"):
        second.read("Who was not invited?", blocks)
