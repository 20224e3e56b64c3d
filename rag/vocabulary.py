"""A question's words beside the transcript's: misspelt ones are mended, unsaid ones known."""

import difflib
import re
from collections.abc import Callable
from functools import lru_cache

from index.lexical import stems
from index.transcript import Transcript

SHORTEST = 4
"""Words of fewer letters resemble too many others."""
ALIKE = 0.83
"""How much of two words must agree (difflib's ratio): one letter wrong in six, two in twelve."""

MOST_UNSAID = 8
"""How many unsaid words of a question are told."""

_WORD = re.compile(r"[^\W\d_]+")
_WHOLE = re.compile(r"(?<!['’])\b\w\w+\b(?!['’]t\b)")
"""A word, and no part of a contraction."""


def corrected(text: str, transcript: Transcript, is_word: Callable[[str], bool]) -> str:
    """The question with every misspelt word as the transcript spells it.

    A word is taken for misspelt where `is_word` does not know it and the transcript holds neither it
    nor another form of it (one with the same stem). It stays as it is unless a word of the
    transcript begins with the same letter and is `ALIKE`.

    >>> from index.transcript import parse_transcript
    >>> transcript = parse_transcript("Tom Reed: UNESCO met before the summit.", "t.txt")
    >>> corrected("Who leads UNECSO, and who the sumit?", transcript, "who".__eq__)
    'Who leads UNESCO, and who the summit?'
    """
    vocabulary, said = _vocabulary(transcript), stems_said(transcript)

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        folded = word.casefold()
        if len(word) < SHORTEST or is_word(folded) or set(_stems(word)) <= said:
            return word
        near = vocabulary.get(folded[0], {})
        likely = [known for known in near if abs(len(known) - len(folded)) <= 2]
        found = difflib.get_close_matches(folded, likely, n=1, cutoff=ALIKE)
        return near[found[0]] if found else word

    return _WORD.sub(replace, text)


def never_said(text: str, transcript: Transcript) -> tuple[str, ...]:
    """The content words of a text of which the transcript holds no form, its speakers' names included,
    in order, the first `MOST_UNSAID`.

    >>> from index.transcript import parse_transcript
    >>> transcript = parse_transcript("Tom Reed: We met before the summit.", "t.txt")
    >>> never_said("Didn't Reed say in 1999 whom he was meeting at the summits?", transcript)
    ('1999', 'meeting')
    """
    said = stems_said(transcript)
    words = {stemmed: word for word in reversed(_WHOLE.findall(text)) if (stemmed := _stems(word))}
    unsaid = [word for stemmed, word in reversed(words.items()) if not set(stemmed) <= said]
    return tuple(unsaid[:MOST_UNSAID])


@lru_cache(maxsize=8)
def stems_said(transcript: Transcript) -> frozenset[str]:
    """Every stem of a transcript and of its speakers' names, found once."""
    return frozenset(stems(_all_of(transcript)))


@lru_cache(maxsize=4096)
def _stems(word: str) -> tuple[str, ...]:
    return tuple(stems(word))


@lru_cache(maxsize=8)
def _vocabulary(transcript: Transcript) -> dict[str, dict[str, str]]:
    """A transcript's words by their first letter, folded and as first written."""
    words: dict[str, dict[str, str]] = {}
    for word in _WORD.findall(_all_of(transcript)):
        if len(word) >= SHORTEST:
            words.setdefault(word.casefold()[0], {}).setdefault(word.casefold(), word)
    return words


def _all_of(transcript: Transcript) -> str:
    return "\n".join((transcript.text, *dict.fromkeys(turn.speaker for turn in transcript.turns)))
