"""The lexical index: BM25 over stemmed words (bm25s, PyStemmer).

Speech comes in short pieces, so length normalisation is nearly off (b = 0.1), which measured
better than the usual 0.75 on every conversational set that was tried.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import Stemmer
from numpy.typing import NDArray

K1 = 1.5
B = 0.1
STOP_WORDS = """
    a about am an and are as at be been being but by can could did do does doing for from had has have
    having he her hers him his how i if in into is it its may me might mr mrs ms my no nor not of on or
    our ours said say says shall she should so some such tell than that the their theirs them then there
    these they this those to was we were what when where which who whom whose why will with would you
    your yours
""".split()  # noqa: SIM905 (a list of words reads best as words)


@functools.cache
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


def stems(text: str) -> list[str]:
    """The stems of a text's content words, in order; stop words and single letters left out.

    >>> stems("Who was not invited to the summits?")
    ['invit', 'summit']
    """
    tokens = bm25s.tokenize(
        [text.replace("’", "'")],
        stopwords=STOP_WORDS,
        stemmer=_stemmer(),
        return_ids=False,
        show_progress=False,
    )
    return list(tokens[0])


class LexicalIndex:
    """BM25 scores of texts for a question."""

    def __init__(self, bm25: bm25s.BM25 | None, size: int) -> None:
        self._bm25 = bm25
        self._size = size

    @classmethod
    def build(cls, texts: Sequence[str]) -> "LexicalIndex":
        """Index `texts`, whose positions are the ids; texts without a word are allowed."""
        tokens = [stems(text) for text in texts]
        if not any(tokens):
            return cls(None, len(texts))
        bm25 = bm25s.BM25(k1=K1, b=B)
        bm25.index(tokens, show_progress=False)
        return cls(bm25, len(texts))

    def scores(self, question: str) -> NDArray[np.float32]:
        """BM25 of every text, `(n,)`, zero where no word is shared."""
        known = [stem for stem in stems(question) if self._bm25 and stem in self._bm25.vocab_dict]
        if self._bm25 is None or not known:
            return np.zeros(self._size, dtype=np.float32)
        return np.asarray(self._bm25.get_scores(known), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write plain files (arrays and JSON) into `folder`."""
        folder.mkdir()
        if self._bm25:
            self._bm25.save(str(folder), show_progress=False)

    @classmethod
    def load(cls, folder: Path, size: int) -> "LexicalIndex":
        """Read what `save` wrote for `size` texts."""
        if not (folder / "params.index.json").exists():
            return cls(None, size)
        return cls(bm25s.BM25.load(str(folder), show_progress=False), size)
