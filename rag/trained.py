"""The reader that ships: late interaction with learned weights, and a small last stage.

Late interaction (ColBERT, arXiv:2004.12832) over the token embeddings that the index keeps:

    score(q, s) = scale * (sum_i w_i max_j <q_i, s_j> / sum_i w_i + dense * <q, s> + prior . mean_j s_j)

with unit token embeddings `q_i` of the question and `s_j` of the sentence in its window, their
vectors `q` and `s`, and `w_i = softplus(weight . q_i + weight_0)`, less for earlier questions. "The
interview does not say" scores `null . mean_i q_i + null_0` beside the sentences.

The last stage reads the question and each of the best sentences together: two transformer layers
over those same embeddings, so that nothing is encoded again (deferred interaction, after PreTTR,
arXiv:2004.14255). It judges whether the sentence answers, and marks the short answer in it.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from index.adapter import published_weights, shipped_adapter
from index.encoder import PUBLISHED, Encoder, Floats
from index.store import Index
from rag.question import Question
from rag.reader import Reading, best_span, combined, quote_inside, sigmoid
from rag.replies import Quote
from rag.retrieval import Matches, View

READ = 8
"""How many sentences the last stage reads."""
HEADS = 12
PASSAGE = 0.2
"""What the passage's score counts beside the sentence's."""
LAYERS = (4, 5)
"""The published layers that the last stage's were before training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The heads of late interaction by name, the last stage's tensors, and its layers.

    `share` is what the last stage counts in the order, `confidence` the weights of what confidence is
    judged by; `marks_short_answers` where training found its short answers good enough to be shown.
    """

    heads: dict[str, Any]
    stage: dict[str, Floats]
    layers: tuple[dict[str, Floats], ...]
    share: float
    confidence: Floats
    marks_short_answers: bool


@cache
def shipped_weights() -> Weights:
    """The weights that ship with the program, read once."""
    adapter = shipped_adapter()
    folder = Encoder(PUBLISHED).folder
    layers = []
    for number, source in enumerate(LAYERS):
        layer = published_weights(folder, f"encoder.layer.{source}.")
        layers.append(layer | adapter.applied(f"interaction.layers.{number}.", layer))
    return Weights(
        heads={name: t if t.ndim else float(t) for name, t in adapter.of("reader.").items()},
        stage=adapter.of("interaction."),
        layers=tuple(layers),
        share=float(adapter.metadata["share"]),
        confidence=np.asarray(adapter.metadata["confidence"], dtype=np.float32),
        marks_short_answers=bool(adapter.metadata.get("short_answers", False)),
    )


class TrainedReader:
    """Orders sentences by whether they answer, says how surely any does, and marks short answers."""

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:
        """Score every candidate; the best few are read once more together with the question."""
        weights = shipped_weights()
        heads = weights.heads
        means = index.tokens.means(matches.candidates)
        views = [late_scores(view, means, heads) for view in matches.views]
        late = combined(views, matches)
        turns = index.transcript.turns
        may = [
            question.may_be_answered_by(turns[index.sentences[int(i)].turn_id].role)
            for i in matches.candidates
        ]
        eligible = np.flatnonzero(may) if any(may) else np.arange(len(late))
        null = float(question.encoded.tokens.mean(axis=0) @ heads["null"] + heads["null_0"])
        best = eligible[np.argsort(-late[eligible], kind="stable")[:READ]]
        sentences = [int(matches.candidates[place]) for place in best]
        tokens = [index.tokens.of(sentence) for sentence in sentences]
        read, spans = last_stage(question, tokens, weights)
        evidence = np.sort(late[best] + read)[::-1]
        seen = np.array(
            [
                _log_sum_exp(views[0][eligible]) - null,
                _log_sum_exp(read),
                evidence[0] - evidence[min(1, len(evidence) - 1)],
                1.0,
            ]
        )
        scores = late - null + PASSAGE * matches.chunk_scores
        scores[best] += weights.share * read
        short_answers = {
            sentence: quote
            for sentence, span in zip(sentences, spans, strict=True)
            if weights.marks_short_answers and (quote := self._short_answer(index, sentence, span))
        }
        return Reading(
            scores=np.asarray(scores, dtype=np.float32),
            confidence=sigmoid(float(seen @ weights.confidence)),
            short_answers=short_answers,
        )

    def _short_answer(self, index: Index, sentence: int, logits: Floats) -> Quote | None:
        """The span that the logits `(1 + t, 2)` mark among a sentence's tokens, if there is one."""
        spots = index.tokens.spots_of(sentence)
        words = (0, int(spots.max(initial=0)))
        score, span = best_span(logits[1:, 0], logits[1:, 1], spots, spots[:, 0] >= 0, words)
        if span is None or score <= logits[0].sum():
            return None
        return quote_inside(index, sentence, *span)


