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
EARLIER = 0.4
"""What a token of an earlier question counts beside one of the question itself."""


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
    `cosines (n,)`, of the question's vector and each chunk's; `similarities (q, n)`, for each token
    of the question and each candidate sentence the most similar token."""

    candidates: NDArray[np.int64]
    chunk_scores: Floats
    cosines: Floats
    similarities: Floats


def match(index: Index, question: Question, weights: Weights = WEIGHTS) -> Matches:
    """Score the chunks and compare the question with the sentences, token by token."""
    n = len(index.sentences)
    bm25 = index.lexical.scores(question.text_in_context)
    candidates = np.arange(n)
    ids, found = index.vectors.search(question.encoded.vector, n if n <= SCORE_ALL_UP_TO else CANDIDATES)
    cosines = np.full(n, found[-1], dtype=np.float32)
    cosines[ids] = found
    if n > SCORE_ALL_UP_TO:
        best = np.union1d(ids, np.argsort(-bm25, kind="stable")[:CANDIDATES])
        around = np.concatenate([best - 1, best, best + 1])
        candidates = np.unique(around[(around >= 0) & (around < n)])
    similarities = index.tokens.similarities(
        question.encoded.tokens, None if len(candidates) == n else candidates
    )
    counts = np.where(question.is_earlier, EARLIER, 1.0).astype(np.float32)
    late = counts @ _best_in_chunk(index.chunks, candidates, similarities) / counts.sum()
    fused = (
        weights.bm25 * _standardised(bm25[candidates])
        + weights.dense * _standardised(cosines[candidates])
        + weights.late * _standardised(late)
    )
    return Matches(
        candidates=candidates, chunk_scores=fused, cosines=cosines[candidates], similarities=similarities
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


def _best_in_chunk(chunks: tuple[Chunk, ...], candidates: NDArray[np.int64], similarities: Floats) -> Floats:
    """For each token of the question the most similar token in any sentence of the chunk, `(q, n)`."""
    best = similarities.copy()
    turns = np.array([chunks[int(i)].turn_id for i in candidates])
    are_neighbours = (np.diff(candidates) == 1) & (np.diff(turns) == 0)
    best[:, :-1] = np.maximum(best[:, :-1], np.where(are_neighbours, similarities[:, 1:], -1.0))
    best[:, 1:] = np.maximum(best[:, 1:], np.where(are_neighbours, similarities[:, :-1], -1.0))
    return best


def _standardised(scores: Floats) -> Floats:
    return np.asarray((scores - scores.mean()) / (scores.std() + 1e-6), dtype=np.float32)
