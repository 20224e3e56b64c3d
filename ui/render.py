"""Showing a reply and its transcript: safe HTML for the page, plain text for the terminal.

Everything here is a pure function from values to a string. Words that somebody wrote, in a
transcript or in a question, pass through `escape` on their way into HTML and nowhere else, and the
words of a quote are always `Transcript.words`.

A quote's address inside the page is `#q-START-END`. It carries the span itself, so that an earlier
answer's citation leads to its place however many questions have followed.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import assert_never

from index.sentences import Sentence
from index.transcript import Role, Transcript, Turn, fold
from rag.replies import EXPLANATIONS, Abstention, Answer, Quote, Reason, Reply, Statement

ROLES: dict[Role, str] = {
    "interviewer": "interviewer",
    "interviewee": "interviewee",
    "other": "other speaker",
}
HEADINGS: dict[Reason, str] = {
    "never_mentioned": "Not in the interview",
    "not_answered": "Raised, but not answered",
    "low_confidence": "No clear answer",
    "unverified_draft": "Nothing that can be vouched for",
}
NEAREST = "Nearest passages, offered as reading and not as an answer"
ID_LENGTH = 12
"""Characters of a transcript's id in a permanent link: enough to tell it from any other."""

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_ADDRESS = re.compile(r"https?://([^\s/()<>\"']+)[^\s()<>\"']*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question of a conversation, and the reply to it; none while it is being looked for."""

    question: str
    reply: Reply | None


# Places ------------------------------------------------------------------------------------


def question_numbers(transcript: Transcript) -> tuple[int, ...]:
    """For each turn the number of interviewer's turns so far, its own included."""
    numbers: list[int] = []
    for turn in transcript.turns:
        numbers.append((numbers[-1] if numbers else 0) + (turn.role == "interviewer"))
    return tuple(numbers)


def place(transcript: Transcript, quote: Quote) -> str:
    """Where a quote stands, in words: `answer to question 3`, with the time where there is one."""
    turn = _turn_of(transcript, quote)
    number = question_numbers(transcript)[turn.turn_id]
    if not number:
        words = f"turn {turn.turn_id + 1}"
    else:
        words = f"question {number}" if turn.role == "interviewer" else f"answer to question {number}"
    return words if turn.start_s is None else f"{words}, from {clock(turn.start_s)}"


def clock(seconds: float) -> str:
    """Seconds as people write them.

    >>> clock(75.4), clock(3723)
    ('1:15', '1:02:03')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def address(quote: Quote) -> str:
    """The quote's name inside the page."""
    return f"q-{quote.start}-{quote.end}"


def link(quote: Quote) -> str:
    """A permanent link to the quote, relative to the page."""
    return f"?quote={quote.start}-{quote.end}&of={quote.transcript_id[:ID_LENGTH]}"


def quote_from_link(transcript: Transcript, span: str, transcript_id: str) -> Quote | None:
    """What a permanent link leads to, or nothing where it belongs to another transcript."""
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})", span, re.ASCII)
    if not found or not transcript_id or not transcript.transcript_id.startswith(transcript_id):
        return None
    start, end = int(found[1]), int(found[2])
    if not any(turn.start <= start < end <= turn.end for turn in transcript.turns):
        return None
    return Quote(transcript_id=transcript.transcript_id, start=start, end=end)


def _turn_of(transcript: Transcript, quote: Quote) -> Turn:
    if quote.transcript_id != transcript.transcript_id:
        raise ValueError("the quote belongs to another transcript")
    return transcript.turn_at(quote.start)


def confidence_in_words(confidence: float) -> str:
    """How sure the program is that the transcript answers, in words."""
    grade = "high" if confidence >= 0.85 else "fair" if confidence >= 0.65 else "modest"
    return f"{grade} confidence" if confidence >= 0.5 else "low confidence"


def percent(confidence: float) -> str:
    """The figure beside the words; never 0 or 100 %, since a reader that learnt is never certain.

    >>> percent(0.998), percent(0.834), percent(0.0)
    ('99%', '83%', '1%')
    """
    return f"{min(max(confidence, 0.01), 0.99):.0%}"


# The conversation --------------------------------------------------------------------------


