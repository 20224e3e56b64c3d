"""Late interaction: a question's tokens against every sentence's tokens.

The score of ColBERT (arXiv:2004.12832): for each token of the question the most similar token of
the sentence, over embeddings of tokens in their context.
"""

import numpy as np
from numpy.typing import NDArray

from index.encoder import Floats

BLOCK = 200_000
"""How many token rows are compared at once: 200,000 × 384 floats are some 300 MB."""


class TokenIndex:
    """Token embeddings `(t, d)` of sentences, those of sentence `i` at `starts[i]:starts[i + 1]`, and
    `spots (t, 2)`, where each stands in its sentence (see `EncodedWindows`).

    Held as half floats, which is what is on disk; a short transcript's are widened once.
    """

    def __init__(
        self, tokens: NDArray[np.float16], starts: NDArray[np.int64], spots: NDArray[np.int32]
    ) -> None:
        if len(starts) < 1 or starts[0] != 0 or starts[-1] != len(tokens) or not np.all(np.diff(starts) > 0):
            raise ValueError("every sentence needs at least one token")
        if spots.shape != (len(tokens), 2):
            raise ValueError(f"{len(tokens)} tokens need as many spots, not {spots.shape}")
        self.tokens = tokens
        self.starts = starts
        self.spots = spots
        self._means: Floats | None = None
        self._wide: Floats | None = tokens.astype(np.float32) if len(tokens) <= BLOCK else None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, sentence: int) -> Floats:
        """The token embeddings of one sentence, `(t, d)`."""
        return self.tokens[self.starts[sentence] : self.starts[sentence + 1]].astype(np.float32)

    def spots_of(self, sentence: int) -> NDArray[np.int32]:
        """Where the tokens of one sentence stand in its folded words, `(t, 2)`."""
        return self.spots[self.starts[sentence] : self.starts[sentence + 1]]

    def means(self, sentences: NDArray[np.int64]) -> Floats:
        """The mean token embedding of each of the sentences, `(n, d)`."""
        if self._wide is None:
            return np.stack([self.of(int(s)).mean(axis=0) for s in sentences])
        if self._means is None:
            sums = np.add.reduceat(self._wide, self.starts[:-1], axis=0)
            self._means = np.asarray(sums / np.diff(self.starts)[:, None], dtype=np.float32)
        return np.asarray(self._means[sentences])

    def similarities(self, question: Floats, sentences: NDArray[np.int64] | None = None) -> Floats:
        """`(q, n)`: for question tokens `(q, d)`, the greatest inner product with a token of each
        sentence, of all `n` or of those given."""
        if sentences is None and self._wide is not None:
            return np.maximum.reduceat(question @ self._wide.T, self.starts[:-1], axis=1)
        chosen = np.arange(len(self)) if sentences is None else sentences
        found = np.empty((len(question), len(chosen)), dtype=np.float32)
        lengths = self.starts[chosen + 1] - self.starts[chosen]
        ends = np.cumsum(lengths)
        first = 0
        while first < len(chosen):
            base = ends[first] - lengths[first]
            last = max(first + 1, int(np.searchsorted(ends, base + BLOCK, side="right")))
            rows = np.concatenate(
                [self.tokens[self.starts[s] : self.starts[s + 1]] for s in chosen[first:last]]
            )
            cuts = np.concatenate([[0], np.cumsum(lengths[first:last])[:-1]])
            found[:, first:last] = np.maximum.reduceat(question @ rows.astype(np.float32).T, cuts, axis=1)
            first = last
        return found
