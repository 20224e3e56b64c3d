"""Misspelt words of a question, read as the transcript's words that they resemble."""

import difflib
import re
from collections.abc import Callable
from functools import lru_cache

from index.lexical import stems

SHORTEST = 4
"""Words of fewer letters resemble too many others."""
ALIKE = 0.83
"""How much of two words must agree (difflib's ratio): one letter wrong in six, two in twelve."""

_WORD = re.compile(r"[^\W\d_]+")


def corrected(text: str, transcript: str, is_word: Callable[[str], bool]) -> str:
    """The question with every misspelt word as the transcript spells it.

    A word is taken for misspelt where `is_word` does not know it and the transcript holds neither it
    nor another form of it (one with the same stem). It stays as it is unless a word of the
    transcript begins with the same letter and is `ALIKE`.

    >>> corrected("Who leads UNECSO, and who the sumit?", "UNESCO met before the summit.", "who".__eq__)
    'Who leads UNESCO, and who the summit?'
    """
    vocabulary, known_stems = _vocabulary(transcript)

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        folded = word.casefold()
        if len(word) < SHORTEST or is_word(folded) or set(stems(folded)) <= known_stems:
            return word
        near = vocabulary.get(folded[0], {})
        likely = [known for known in near if abs(len(known) - len(folded)) <= 2]
        found = difflib.get_close_matches(folded, likely, n=1, cutoff=ALIKE)
        return near[found[0]] if found else word

    return _WORD.sub(replace, text)


@lru_cache(maxsize=8)
def _vocabulary(transcript: str) -> tuple[dict[str, dict[str, str]], frozenset[str]]:
    """A transcript's words by their first letter, folded and as first written; and their stems."""
    words: dict[str, dict[str, str]] = {}
    for word in _WORD.findall(transcript):
        if len(word) >= SHORTEST:
            words.setdefault(word.casefold()[0], {}).setdefault(word.casefold(), word)
    return words, frozenset(stems(transcript))