def render_conversation(
    transcript: Transcript, exchanges: Sequence[Exchange], *, can_be_corrected: bool = False
) -> str:
    """The conversation so far, oldest first; the introduction where there is none yet."""
    if not exchanges:
        body = _introduction(transcript)
    else:
        body = "".join(
            _exchange(transcript, exchange, number, can_be_corrected)
            for number, exchange in enumerate(exchanges)
        )
    return f'<div class="conversation" role="log" aria-live="polite" aria-label="Conversation">{body}</div>'


def _introduction(transcript: Transcript) -> str:
    guests = transcript.speakers("interviewee")
    whose = f" of {_and(guests)}" if 0 < len(guests) <= 3 else ""
    return (
        '<div class="introduction"><h2>Ask the interview</h2>'
        f"<p>Ask in your own words. The answer is in the words{escape(whose)}, quoted exactly and marked "
        "where they were said, or you are told that the interview does not say.</p></div>"
    )


def _exchange(transcript: Transcript, exchange: Exchange, number: int, can_be_corrected: bool) -> str:
    reply = exchange.reply
    match reply:
        case None:
            body = '<p class="pending" role="status">Reading the transcript<span></span></p>'
        case Answer():
            body = _answer(transcript, reply)
        case Abstention():
            body = _abstention(transcript, reply)
        case _:
            assert_never(reply)
    if reply:
        body += _closing(reply, number, can_be_corrected)
    first = f' data-show="{address(reply.quotes[0])}"' if isinstance(reply, Answer) else ""
    return (
        f'<article class="exchange"{first}><h2 dir="auto"><span class="label">You asked</span>'
        f"{escape(fold_question(exchange.question))}</h2>{_read_as(reply)}{body}</article>"
    )


def _read_as(reply: Reply | None) -> str:
    if reply is None or reply.read_as == reply.question:
        return ""
    return f'<p class="read-as" dir="auto">Read as <q>{escape(reply.read_as)}</q></p>'


def _answer(transcript: Transcript, reply: Answer) -> str:
    numbers = iter(range(1, len(reply.quotes) + 1))
    quotations = "".join(
        _quotation(transcript, quote, next(numbers), statement)
        for statement in reply.statements
        for quote in statement.quotes
    )
    return f'<div class="reply answer">{quotations}</div>'


def _abstention(transcript: Transcript, reply: Abstention) -> str:
    nearest = "".join(_quotation(transcript, quote, n) for n, quote in enumerate(reply.nearest, 1))
    offered = f'<section class="nearest"><h4>{NEAREST}</h4>{nearest}</section>' if nearest else ""
    return (
        f'<div class="reply abstention"><h3>{escape(HEADINGS[reply.reason])}</h3>'
        f"<p>{escape(EXPLANATIONS[reply.reason])}</p>{offered}</div>"
    )


def _closing(reply: Reply, number: int, can_be_corrected: bool) -> str:
    words = confidence_in_words(reply.confidence).capitalize()
    correct = (
        f'<p class="correct"><button type="button" data-exchange="{number}" '
        'title="Say what it should have quoted">Not right?</button></p>'
    )
    return (
        f'<div class="closing"><p class="confidence">{words} that the interview answers this'
        f"<span>{percent(reply.confidence)}</span></p>{correct if can_be_corrected else ''}</div>"
    )


def _quotation(transcript: Transcript, quote: Quote, number: int, statement: Statement | None = None) -> str:
    turn = _turn_of(transcript, quote)
    words = _words(transcript, quote, statement.short_answer if statement else None)
    where = (
        f'<span class="number">[{number}]</span> '
        f'<span class="speaker" dir="auto">{escape(turn.speaker)}</span>'
        f', <span class="role">{ROLES[turn.role]}</span>'
        f', <span class="place">{place(transcript, quote)}</span>'
    )
    lasting = escape(link(quote))
    return (
        f'<figure class="quotation {turn.role}"><blockquote dir="auto">{words}</blockquote><figcaption>'
        f'<a class="citation" href="#{address(quote)}" title="Show it in the transcript">{where}</a>'
        f'<a class="permalink" href="{lasting}" title="Copy a link to this quotation">Copy link</a>'
        "</figcaption></figure>"
    )


def _words(transcript: Transcript, quote: Quote, short: Quote | None) -> str:
    """The quote's words, with the short answer picked out where folding lets it stand alone."""
    words = transcript.words(quote.start, quote.end)
    if short and quote.start <= short.start and short.end <= quote.end:
        before = transcript.words(quote.start, short.start) if quote.start < short.start else ""
        inner = transcript.words(short.start, short.end)
        at = len(before) + (words[len(before) : len(before) + 1] == " ")
        if inner and words.startswith(before) and words.startswith(inner, at):
            end = at + len(inner)
            return f"{escape(words[:at])}<strong>{escape(inner)}</strong>{escape(words[end:])}"
    return escape(words)


