"""Retrieval: which passages speak of what is asked.

Three scores of every chunk, brought to one scale by their mean and standard deviation and added:
BM25, the vectors' inner product, and late interaction. On a transcript of ordinary length every
chunk is scored; on a very long one the best by BM25 and by vectors are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.chunks import Chunk
from index.encoder import EncodedQuestion, Floats
from index.store import Index
from rag.question import Question
from rag.replies import Hit

SCORE_ALL_UP_TO = 5_000
"""Sentences; a day of speech. Above it late interaction sees the candidates only."""
CANDIDATES = 500
EARLIER = 0.4
"""What a token of an earlier question counts beside one of the question itself."""
PROXIMITY = 2.0
"""What standing at the previous answer counts for a follow-up, in standard deviations."""
REACH = 8.0
"""Sentences over which that falls to a third."""
FUSED = 0.5
"""What a chunk's score counts beside a reader's logit; chosen on the evaluation set's dev half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What each score counts."""

    bm25: float
    dense: float
    late: float


WEIGHTS = Weights(bm25=0.5, dense=0.5, late=2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One way of putting the question, against the candidates: `cosines (n,)` of its vector and each
    chunk's, and `similarities (q, n)`, for each of its tokens and each candidate sentence the most
    similar token. `is_earlier (q,)` are tokens of earlier questions, which count less."""

    encoded: EncodedQuestion
    is_earlier: NDArray[np.bool_]
    cosines: Floats
    similarities: Floats

    def late(self, similarities: Floats) -> Floats:
        """Late interaction without learned weights, `(n,)`: the mean over the question's tokens of
        `similarities (q, n)`, tokens of earlier questions counting less."""
        counts = np.where(self.is_earlier, EARLIER, 1.0).astype(np.float32)
        return np.asarray(counts @ similarities / counts.sum(), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """`candidates (n,)`, ids of sentences and so of chunks, ascending; `chunk_scores (n,)`.

    `views` holds the question with what it leans on and, for a follow-up, the question alone;
    `near_previous (n,)`, from 0 to 1, is then how close a sentence stands to what answers the
    question before."""

    candidates: NDArray[np.int64]
    chunk_scores: Floats
    views: tuple[View, ...]
    near_previous: Floats | None = None


def match(index: Index, question: Question, weights: Weights = WEIGHTS) -> Matches:
    """Score the chunks and compare the question with the sentences, token by token."""
    n = len(index.sentences)
    bm25 = index.lexical.scores(question.text_in_context)
    candidates = np.arange(n)
    if n > SCORE_ALL_UP_TO:
        ids, _ = index.vectors.search(question.encoded.vector, CANDIDATES)
        best = np.union1d(ids, np.argsort(-bm25, kind="stable")[:CANDIDATES])
        around = np.concatenate([best - 1, best, best + 1])
        candidates = np.unique(around[(around >= 0) & (around < n)])
    view = _view(index, question.encoded, candidates, question.is_earlier)
    scores = _fused(index, view, bm25, candidates, weights)
    if question.alone is None or question.previous is None:
        return Matches(candidates=candidates, chunk_scores=scores, views=(view,))
    alone = _view(index, question.alone, candidates)
    scores += _fused(index, alone, index.lexical.scores(question.text), candidates, weights)
    near = _near_previous(index, question.earlier[-1], question.previous, candidates, weights)
    return Matches(
        candidates=candidates,
        chunk_scores=np.asarray(scores + PROXIMITY * scores.std() * near, dtype=np.float32),
        views=(view, alone),
        near_previous=near,
    )


def _near_previous(
    index: Index, before: str, encoded: EncodedQuestion, candidates: NDArray[np.int64], weights: Weights
) -> Floats:
    """How close each candidate stands to the best one for the question before, from 0 to 1."""
    view = _view(index, encoded, candidates)
    scores = _fused(index, view, index.lexical.scores(before), candidates, weights)
    turns = index.transcript.turns
    asked = [turns[index.chunks[int(i)].turn_id].role == "interviewer" for i in candidates]
    place = candidates[int(np.argmax(np.where(asked, -np.inf, scores)))]
    return np.asarray(np.exp(-np.abs(candidates - place) / REACH), dtype=np.float32)


def _view(
    index: Index,
    encoded: EncodedQuestion,
    candidates: NDArray[np.int64],
    is_earlier: NDArray[np.bool_] | None = None,
) -> View:
    n = len(index.sentences)
    ids, found = index.vectors.search(encoded.vector, n if n <= SCORE_ALL_UP_TO else CANDIDATES)
    cosines = np.full(n, found[-1], dtype=np.float32)
    cosines[ids] = found
    chosen = None if len(candidates) == n else candidates
    return View(
        encoded=encoded,
        is_earlier=np.zeros(len(encoded.tokens), dtype=bool) if is_earlier is None else is_earlier,
        cosines=cosines[candidates],
        similarities=index.tokens.similarities(encoded.tokens, chosen),
    )


def _fused(index: Index, view: View, bm25: Floats, candidates: NDArray[np.int64], weights: Weights) -> Floats:
    """The chunks' scores for one view, `(n,)`."""
    late = view.late(_in_chunk(index.chunks, candidates, view.similarities, np.maximum, -1.0))
    return np.asarray(
        weights.bm25 * standardised(bm25[candidates])
        + weights.dense * standardised(view.cosines)
        + weights.late * standardised(late),
        dtype=np.float32,
    )


def best_hits(
    index: Index, question: Question, matches: Matches, k: int, read: Floats | None = None
) -> tuple[Hit, ...]:
    """The `k` best chunks, best first, ties by position: by the chunks' scores or, where a reader has
    given each candidate a logit `read (n,)`, by `FUSED` of those and the logit that any sentence of
    the chunk answers.

    A chunk whose middle sentence stands in a better one comes after all that say something new, so
    that the first few hits are different places. So do the words of whoever is not asked about: the
    interviewer's repeat what is asked, and answer only questions about the interviewer.
    """
    scores = matches.chunk_scores
    if read is not None:
        scores = FUSED * scores + _in_chunk(index.chunks, matches.candidates, read, np.logaddexp, -np.inf)
    order = np.argsort(-scores, kind="stable")
    new: list[int] = []
    repeated: list[int] = []
    seen: set[int] = set()
    for place in order:
        i = int(matches.candidates[place])
        turn_id = index.chunks[i].turn_id
        is_asked = not question.may_be_answered_by(index.transcript.turns[turn_id].role)
        (repeated if i in seen or is_asked else new).append(int(place))
        if i not in seen and not is_asked:
            seen.update(
                j
                for j in (i - 1, i, i + 1)
                if 0 <= j < len(index.chunks) and index.chunks[j].turn_id == turn_id
            )
        if len(new) == k:
            break
    return tuple(
        Hit(chunk=index.chunks[int(matches.candidates[place])], score=float(scores[place]))
        for place in (new + repeated)[:k]
    )


def _in_chunk(
    chunks: tuple[Chunk, ...],
    candidates: NDArray[np.int64],
    scores: Floats,
    together: Callable[[Floats, Floats], Floats],
    nothing: float,
) -> Floats:
    """Scores of candidate sentences `(..., n)`, put together with those of their neighbours in the
    chunk; `nothing` stands where there is no neighbour."""
    turns = np.array([chunks[int(i)].turn_id for i in candidates])
    are_neighbours = (np.diff(candidates) == 1) & (np.diff(turns) == 0)
    all_three = scores.copy()
    all_three[..., :-1] = together(all_three[..., :-1], np.where(are_neighbours, scores[..., 1:], nothing))
    all_three[..., 1:] = together(all_three[..., 1:], np.where(are_neighbours, scores[..., :-1], nothing))
    return all_three


def standardised(scores: Floats) -> Floats:
    """Scores with mean 0 and standard deviation 1."""
    return np.asarray((scores - scores.mean()) / (scores.std() + 1e-6), dtype=np.float32)
