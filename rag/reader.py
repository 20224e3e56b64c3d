"""Reading: which sentence answers, and how surely any does.

A reader orders the candidate sentences and gives the probability that the transcript answers at
all. `LateReader` does so by plain late interaction, for any encoder; the reader that ships with the
program is in `rag.trained`, those that a user brings are in `rag.models`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Protocol

import numpy as np

from index.encoder import Floats
from index.lexical import stems
from index.store import Index
from rag.question import Question
from rag.replies import Quote
from rag.retrieval import PROXIMITY, Matches, standardised

CALIBRATION = "calibration.json"
SCALE = 25.0
"""From a mean cosine to a logit: about what training finds for the shipped reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """`scores (n,)`, how well each candidate of the matches answers, as logits; `confidence`, the probability
    that one of them does; `short_answers`, by sentence, the part of it that answers by itself."""

    scores: Floats
    confidence: float
    short_answers: dict[int, Quote] = field(default_factory=dict)


class Reader(Protocol):
    """Anything that can order sentences by whether they answer."""

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:
        """Score the candidate sentences of `matches` for `question`."""


class LateReader:
    """Late interaction over sentences; confidence by a logistic model of what the scores look like.

    The model's weights stand in `rag/data/calibration.json` with how they were fitted.
    """

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:
        """Order the candidates by the mean similarity of the question's tokens to theirs."""
        scores = combined([view.late(view.similarities) for view in matches.views], matches)
        return Reading(scores=SCALE * scores, confidence=self._confidence(question, index, matches, scores))

    @cached_property
    def _calibration(self) -> tuple[Floats, float]:
        model = json.loads((resources.files("rag") / "data" / CALIBRATION).read_text(encoding="utf-8"))
        return np.array([model["weights"][name] for name in FEATURES], dtype=np.float32), model["bias"]

    def _confidence(self, question: Question, index: Index, matches: Matches, scores: Floats) -> float:
        weights, bias = self._calibration
        logit = float(weights @ features(question, index, matches, scores)) + bias
        return 1 / (1 + float(np.exp(-np.clip(logit, -30, 30))))


def combined(scores: Sequence[Floats], matches: Matches) -> Floats:
    """The views' scores of the candidates as one, `(n,)`, on the scale of the first view's."""
    first, *others = scores
    if not others or matches.near_previous is None:
        return first
    spread = float(first.std())
    both = standardised(first) + sum(standardised(other) for other in others)
    return np.asarray(
        first.mean() + spread * (both + PROXIMITY * matches.near_previous) / len(scores), dtype=np.float32
    )


FEATURES = ("best", "margin", "least", "coverage", "dense")


def features(question: Question, index: Index, matches: Matches, scores: Floats) -> Floats:
    """What confidence is judged by, `(5,)`, in the order of `FEATURES`.

    The best sentence's score; how far it stands above the tenth; the similarity of the question's
    token that the best chunk matches least; the share of the question's stems that the best
    sentence's surroundings hold; the best chunk's score among all.
    """
    order = np.argsort(-scores, kind="stable")
    best = int(order[0])
    tenth = scores[order[min(9, len(order) - 1)]]
    around = matches.views[0].similarities[:, max(0, best - 1) : best + 2].max(axis=1)
    asked = set(stems(question.text_in_context))
    chunk = index.chunks[int(matches.candidates[best])]
    held = set(stems(index.transcript.text[chunk.start : chunk.end]))
    coverage = len(asked & held) / len(asked) if asked else 0.0
    return np.array(
        [
            scores[best],
            scores[best] - tenth,
            np.sort(around)[: max(1, len(around) // 4)].mean(),
            coverage,
            matches.chunk_scores[best] / 10,
        ],
        dtype=np.float32,
    )
