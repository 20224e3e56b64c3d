"""Chunks, the units of retrieval: each sentence with its neighbours.

Every sentence has one chunk, the sentence with one neighbour on either side inside its turn. So
chunks are windows of three with a stride of one, and one encoding of a chunk gives both its own
vector and its middle sentence's token embeddings in context.

What is *embedded* carries more than what is quoted: the speakers' names, and at a turn's edge the
nearest sentence of the turn before or after, so that an answer is read with its question.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from index.sentences import Sentence
from index.transcript import Transcript

MAX_NEIGHBOUR = 300
"""How many characters of a neighbouring sentence are embedded with the one in the middle."""
BLOCK = 5
"""How many sentences a block has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A run of whole sentences of one turn."""

    start: int
    end: int
    turn_id: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"empty or negative chunk {self.start}:{self.end}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The text that is embedded for one sentence; `focus` are the spans of it (its speaker's name
    and its words) whose token embeddings are kept, as offsets into `text`."""

    text: str
    focus: tuple[tuple[int, int], ...]


def make_chunks(sentences: Sequence[Sentence]) -> tuple[Chunk, ...]:
    """One chunk for each sentence, in the same order."""
    chunks = []
    for i, sentence in enumerate(sentences):
        near = [s for s in sentences[max(0, i - 1) : i + 2] if s.turn_id == sentence.turn_id]
        chunks.append(Chunk(start=near[0].start, end=near[-1].end, turn_id=sentence.turn_id))
    return tuple(chunks)


def make_windows(transcript: Transcript, sentences: Sequence[Sentence]) -> tuple[Window, ...]:
    """The text to embed for each sentence: its chunk, completed at a turn's edge, with names."""
    return tuple(make_window(transcript, sentences, i) for i in range(len(sentences)))


def make_window(transcript: Transcript, sentences: Sequence[Sentence], middle: int) -> Window:
    """The text to embed for the sentence at position `middle`. Its own words are the last focus."""
    parts: list[str] = []
    focus: list[tuple[int, int]] = []
    length = 0
    turn_id = None
    for i in range(max(0, middle - 1), min(len(sentences), middle + 2)):
        sentence = sentences[i]
        words = transcript.words(sentence.start, sentence.end)
        if i < middle:
            words = words[-MAX_NEIGHBOUR:]
        elif i > middle:
            words = words[:MAX_NEIGHBOUR]
        speaker = transcript.turns[sentence.turn_id].speaker
        label = f"{speaker}: " if speaker and sentence.turn_id != turn_id else ""
        if sentence.turn_id == sentences[middle].turn_id and label:
            focus.append((length, length + len(speaker)))
        if i == middle:
            focus.append((length + len(label), length + len(label) + len(words)))
        part = f"{label}{words} "
        parts.append(part)
        length += len(part)
        turn_id = sentence.turn_id
    return Window(text="".join(parts).rstrip(), focus=tuple(focus))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive sentences with their speakers' names, to be read together with a question.

    `sentences` are their positions, `spans` where each one's words stand in `text`."""

    text: str
    sentences: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def make_block(transcript: Transcript, sentences: Sequence[Sentence], first: int, last: int) -> Block:
    """The block of the sentences at positions `first` to `last`, both included."""
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    turn_id = None
    for sentence in sentences[first : last + 1]:
        words = transcript.words(sentence.start, sentence.end)
        speaker = transcript.turns[sentence.turn_id].speaker
        label = f"{speaker}: " if speaker and sentence.turn_id != turn_id else ""
        spans.append((length + len(label), length + len(label) + len(words)))
        parts.append(f"{label}{words} ")
        length += len(parts[-1])
        turn_id = sentence.turn_id
    return Block(text="".join(parts).rstrip(), sentences=tuple(range(first, last + 1)), spans=tuple(spans))


def blocks_around(wanted: Sequence[int], n: int, count: int, shift: int = 0) -> list[tuple[int, int]]:
    """At most `count` runs `(first, last)` of up to `BLOCK` of `n` sentences that hold those
    `wanted`, the most wanted first, each with a neighbour on either side where there is one.

    >>> blocks_around([7, 6, 20], n=21, count=3)
    [(5, 9), (16, 20)]
    """
    runs: list[tuple[int, int]] = []
    held: set[int] = set()
    for i in wanted:
        if len(runs) == count:
            break
        if i in held:
            continue
        first = max(0, min(i - BLOCK // 2 + shift, n - BLOCK))
        last = min(n, first + BLOCK) - 1
        runs.append((first, last))
        held.update(range(first + (first > 0), last + (last == n - 1)))
    return runs
