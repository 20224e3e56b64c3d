"""The reader that ships: its arithmetic equals its reference, and its weights are the ones that ship."""

import numpy as np
import pytest
import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from index.adapter import Adapter, published_weights, shipped_adapter
from index.encoder import DEFAULT_ENCODER, PUBLISHED, Encoder
from rag.pipeline import Interview
from rag.question import contextualise
from rag.reader import whole_words
from rag.retrieval import View, match
from rag.trained import late_scores, shipped_weights, transformer_layer


def test_the_transformer_layer_equals_the_librarys() -> None:
    torch.manual_seed(5)
    config = BertConfig(hidden_size=384, num_attention_heads=12, intermediate_size=1536)
    layer = BertLayer(config).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    hidden = torch.randn(3, 9, 384)
    is_there = torch.ones(3, 9, dtype=torch.bool)
    is_there[1, 6:] = False
    mask = torch.where(is_there, 0.0, torch.finfo(torch.float32).min)[:, None, None, :]
    with torch.inference_mode():
        out = layer(hidden, mask)
    expected = (out[0] if isinstance(out, tuple) else out).numpy()
    weights = {name: w.numpy() for name, w in layer.state_dict().items()}
    found = transformer_layer(weights, hidden.numpy(), is_there.numpy())
    np.testing.assert_allclose(found[is_there.numpy()], expected[is_there.numpy()], atol=2e-4)


def test_late_scores_follow_their_formula(interview: Interview) -> None:
    index, heads = interview.index, shipped_weights().heads
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
