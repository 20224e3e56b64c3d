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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index.encoder import Floats
from index.lexical import stems
from index.store import Index
from index.transcript import fold, unfold
from rag.question import Question
from rag.replies import Quote
from rag.retrieval import PROXIMITY, Matches, standardised

CALIBRATION = "calibration.json"
MAX_SHORT_ANSWER = 30
"""Longest short answer, in tokens."""
SCALE = 25.0
"""From a mean cosine to a logit: about what training finds for the shipped reader."""

NAMED = 1.15
"""By how much the odds are greater that the speaker who is named in a question says the answer: the
logarithm of the odds ratio among 579 questions of FriendsQA (57 % of the answers, 30 % of all turns)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """`scores (n,)`, how well each candidate of the matches answers, as logits; `confidence`, the probability
    that one of them does; `short_answers`, by sentence, the surest first, the part of it that answers by
    itself."""

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
        return Reading(
            scores=SCALE * scores + of_speakers(question, index, matches.candidates),
            confidence=self._confidence(question, index, matches, scores),
        )

    @cached_property
    def _calibration(self) -> tuple[Floats, float]:
        model = json.loads((resources.files("rag") / "data" / CALIBRATION).read_text(encoding="utf-8"))
        return np.array([model["weights"][name] for name in FEATURES], dtype=np.float32), model["bias"]

    def _confidence(self, question: Question, index: Index, matches: Matches, scores: Floats) -> float:
        weights, bias = self._calibration
        logit = float(weights @ features(question, index, matches, scores)) + bias
        return sigmoid(logit)


def sigmoid(logit: float) -> float:
    """The probability that a logit stands for."""
    return float(1 / (1 + np.exp(-np.clip(logit, -30, 30))))


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


def of_speakers(question: Question, index: Index, candidates: NDArray[np.int64]) -> Floats:
    """What to add to the candidates' logits for who speaks, `(n,)`: `NAMED` less for everybody but the
    speaker whom the question names, 0 where it names nobody or several."""
    if question.named is None:
        return np.zeros(len(candidates), dtype=np.float32)
    turns = index.transcript.turns
    is_other = [turns[index.sentences[int(i)].turn_id].speaker != question.named for i in candidates]
    return np.asarray(np.where(is_other, -NAMED, 0.0), dtype=np.float32)


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


# Short answers -----------------------------------------------------------------------------


def best_span(
    start: Floats,
    end: Floats,
    offsets: NDArray[np.integer[Any]],
    of_window: NDArray[np.bool_],
    focus: tuple[int, int],
) -> tuple[float, tuple[int, int] | None]:
    """The greatest `start + end` logit of a span inside `focus`, of at most `MAX_SHORT_ANSWER` tokens,
    and the characters it covers; minus infinity and `None` where no token lies inside.

    `start (t,)`, `end (t,)`, `offsets (t, 2)` in characters of the window, `of_window (t,)`.
    """
    inside = (
        of_window
        & (offsets[:, 0] >= focus[0])
        & (offsets[:, 1] <= focus[1])
        & (offsets[:, 0] < offsets[:, 1])
    )
    tokens = np.flatnonzero(inside)
    if not len(tokens):
        return float("-inf"), None
    sums = start[tokens][:, None] + end[tokens][None, :]
    length = np.arange(len(tokens))[None, :] - np.arange(len(tokens))[:, None]
    sums = np.where((length >= 0) & (length < MAX_SHORT_ANSWER), sums, -np.inf)
    first, last = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return float(sums[first, last]), (int(offsets[tokens[first], 0]), int(offsets[tokens[last], 1]))


def quote_inside(index: Index, sentence: int, start: int, end: int) -> Quote | None:
    """The characters `[start, end)` of a sentence's folded words as a quote, grown to whole words;
    `None` where that is the whole sentence, or cannot be told."""
    place = index.sentences[sentence]
    raw = index.transcript.text[place.start : place.end]
    found = unfold(raw, *whole_words(fold(raw), start, end))
    if found is None or found == (0, len(raw)):
        return None
    return Quote(
        transcript_id=index.transcript.transcript_id, start=place.start + found[0], end=place.start + found[1]
    )


def whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """The span grown to the ends of the words that it begins and ends in.

    >>> whole_words("the geopolitics of it", 6, 14)
    (4, 15)
    """
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    return start, end