def render_notice(message: str) -> str:
    """One line about what was typed, as it stands above the question."""
    shown = message[:1].upper() + message[1:]
    return f'<p role="alert">{escape(shown)}{"." if shown[-1:].isalnum() else ""}</p>'


def fold_question(question: str) -> str:
    """A question on one line, otherwise as it was typed."""
    return " ".join(question.split())


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# The transcript ----------------------------------------------------------------------------


class Layout:
    """How a transcript is set: its turns in paragraphs, and what its table of contents says.

    Worked out once; a new answer sets only those paragraphs again that its quotes touch.
    """

    def __init__(self, transcript: Transcript, sentences: Sequence[Sentence]) -> None:
        self.transcript = transcript
        self.numbers = question_numbers(transcript)
        self._by_turn: list[list[Sentence]] = [[] for _ in transcript.turns]
        for sentence in sentences:
            self._by_turn[sentence.turn_id].append(sentence)
        self._paragraphs = [list(self._paragraph_spans(group)) for group in self._by_turn]
        self._unmarked = [
            [_set_paragraph(transcript, start, end, (), ()) for start, end in spans]
            for spans in self._paragraphs
        ]

    def _paragraph_spans(self, sentences: Sequence[Sentence]) -> Iterator[tuple[int, int]]:
        """A paragraph ends at a blank line that stands between sentences, not inside one."""
        begin = None
        for sentence, following in zip(sentences, [*sentences[1:], None], strict=True):
            begin = sentence.start if begin is None else begin
            gap = self.transcript.text[sentence.end : following.start] if following else ""
            if following is None or len(_LINE_BREAK.findall(gap)) > 1:
                yield begin, sentence.end
                begin = None

    def heading(self, turn: Turn) -> str:
        """A turn's line in the table of contents: its first question, else its first sentence."""
        sentences = [self.transcript.words(s.start, s.end) for s in self._by_turn[turn.turn_id]]
        return next((words for words in sentences if words.endswith("?")), sentences[0] if sentences else "")

    def entries(self) -> tuple[Turn, ...]:
        """The turns that the table of contents lists: the interviewer's, or all if nobody asks."""
        asked = tuple(turn for turn in self.transcript.turns if turn.role == "interviewer")
        return asked or self.transcript.turns

    def turn(self, turn: Turn, current: Sequence[Quote], earlier: Sequence[Quote]) -> str:
        """One turn as HTML."""
        paragraphs = []
        for (start, end), unmarked in zip(
            self._paragraphs[turn.turn_id], self._unmarked[turn.turn_id], strict=True
        ):
            touched = any(q.start < end and start < q.end for q in (*current, *earlier))
            paragraphs.append(
                _set_paragraph(self.transcript, start, end, current, earlier) if touched else unmarked
            )
        number = self.numbers[turn.turn_id]
        asks = turn.role == "interviewer"
        shown_number = f'<span class="turn-number">{number}</span>' if asks else ""
        time = f'<span class="time">{clock(turn.start_s)}</span>' if turn.start_s is not None else ""
        return (
            f'<section class="turn {turn.role}" id="turn-{turn.turn_id}"><h2>{shown_number}'
            f'<span class="speaker" dir="auto">{escape(turn.speaker)}</span>'
            f'<span class="role">{ROLES[turn.role]}</span>{time}</h2>{"".join(paragraphs)}</section>'
        )


def render_transcript(
    layout: Layout, current: Sequence[Quote] = (), earlier: Sequence[Quote] = (), *, show: Quote | None = None
) -> str:
    """The transcript with the quotes of the last answer marked and numbered, those of earlier ones
    marked faintly; the page scrolls to `show`."""
    attribute = f' data-show="{address(show)}"' if show else ""
    turns = "".join(layout.turn(turn, current, earlier) for turn in layout.transcript.turns)
    return f'<div class="transcript"{attribute}>{turns}</div>'