def late_scores(view: View, means: Floats, heads: dict[str, Any]) -> Floats:
    """Late interaction's score of every candidate, `(n,)`; `means (n, d)` of their tokens."""
    weight = np.logaddexp(0, view.encoded.tokens @ heads["weight"] + heads["weight_0"])
    weight = np.where(view.is_earlier, weight * np.exp(heads["history"]), weight)
    late = weight @ view.similarities / weight.sum()
    scores = np.exp(heads["scale"]) * (late + heads["dense"] * view.cosines + means @ heads["prior"])
    return np.asarray(scores, dtype=np.float32)


def last_stage(question: Question, tokens: list[Floats], weights: Weights) -> tuple[Floats, list[Floats]]:
    """For each sentence's tokens `(t, d)` the logit that it answers, `(n,)`, and `(1 + t, 2)` logits
    that the short answer begins and ends at a token; place 0 says that there is none."""
    stage = weights.stage
    asked = question.encoded.tokens * stage["gain"] + stage["part"][question.is_earlier.astype(int)]
    longest = max(map(len, tokens))
    hidden = np.zeros((len(tokens), 1 + len(asked) + longest, asked.shape[1]), dtype=np.float32)
    is_there = np.zeros(hidden.shape[:2], dtype=bool)
    hidden[:, 0] = stage["first"]
    hidden[:, 1 : 1 + len(asked)] = asked
    is_there[:, : 1 + len(asked)] = True
    for row, sentence in enumerate(tokens):
        reach = slice(1 + len(asked), 1 + len(asked) + len(sentence))
        hidden[row, reach] = sentence * stage["gain"] + stage["part"][2]
        is_there[row, reach] = True
    for layer in weights.layers:
        hidden = transformer_layer(layer, hidden, is_there)
    answers = hidden[:, 0] @ stage["answer.weight"][0] + stage["answer.bias"]
    places = np.concatenate([hidden[:, :1], hidden[:, 1 + len(asked) :]], axis=1)
    spans = places @ stage["span.weight"].T + stage["span.bias"]
    return np.asarray(answers, dtype=np.float32), [
        spans[row, : 1 + len(sentence)] for row, sentence in enumerate(tokens)
    ]


def transformer_layer(weights: dict[str, Floats], hidden: Floats, is_there: NDArray[np.bool_]) -> Floats:
    """One layer of BERT (arXiv:1810.04805) over `hidden (n, t, d)`; `is_there (n, t)` masks padding."""
    n, t, d = hidden.shape

    def linear(name: str, rows: Floats) -> Floats:
        flat = rows.reshape(n * t, -1) @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return np.asarray(flat.reshape(n, t, -1), dtype=np.float32)

    def heads(name: str) -> Floats:
        return linear(f"attention.self.{name}", hidden).reshape(n, t, HEADS, d // HEADS).transpose(0, 2, 1, 3)

    scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.sqrt(d // HEADS)
    scores = np.where(is_there[:, None, None, :], scores, np.float32(-1e30))
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ heads("value")
    mixed = linear("attention.output.dense", mixed.transpose(0, 2, 1, 3).reshape(n, t, d))
    hidden = _normalised(weights, "attention.output.LayerNorm", hidden + mixed)
    inner = linear("intermediate.dense", hidden)
    inner = inner * np.float32(0.5) * (1 + erf(inner / np.float32(np.sqrt(2))))
    return _normalised(weights, "output.LayerNorm", hidden + linear("output.dense", inner))


def _normalised(weights: dict[str, Floats], name: str, rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return np.asarray(
        centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"], dtype=np.float32
    )


def _log_sum_exp(values: Floats) -> float:
    return float(np.logaddexp.reduce(values.astype(np.float64)))
