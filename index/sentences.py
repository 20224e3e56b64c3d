"""Sentences of a turn, as spans of the transcript.

The rules of splitting are sentencex's (Wikimedia), with one of ours: "no." abbreviates "number"
before a digit only. What is added besides are the layout's: a print's page break inside a sentence
does not end it, a finished paragraph does, and a stretch without any punctuation is cut at
`MAX_SENTENCE` characters, because nobody can use a quote of ten pages.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sentencex import get_sentence_boundaries

from index.transcript import Transcript, Turn

MAX_SENTENCE = 600
"""Longest sentence, in characters; the interview's longest has 436."""

_PARAGRAPH_BREAK = re.compile(r"[^\S\r\n]*(?:\r\n|\r|\n)[^\S\r\n]*(?:(?:\r\n|\r|\n)[^\S\r\n]*)+")
_FINISHED = re.compile(r"[.!?…。！？:;][\"'”’»)\]*_]*$")
_NO_ENDS_HERE = re.compile(r"\b[Nn]o\.\s+(?=[^\W\d_a-z])")
_BLOCK_START = re.compile(r"[-+*>#]\s|\d+[.)]\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence of one turn, without the white space around it."""

    start: int
    end: int
    turn_id: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"empty or negative sentence {self.start}:{self.end}")


def split_sentences(transcript: Transcript) -> tuple[Sentence, ...]:
    """Every sentence of every turn, in order; together they hold every visible character."""
    return tuple(
        Sentence(start=start, end=end, turn_id=turn.turn_id)
        for turn in transcript.turns
        for start, end in _turn_spans(transcript.text, turn)
    )


def _turn_spans(text: str, turn: Turn) -> Iterator[tuple[int, int]]:
    for start, end in _paragraphs(text, turn.start, turn.end):
        # A line break inside a paragraph is a space to the splitter; the length stays the same.
        flow = re.sub(r"\s", " ", text[start:end])
        for boundary in get_sentence_boundaries("en", flow):
            first = boundary["start_index"]
            cuts = [m.end() for m in _NO_ENDS_HERE.finditer(flow, first, boundary["end_index"])]
            for cut in [*cuts, boundary["end_index"]]:
                words = flow[first:cut]
                begin = start + first + len(words) - len(words.lstrip())
                yield from _pieces(text, begin, begin + len(words.strip()))
                first = cut


def _paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of paragraphs, joined where a break falls inside a sentence."""
    begin = start
    for gap in _PARAGRAPH_BREAK.finditer(text, start, end):
        before = text[max(begin, gap.start() - 20) : gap.start()]
        if _FINISHED.search(before) or _BLOCK_START.match(text, gap.end()):
            yield begin, gap.start()
            begin = gap.end()
    yield begin, end


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut what is longer than `MAX_SENTENCE` at its last comma, else space, before the limit."""
    while end - start > MAX_SENTENCE:
        window = text[start : start + MAX_SENTENCE]
        cuts = [m.end() for m in re.finditer(r"[,;:–—]\s|\s", window)]
        commas = [m.end() for m in re.finditer(r"[,;:–—]\s", window[MAX_SENTENCE // 2 :])]
        cut = commas[-1] + MAX_SENTENCE // 2 if commas else cuts[-1] if cuts else MAX_SENTENCE
        piece = text[start : start + cut].rstrip()
        if piece:
            yield start, start + len(piece)
        start += cut
        start += len(text[start:end]) - len(text[start:end].lstrip())
    if start < end:
        yield start, end