def render_contents(layout: Layout) -> str:
    """The transcript's questions, as its table of contents."""
    entries = layout.entries()
    asked = any(turn.role == "interviewer" for turn in entries)
    items = "".join(
        f'<li><a href="#turn-{turn.turn_id}"><span class="item-number">'
        f"{layout.numbers[turn.turn_id] or turn.turn_id + 1}</span>"
        f'<span class="item" dir="auto">{escape(layout.heading(turn))}</span></a></li>'
        for turn in entries
    )
    name = "Questions asked" if asked else "Turns"
    return (
        f'<nav class="contents" aria-label="{name}"><details open><summary>{name}'
        f'<span class="count">{len(entries)}</span></summary><ol>{items}</ol></details></nav>'
    )


def render_header(transcript: Transcript) -> str:
    """What is asked here: the interview's title, whose words they are, and where they come from."""
    guests = transcript.speakers("interviewee")
    asking = transcript.speakers("interviewer")
    parts = []
    if 0 < len(guests) <= 4:
        parts.append(f"Interviewee: {escape(_and(guests))}")
    if 0 < len(asking) <= 4 and asking != ("Question",):
        parts.append(f"Interviewer: {escape(_and(asking))}")
    found = _ADDRESS.search(transcript.text[: transcript.turns[0].start])
    source = escape(transcript.source)
    if found:
        source = (
            f'<a href="{escape(found[0])}" rel="noopener noreferrer" target="_blank">'
            f"{escape(found[1].removeprefix('www.'))}</a>, {source}"
        )
    parts.append(f"Source: {source}")
    return (
        '<div class="masthead"><p class="wordmark">On Record</p><div class="title">'
        f'<h1 dir="auto">{escape(transcript.title)}</h1><p class="source">{" · ".join(parts)}</p></div></div>'
    )


def _set_paragraph(
    transcript: Transcript, start: int, end: int, current: Sequence[Quote], earlier: Sequence[Quote]
) -> str:
    """`[start, end)` as a paragraph, cut where a quote begins or ends."""
    quotes = [q for q in (*current, *earlier) if q.start < end and start < q.end]
    cuts = sorted({start, end, *(c for q in quotes for c in (q.start, q.end) if start < c < end)})
    pieces = []
    for a, b in pairwise(cuts):
        covering = [q for q in quotes if q.start <= a and b <= q.end]
        raw = transcript.text[a:b]
        words = escape(fold(raw))
        if words and covering:
            words = _mark(words, b, covering, current)
        before = " " if raw[:1].isspace() and a > start else ""
        after = " " if words and raw[-1:].isspace() and b < end else ""
        pieces.append(f"{before}{words}{after}")
    return f'<p dir="auto">{"".join(pieces)}</p>'


def _mark(words: str, end: int, covering: Sequence[Quote], current: Sequence[Quote]) -> str:
    names = " ".join(dict.fromkeys(address(quote) for quote in covering))
    numbers = [str(n) for n, quote in enumerate(current, 1) if quote in covering and quote.end == end]
    shown = f' data-numbers="{" ".join(f"[{n}]" for n in numbers)}"' if numbers else ""
    state = "current" if any(quote in covering for quote in current) else "earlier"
    return f'<mark class="{state} {names}"{shown}>{words}</mark>'


# The terminal ------------------------------------------------------------------------------

_WIDTH = 88


def render_text(transcript: Transcript, reply: Reply) -> str:
    """The reply as plain text: numbered quotes, who says them and where, and how sure it is."""
    match reply:
        case Answer():
            lead: list[str] = []
        case Abstention():
            lead = [EXPLANATIONS[reply.reason]]
            if reply.nearest:
                lead.append(f"{NEAREST}:")
        case _:
            assert_never(reply)
    quotations = [
        f"[{number}] {_printable(_turn_of(transcript, quote).speaker)}, "
        f"{ROLES[_turn_of(transcript, quote).role]}, {place(transcript, quote)}:\n{_block(transcript, quote)}"
        for number, quote in enumerate(reply.quotes, 1)
    ]
    if reply.read_as != reply.question:
        lead.insert(0, f"Read as: {_printable(reply.read_as)}")
    words = confidence_in_words(reply.confidence).capitalize()
    end = f"{words} that the interview answers this: {percent(reply.confidence)}"
    return "\n\n".join([*lead, *quotations, end])


def _block(transcript: Transcript, quote: Quote) -> str:
    return textwrap.fill(
        _printable(transcript.words(quote.start, quote.end)),
        width=_WIDTH,
        initial_indent="    ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _printable(words: str) -> str:
    """Words without the control characters that would move a terminal's cursor or change its colours."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" else c for c in words)
