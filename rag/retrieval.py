"""Retrieval: which passages speak of what is asked.

Three scores of every chunk, brought to one scale by their mean and standard deviation and added:
BM25, the vectors' inner product, and late interaction. On a transcript of ordinary length every
chunk is scored; on a very long one the best by BM25 and by vectors are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.chunks import Chunk
from index.encoder import Floats
from index.store import Index
from rag.question import Question
from rag.replies import Hit

SCORE_ALL_UP_TO = 5_000
"""Sentences; a day of speech. Above it late interaction sees the candidates only."""
CANDIDATES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What each score counts."""

    bm25: float
    dense: float
    late: float


WEIGHTS = Weights(bm25=0.5, dense=0.5, late=2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """`candidates (n,)`, ids of sentences and so of chunks, ascending; `chunk_scores (n,)`;
    `similarities (q, n)`, for each token of the question and each candidate sentence the most
    similar token, and the same for the question in its context, `(p, n)`, where there is one."""

    candidates: NDArray[np.int64]
    chunk_scores: Floats
    similarities: Floats
    context_similarities: Floats | None


def match(index: Index, question: Question, weights: Weights = WEIGHTS) -> Matches:
    """Score the chunks and compare the question with the sentences, token by token."""
    encoded = question.in_context or question.encoded
    n = len(index.sentences)
    bm25 = index.lexical.scores(question.text_in_context)
    dense = np.full(n, -1.0, dtype=np.float32)
    if n <= SCORE_ALL_UP_TO:
        ids, scores = index.vectors.search(encoded.vector, n)
        dense[ids] = scores
        candidates = np.arange(n)
    else:
        ids, scores = index.vectors.search(encoded.vector, CANDIDATES)
        dense[ids] = scores
        dense[dense == -1.0] = scores[-1]
        best = np.union1d(ids, np.argsort(-bm25, kind="stable")[:CANDIDATES])
        around = np.concatenate([best - 1, best, best + 1])
        candidates = np.unique(around[(around >= 0) & (around < n)])
    chosen = None if len(candidates) == n else candidates
    similarities = index.tokens.similarities(question.encoded.tokens, chosen)
    in_context = None
    if question.in_context:
        in_context = index.tokens.similarities(question.in_context.tokens, chosen)
    late = _late(index.chunks, candidates, similarities)
    if in_context is not None:
        late = late + _late(index.chunks, candidates, in_context)
    fused = (
        weights.bm25 * _standardised(bm25[candidates])
        + weights.dense * _standardised(dense[candidates])
        + weights.late * _standardised(late)
    )
    return Matches(
        candidates=candidates,
        chunk_scores=fused,
        similarities=similarities,
        context_similarities=in_context,
    )


def best_hits(index: Index, question: Question, matches: Matches, k: int) -> tuple[Hit, ...]:
    """The `k` best chunks, best first, ties by position.

    A chunk whose middle sentence stands in a better one comes after all that say something new, so
    that the first few hits are different places; and so do the interviewer's words, which repeat
    what is asked, unless the question is about the interviewer.
    """
    order = np.argsort(-matches.chunk_scores, kind="stable")
    new: list[int] = []
    repeated: list[int] = []
    seen: set[int] = set()
    for place in order:
        i = int(matches.candidates[place])
        turn_id = index.chunks[i].turn_id
        is_asked = index.transcript.turns[turn_id].role == "interviewer" and not question.is_about_interviewer
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
        Hit(chunk=index.chunks[int(matches.candidates[place])], score=float(matches.chunk_scores[place]))
        for place in (new + repeated)[:k]
    )


def _late(chunks: tuple[Chunk, ...], candidates: NDArray[np.int64], similarities: Floats) -> Floats:
    """Mean over the question's tokens of the best in any sentence of the chunk, `(n,)`."""
    best = similarities.copy()
    neighbours = (np.diff(candidates) == 1) & (np.diff([chunks[int(i)].turn_id for i in candidates]) == 0)
    forward = np.where(neighbours, similarities[:, 1:], -np.inf)
    backward = np.where(neighbours, similarities[:, :-1], -np.inf)
    best[:, :-1] = np.maximum(best[:, :-1], forward)
    best[:, 1:] = np.maximum(best[:, 1:], backward)
    return np.asarray(best.mean(axis=0), dtype=np.float32)


def _standardised(scores: Floats) -> Floats:
    return np.asarray((scores - scores.mean()) / (scores.std() + 1e-6), dtype=np.float32)
