"""What the program can say: an answer made of quotes, or one of the ways to say no.

A quote is a span and never holds text, so that a quote which the transcript lacks cannot be
represented; its words, its speaker and its place are looked up when it is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from index.chunks import Chunk
from index.transcript import Transcript

Reason = Literal["never_mentioned", "not_answered", "low_confidence", "unverified_draft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The words at `[start, end)` of the transcript with this SHA-256."""

    transcript_id: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"empty or negative quote {self.start}:{self.end}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One thing that an answer says, with the quotes that say it.

    `short_answer` is the part of the first quote that answers by itself, absent where the whole
    sentence does. `support` is the probability that the quotes answer the question.
    """

    quotes: tuple[Quote, ...]
    support: float
    short_answer: Quote | None = None

    def __post_init__(self) -> None:
        if not self.quotes:
            raise ValueError("a statement needs at least one quote")
        if not 0 <= self.support <= 1:
            raise ValueError(f"support {self.support} is not a probability")
        short = self.short_answer
        if short and not any(q.start <= short.start and short.end <= q.end for q in self.quotes):
            raise ValueError(f"the short answer {short.start}:{short.end} lies outside its quotes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk and how well it matches; lists of hits are best first, ties by position."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds spent retrieving, reading, and in all."""

    retrieve: float = 0.0
    read: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Quotes that answer `question`, which was read as `read_as` (see `rag.vocabulary`). `confidence`
    is the probability that the transcript answers."""

    question: str
    read_as: str
    statements: tuple[Statement, ...]
    hits: tuple[Hit, ...]
    confidence: float
    timings_ms: Timings = field(default_factory=Timings, compare=False)

    def __post_init__(self) -> None:
        if not self.statements:
            raise ValueError("an answer needs at least one statement")
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence {self.confidence} is not a probability")

    @property
    def quotes(self) -> tuple[Quote, ...]:
        """Every quote of every statement, in order."""
        return tuple(quote for statement in self.statements for quote in statement.quotes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstention:
    """The interview does not say. `nearest` are quotes offered as near, not as an answer."""

    question: str
    read_as: str
    reason: Reason
    nearest: tuple[Quote, ...]
    hits: tuple[Hit, ...]
    confidence: float
    timings_ms: Timings = field(default_factory=Timings, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence {self.confidence} is not a probability")

    @property
    def quotes(self) -> tuple[Quote, ...]:
        """The nearest quotes."""
        return self.nearest


Reply = Answer | Abstention

EXPLANATIONS: dict[Reason, str] = {
    "never_mentioned": "The interview never mentions this.",
    "not_answered": "The interview touches on this, but does not answer it.",
    "low_confidence": "The interview does not seem to answer this.",
    "unverified_draft": "A draft was written, but its quotations could not be verified.",
}


# JSON --------------------------------------------------------------------------------------


def quote_as_dict(transcript: Transcript, quote: Quote) -> dict[str, Any]:
    """A quote with its words, speaker and place; `ValueError` for another transcript's quote."""
    if quote.transcript_id != transcript.transcript_id:
        raise ValueError("the quote belongs to another transcript")
    turn = transcript.turn_at(quote.start)
    return {
        "text": transcript.words(quote.start, quote.end),
        "speaker": turn.speaker,
        "role": turn.role,
        "turn_id": turn.turn_id,
        "start": quote.start,
        "end": quote.end,
    }


def reply_as_dict(transcript: Transcript, reply: Reply) -> dict[str, Any]:
    """The reply as the object that `onrecord ask --json` prints."""
    said: dict[str, Any]
    match reply:
        case Answer():
            said = {
                "reply": "answer",
                "statements": [_statement(transcript, s) for s in reply.statements],
            }
        case Abstention():
            said = {
                "reply": "abstention",
                "reason": reply.reason,
                "nearest": [quote_as_dict(transcript, q) for q in reply.nearest],
            }
        case _:
            assert_never(reply)
    return {
        "question": reply.question,
        **({"read_as": reply.read_as} if reply.read_as != reply.question else {}),
        **said,
        "confidence": round(reply.confidence, 4),
        "hits": [_hit(transcript, hit) for hit in reply.hits],
        "timings_ms": {
            "retrieve": round(reply.timings_ms.retrieve, 1),
            "read": round(reply.timings_ms.read, 1),
            "total": round(reply.timings_ms.total, 1),
        },
    }


def _statement(transcript: Transcript, statement: Statement) -> dict[str, Any]:
    quotes: Sequence[dict[str, Any]] = [quote_as_dict(transcript, q) for q in statement.quotes]
    entry: dict[str, Any] = {
        "text": " […] ".join(quote["text"] for quote in quotes),
        "quotes": quotes,
        "support": round(statement.support, 4),
    }
    if short := statement.short_answer:
        entry["short_answer"] = {
            "text": transcript.words(short.start, short.end),
            "start": short.start,
            "end": short.end,
        }
    return entry


def _hit(transcript: Transcript, hit: Hit) -> dict[str, Any]:
    return {
        "text": transcript.words(hit.chunk.start, hit.chunk.end),
        "turn_id": hit.chunk.turn_id,
        "start": hit.chunk.start,
        "end": hit.chunk.end,
        "score": round(hit.score, 4),
    }
