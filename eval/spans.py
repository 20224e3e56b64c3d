"""Spans of a transcript, and where a quotation stands in it.

Gold evidence is held as spans of the text, never as numbers of chunks or sentences, so that the
evaluation survives any change of how the text is cut.
"""

import difflib
from itertools import pairwise
from typing import NamedTuple

from index.sentences import split_sentences
from index.transcript import Transcript, fold


class Span(NamedTuple):
    """Half-open `[start, end)` in code points of the transcript's text."""

    start: int
    end: int


def overlap(a: Span, b: Span) -> int:
    """How many code points two spans share."""
    return max(0, min(a.end, b.end) - max(a.start, b.start))


def meets(a: Span, b: Span) -> bool:
    """Whether two spans are about the same words: they share at least half of the shorter.

    >>> meets(Span(0, 100), Span(90, 120)), meets(Span(0, 100), Span(40, 60))
    (False, True)
    """
    return 2 * overlap(a, b) >= min(a.end - a.start, b.end - b.start)


class QuoteFinder:
    """Finds quotations in a transcript after folding, and says which spans of the raw text they are."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._turns = [_aligned(transcript.text, t.start, t.end) for t in transcript.turns]
        self._sentences: list[str] | None = None

    def find(self, quote: str) -> tuple[Span, ...]:
        """Every place where the quotation stands inside one turn, in order; none if it is blank."""
        wanted = fold(quote)
        found = []
        for words, places in self._turns if wanted else ():
            at = words.find(wanted)
            while at >= 0:
                found.append(Span(places[at], places[at + len(wanted) - 1] + 1))
                at = words.find(wanted, at + 1)
        return tuple(found)

    def nearest(self, quote: str) -> str:
        """The sentence, or two neighbours, that the quotation resembles most."""
        wanted = fold(quote)
        if self._sentences is None:
            cuts = split_sentences(self._transcript)
            self._sentences = [self._transcript.words(s.start, s.end) for s in cuts]
            self._sentences += [
                self._transcript.words(a.start, b.end) for a, b in pairwise(cuts) if a.turn_id == b.turn_id
            ]
        words = set(wanted.lower().split())
        likely = sorted(
            self._sentences, key=lambda s: -len(words & set(s.lower().split())) / (len(s) + 40) ** 0.5
        )
        matcher = difflib.SequenceMatcher(autojunk=False)
        matcher.set_seq2(wanted)

        def resemblance(sentence: str) -> float:
            matcher.set_seq1(sentence)
            return matcher.ratio()

        return max(likely[:20], key=resemblance, default="")


def _aligned(text: str, start: int, end: int) -> tuple[str, list[int]]:
    """A stretch of text folded, and for each folded character its place in the text.

    Folding only leaves characters out or writes a space for white space, so the folded text is a
    subsequence of the raw one, and taking the first match each time aligns the two.
    """
    words = fold(text[start:end])
    places = []
    at = start
    for character in words:
        while not (text[at].isspace() if character == " " else text[at] == character):
            at += 1
        places.append(at)
        at += 1
    return words, places
