"""The reader that ships: its arithmetic equals its reference, and its weights are the ones that ship."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from index.adapter import Adapter, published_weights, shipped_adapter
from index.chunks import Block, blocks_around, make_block
from index.encoder import DEFAULT_ENCODER, PUBLISHED, Encoder
from index.sentences import split_sentences
from index.transcript import Transcript, parse_transcript
from rag.cross import CrossEncoder, Judged
from rag.pipeline import Interview
from rag.question import MAX_QUESTION, contextualise
from rag.reader import MAX_SHORT_ANSWER, whole_words
from rag.retrieval import View, match
from rag.trained import BLOCKS, Evidence, TrainedReader, late_heads, late_scores, weighed
from training.export import pack, stages, unpack, write


def test_a_sentence_is_judged_as_by_the_library_alone(interview: Interview) -> None:
    cross_encoder = CrossEncoder()
    adapter, folder = cross_encoder.adapter, Encoder(PUBLISHED).folder
    model: Any = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    changed = {k: torch.from_numpy(v) for k, v in adapter.applied("", weights).items()}
    model.load_state_dict(changed, strict=False)
    assert len(changed) > 90
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    index, question = interview.index, "Who was not invited?"
    blocks = [make_block(index.transcript, index.sentences, first, first + 4) for first in (0, 2, 100, 260)]
    judged = cross_encoder.read(question, blocks)
    assert set(judged) == {*range(7), *range(100, 105), *range(260, 265)}
    for block in blocks[2:]:  # each alone, so that nothing is padded
        features = tokenizer(question, block.text, return_offsets_mapping=True, return_tensors="pt")
        offsets = features.pop("offset_mapping")[0].tolist()
        with torch.inference_mode():
            hidden = model(**features).last_hidden_state[0].numpy()
        logits = hidden @ adapter.tensors["head.weight"].T + adapter.tensors["head.bias"]
        for sentence, (start, end) in zip(block.sentences, block.spans, strict=True):
            own = [
                k
                for k, (a, b) in enumerate(offsets)
                if features["token_type_ids"][0, k] == 1 and a < b and a < end and b > start
            ]
            expected = np.log(np.exp(logits[own, 0]).sum())
            assert judged[sentence].logit == pytest.approx(expected, abs=1e-3)
            first, last = (np.exp(logits[own, i]) / np.exp(logits[own, i]).sum() for i in (1, 2))
            best = max(
                (first[a] * last[b], a, b)
                for a in range(len(own))
                for b in range(a, min(len(own), a + MAX_SHORT_ANSWER))
            )
            assert judged[sentence].probability == pytest.approx(best[0], abs=1e-3)
            assert judged[sentence].start == max(0, offsets[own[best[1]]][0] - start)
            assert judged[sentence].end == offsets[own[best[2]]][1] - start


def test_what_is_cut_off_in_a_long_block_is_left_out() -> None:
    text = "Anna: Short words first. " + "very " * 400 + "long. Never seen.\n"
    transcript = parse_transcript(text, "t.txt")
    sentences = split_sentences(transcript)
    assert len(sentences) == 6  # a sentence without end is cut every 600 characters: 120 tokens here
    judged = CrossEncoder().read("What?", [make_block(transcript, sentences, 0, 5)])
    assert set(judged) == {0, 1, 2, 3}


def test_a_very_long_question_is_read_with_what_is_left_of_a_block(interview: Interview) -> None:
    question = ("why did he say so about the new law " * 60)[:MAX_QUESTION].strip()
    block = make_block(interview.transcript, interview.index.sentences, 100, 104)
    assert 0 < len(CrossEncoder().read(question, [block])) <= 5
    assert 0 <= interview.ask(question).confidence <= 1


def test_confidence_needs_nothing_that_may_answer_among_what_was_read(interview: Interview) -> None:
    class Nothing(CrossEncoder):
        def read(self, question: str, blocks: Sequence[Block]) -> dict[int, Judged]:  # noqa: ARG002
            return {0: Judged(logit=-9.0, start=0, end=1, probability=0.0)}

    index = interview.index
    assert index.transcript.turns[index.sentences[0].turn_id].role == "interviewer"
    question = contextualise("Who was not invited?", (), interview.transcript, interview.encoder)
    evidence = TrainedReader(Nothing()).evidence(question, index, match(index, question))
    assert np.isfinite(evidence.features).all()


@pytest.mark.parametrize(
    ("wanted", "n", "count", "runs"),
    [
        ([7, 6, 20], 21, 3, [(5, 9), (16, 20)]),
        ([7, 6, 20], 21, 1, [(5, 9)]),
        ([9, 7], 21, 3, [(7, 11), (5, 9)]),  # 7 stands at an edge there: it needs what is before it
        ([0, 1], 2, 3, [(0, 1)]),
        ([2, 0], 3, 3, [(0, 2)]),
    ],
)
def test_blocks_hold_what_is_wanted_with_its_neighbours(
    wanted: list[int], n: int, count: int, runs: list[tuple[int, int]]
) -> None:
    assert blocks_around(wanted, n, count) == runs


def test_a_block_says_who_speaks_and_where_each_sentence_stands(dialogue: Transcript) -> None:
    sentences = split_sentences(dialogue)
    block = make_block(dialogue, sentences, 0, len(sentences) - 1)
    words = [dialogue.words(s.start, s.end) for s in sentences]
    assert [block.text[a:b] for a, b in block.spans] == words
    for turn in dialogue.turns:
        first = next(i for i, s in enumerate(sentences) if s.turn_id == turn.turn_id)
        assert block.text[: block.spans[first][0]].endswith(f"{turn.speaker}: ")


def test_what_is_not_read_again_counts_as_the_least_of_what_is(interview: Interview) -> None:
    index = interview.index
    question = contextualise("Who was not invited?", (), interview.transcript, interview.encoder)
    evidence = TrainedReader().evidence(question, index, match(index, question))
    assert 15 <= len(evidence.judged) <= 5 * BLOCKS
    unread = np.setdiff1d(np.arange(len(index.sentences)), list(evidence.judged))
    assert set(evidence.cross[unread].tolist()) == {evidence.cross.min()}
    for sentence, judged in evidence.judged.items():
        assert evidence.cross[sentence] == pytest.approx(judged.logit)


def test_two_stages_weigh_as_much_as_they_are_told() -> None:
    evidence = Evidence(
        late=np.array([1, 2], dtype=np.float32),
        cross=np.array([3, -1], dtype=np.float32),
        who=np.array([0, -1], dtype=np.float32),
        judged={},
        features=np.zeros(3, dtype=np.float32),
    )
    assert weighed(evidence, 1).tolist() == [4, 0]
    assert weighed(evidence, 3).tolist() == [5, -1.5]


def test_late_scores_follow_their_formula(interview: Interview) -> None:
    index, heads = interview.index, late_heads()
    question = contextualise("Who was not invited?", (), interview.transcript, interview.encoder)
    matches = match(index, question)
    found = late_scores(matches.views[0], index.tokens.means(matches.candidates), heads)
    tokens = question.encoded.tokens
    weight = np.log1p(np.exp(tokens @ heads["weight"] + heads["weight_0"]))
    for i in (0, 17, 264):
        sentence = index.tokens.of(i)
        late = (weight * (tokens @ sentence.T).max(axis=1)).sum() / weight.sum()
        cosine = question.encoded.vector @ index.vectors.rows()[i]
        expected = np.exp(heads["scale"]) * (
            late + heads["dense"] * cosine + sentence.mean(axis=0) @ heads["prior"]
        )
        assert found[i] == pytest.approx(expected, abs=1e-2)


def test_tokens_of_earlier_questions_count_less() -> None:
    rng = np.random.default_rng(1)
    heads = {"weight": np.zeros(8), "weight_0": 0.0, "history": -2.0, "scale": 0.0, "dense": 0.0}
    heads["prior"] = np.zeros(8)
    similarities = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)

    def scores(*is_earlier: bool) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
        class Encoded:
            tokens = rng.standard_normal((2, 8)) * 0

        view = View(
            encoded=Encoded(),  # type: ignore[arg-type]
            is_earlier=np.array(is_earlier),
            cosines=np.zeros(2, dtype=np.float32),
            similarities=similarities,
        )
        return late_scores(view, np.zeros((2, 8), dtype=np.float32), heads)

    assert scores(False, False).tolist() == pytest.approx([0.5, 0.5])
    earlier = scores(True, False)
    assert earlier[0] == pytest.approx(np.exp(-2) / (1 + np.exp(-2)))
    assert earlier[1] > earlier[0]


def test_the_adapter_adds_the_product_of_its_factors() -> None:
    a, b = np.ones((3, 1), dtype=np.float32), np.arange(4, dtype=np.float32)[None]
    adapter = Adapter(
        tensors={"encoder.m.a": a, "encoder.m.b": b, "encoder.v": np.ones(3, dtype=np.float32)}, metadata={}
    )
    published = {
        "m": np.full((3, 4), 10, dtype=np.float32),
        "v": np.zeros(3, dtype=np.float32),
        "same": np.zeros(1, dtype=np.float32),
    }
    changed = adapter.applied("encoder.", published)
    assert set(changed) == {"m", "v"}
    assert changed["m"][0].tolist() == [10, 11, 12, 13]
    assert changed["v"].tolist() == [1, 1, 1]


def test_weights_know_every_recipe_that_made_them(tmp_path: Path) -> None:
    tensors = {"head.bias": torch.zeros(3)}
    write(tmp_path / "0", tensors, {"recipe": {"stages": [{"lr": 1}], "history": "set by hand"}})
    assert stages(None, {"lr": 3}) == {"lr": 3}
    assert stages(tmp_path / "0", {"lr": 3}) == {"stages": [{"lr": 1}, {"history": "set by hand"}, {"lr": 3}]}
    write(tmp_path / "1", tensors, {"recipe": {"lr": 2}})
    assert stages(tmp_path / "1", {"lr": 3}) == {"stages": [{"lr": 2}, {"lr": 3}]}


def test_low_rank_differences_are_stored_and_come_back() -> None:
    generator = torch.Generator().manual_seed(0)
    base = {"w": torch.randn(6, 5, generator=generator), "b": torch.zeros(6)}
    change = torch.outer(torch.arange(6.0), torch.arange(5.0))
    packed = pack({"w": base["w"] + change, "b": torch.ones(6)}, base, rank=1)
    assert {name: tuple(t.shape) for name, t in packed.items()} == {"w.a": (6, 1), "w.b": (1, 5), "b": (6,)}
    torch.testing.assert_close(unpack(packed, base)["w"], base["w"] + change, atol=0.05, rtol=0)


def test_the_encoder_is_the_published_one_with_the_adapter_merged() -> None:
    trained, published = Encoder(), Encoder(PUBLISHED)
    assert trained.name == DEFAULT_ENCODER
    assert trained.fingerprint != published.fingerprint
    weights = published_weights(published.folder, "")
    name = "encoder.layer.5.intermediate.dense.weight"
    adapter = shipped_adapter().tensors
    merged = trained.model.state_dict()[f"0.model.{name}"].numpy()
    np.testing.assert_allclose(merged, weights[name] + adapter[f"{name}.a"] @ adapter[f"{name}.b"], atol=1e-6)
    untouched = "embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(
        trained.model.state_dict()[f"0.model.{untouched}"].numpy(), weights[untouched]
    )


@pytest.mark.parametrize(
    ("start", "end", "words"), [(6, 14, "geopolitics"), (0, 3, "the"), (4, 15, "geopolitics"), (16, 17, "of")]
)
def test_a_short_answer_is_made_of_whole_words(start: int, end: int, words: str) -> None:
    text = "the geopolitics of it"
    assert text[slice(*whole_words(text, start, end))] == words


def test_confidence_looks_at_those_who_may_answer(interview: Interview) -> None:
    asked = interview.ask("Can Russia mediate the settlement of this conflict?")
    about = interview.ask("What does the interviewer ask about Russia mediating this conflict?")
    roles = {interview.transcript.turn_at(q.start).role for q in asked.quotes}
    assert roles == {"interviewee"}
    assert {interview.transcript.turn_at(q.start).role for q in about.quotes} == {"interviewer"}
