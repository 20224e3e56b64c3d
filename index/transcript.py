"""Transcripts: who said what, and where it stands in the file.

Offsets everywhere are half-open `[start, end)` in Unicode code points of the text exactly as
decoded. The text is never normalised: what looks different on screen is made different by
`fold`, at the moment it is shown.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from index.errors import TranscriptError

Role = Literal["interviewer", "interviewee", "other"]

INTERVIEW = "lavrov-rossiya24-2021-11-01.md"
MAX_BYTES = 100_000_000
MAX_LINE = 1_000_000
"""Longest line accepted, in characters: some thirty hours of speech without a line break."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One uninterrupted stretch of one speaker: its words only, without the label.

    `start_s` and `end_s` are seconds from the start of the recording, where the source has times.
    """

    turn_id: int
    speaker: str
    role: Role
    start: int
    end: int
    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"turn {self.turn_id}: empty or negative span {self.start}:{self.end}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A text and its turns, in order and disjoint. `transcript_id` is the text's SHA-256."""

    transcript_id: str
    title: str
    source: str
    text: str
    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        position = 0
        for number, turn in enumerate(self.turns):
            if turn.turn_id != number:
                raise ValueError(f"turn_id {turn.turn_id} at position {number}")
            if turn.start < position or turn.end > len(self.text):
                raise ValueError(f"turn {number} overlaps another or lies outside the text")
            position = turn.end

    def words(self, start: int, end: int) -> str:
        """The words at `[start, end)`, folded for reading."""
        return fold(self.text[start:end])

    def turn_at(self, position: int) -> Turn:
        """The turn that holds the character at `position`; `ValueError` outside every turn."""
        for turn in self.turns:
            if turn.start <= position < turn.end:
                return turn
        raise ValueError(f"no turn at {position}")

    def speakers(self, role: Role) -> tuple[str, ...]:
        """The speakers who have `role`, in order of appearance."""
        return tuple(dict.fromkeys(turn.speaker for turn in self.turns if turn.role == role))


# Folding -----------------------------------------------------------------------------------

_EMPHASIS = re.compile(r"(?<![\w*_])(\*{1,3}|_{1,3})(?=[^\s*_])(.+?)(?<=[^\s*_])\1(?![\w*_])", re.S)


def fold(text: str) -> str:
    """Text as it is shown: Markdown emphasis marks go, every run of white space is one space.

    This is the one relation between a quotation and what is shown of it. Letters, digits, case,
    punctuation and dashes stay.

    >>> fold("will be quite\\n\\namusing, *E pluribus unum*")
    'will be quite amusing, E pluribus unum'
    """
    previous = None
    while previous != text:
        previous, text = text, _EMPHASIS.sub(r"\2", text)
    return " ".join(text.split())


def unfold(raw: str, start: int, end: int) -> tuple[int, int] | None:
    """Where `fold(raw)[start:end]` stands in `raw`, or `None` where it cannot be told.

    >>> unfold("quite\\n\\n*amusing*", 6, 13)
    (8, 15)
    """
    shown = fold(raw)
    places: list[int] = []
    position = 0
    for character in shown:
        while position < len(raw) and not (
            raw[position] == character or (character == " " and raw[position].isspace())
        ):
            position += 1
        places.append(position)
        position += 1
    if not 0 <= start < end <= len(shown) or places[-1] >= len(raw):
        return None
    first, last = places[start], places[end - 1] + 1
    # A span that begins or ends inside emphasis takes the marks with it, so that it folds cleanly.
    for before in range(4):
        for after in range(4):
            marks = raw[max(0, first - before) : first] + raw[last : last + after]
            found = max(0, first - before), min(len(raw), last + after)
            if not marks.strip("*_") and fold(raw[slice(*found)]) == shown[start:end].strip():
                return found
    return None


# Labels ------------------------------------------------------------------------------------

_TIME = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d{1,3})?"
_TIME_BEFORE = rf"(?:[\[(]?(?P<before>{_TIME})[\])]?[ \t]*[-–—]?[ \t]*)?"
_TIME_AFTER = rf"(?:[ \t]*[\[(](?P<after>{_TIME})[\])])?"
_TIME_LATER = _TIME_AFTER.replace("after", "later")
_LINE = re.compile(r"[^\r\n]+")
_MARKDOWN_LABEL = re.compile(
    rf"[\ufeff \t]*(?:[-+>*][ \t]+)?{_TIME_BEFORE}(?P<mark>\*\*|__){_TIME_BEFORE.replace('before', 'inside')}"
    r"(?P<name>[^*_:：]{1,80}?)"
    rf"{_TIME_AFTER}[ \t]*(?:[:：][ \t]*(?P=mark)|(?P=mark){_TIME_LATER}[ \t]*[:：])"
)
_PLAIN_LABEL = re.compile(
    rf"[\ufeff \t]*{_TIME_BEFORE}(?P<name>[^\W\d_][^:：\[\]<>*_\"“”?!;|=]{{0,59}}?){_TIME_AFTER}"
    r"[ \t]*(?::(?=\s|$)|：)"
)
_INITIAL_LABEL = re.compile(r"[\ufeff \t]*(?P<name>[QA])\.(?=\s)(?P<before>)(?P<after>)")
_HEADING_LABEL = re.compile(
    rf"[\ufeff \t]*(?P<level>#{{1,6}})[ \t]+{_TIME_BEFORE}(?P<mark>\*\*|__)?(?P<name>[^*_:：#\[\]]{{1,80}}?)"
    rf"{_TIME_AFTER}[ \t]*[:：]?(?(mark)(?P=mark))[ \t]*[:：]?[ \t]*#*[ \t]*$"
)
_PARTICLES = {
    *("a", "al", "and", "at", "bin", "da", "de", "del", "den", "der", "di", "dos", "du", "e", "el", "for"),
    *("from", "ibn", "la", "le", "of", "on", "the", "to", "van", "von", "y"),
}
_INTERVIEWER = {
    *("anchor", "correspondent", "host", "interviewer", "journalist", "moderator", "presenter"),
    *("q", "question", "questioner", "reporter"),
}
_OPENERS = {
    *("again", "also", "and", "another", "because", "but", "conclusion", "consider", "example", "finally"),
    *("first", "firstly", "fourth", "hence", "however", "imagine", "indeed", "lastly", "listen", "look"),
    *("meaning", "moreover", "namely", "next", "note", "now", "once more", "or", "perhaps", "point"),
    *("remember", "result", "second", "secondly", "see", "so", "specifically", "still", "suppose", "then"),
    *("therefore", "think", "third", "thirdly", "thus", "today", "why", "yes", "no", "well", "yet"),
    *("for example", "for instance", "in short", "in other words", "my answer", "the answer", "the result"),
}
_INTERVIEWEE = {"a", "answer", "guest", "interviewee", "respondent"}


def _is_name(words: str) -> bool:
    parts = re.sub(r"\(.*?\)", " ", words).split()
    if not 1 <= len(parts) <= 7:
        return False
    if words.casefold() in _INTERVIEWER | _INTERVIEWEE:
        return True
    letters = [part.lstrip("(.'’&-")[:1] for part in parts]
    return all(
        not first.islower() or part.casefold() in _PARTICLES
        for first, part in zip(letters, parts, strict=True)
    )


def _labels(text: str) -> list[re.Match[str]]:
    """The speaker labels, as matches at the start of their lines.

    "Remember: it was cold." looks like a label too. What labels one line only is not believed where
    it is an opener like that, has a year in it, or is followed by a small letter, as a speaker's first
    word hardly is; beside bold labels a plain one has to be a full name. Every other label is
    believed, since to miss a speaker is to misquote another.
    """
    lines = list(_LINE.finditer(text))
    bold = [m for line in lines if (m := _MARKDOWN_LABEL.match(text, line.start(), line.end()))]
    plain = [
        m
        for line in lines
        if (m := _PLAIN_LABEL.match(text, line.start(), line.end())) and _is_name(_speaker(m))
    ]
    initials = [m for line in lines if (m := _INITIAL_LABEL.match(text, line.start(), line.end()))]
    if len(initials) > 1:
        plain += initials
    found = sorted([*bold, *plain], key=lambda m: m.start())
    headings = _headings(text, lines)
    if len(headings) > len(found):
        return headings
    uses: dict[str, int] = {}
    small = 0
    for match in found:
        uses[_speaker(match)] = uses.get(_speaker(match), 0) + 1
        small += text[match.end() :].lstrip()[:1].islower()
    is_capitalised = small < len(found) / 2

    def is_believed(match: re.Match[str]) -> bool:
        name = _speaker(match)
        if uses[name] > 1:
            return True
        first = text[match.end() :].lstrip()[:1]
        if name.casefold() in _OPENERS or re.search(r"\d{4}", name) or (is_capitalised and first.islower()):
            return False
        return match in bold or not bold or len(name.split()) > 1

    return [match for match in found if is_believed(match)] or found


def _headings(text: str, lines: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    """Headings that are speakers' names, in a transcript that labels its turns so: all names on the
    level on which one of them comes back."""
    named = [
        m
        for line in lines
        if (m := _HEADING_LABEL.match(text, line.start(), line.end())) and _is_name(_speaker(m))
    ]
    uses = Counter((m["level"], _speaker(m)) for m in named)
    levels = {level for (level, _), count in uses.items() if count > 1}
    return [m for m in named if m["level"] in levels]


def _speaker(label: re.Match[str]) -> str:
    return " ".join(label["name"].split())


def _seconds(label: re.Match[str]) -> float | None:
    groups = label.groupdict()
    time = groups["before"] or groups["after"] or groups.get("later") or groups.get("inside")
    if not time:
        return None
    seconds = 0.0
    for part in time.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _roles(text: str, spans: Sequence[tuple[str, int, int]]) -> dict[str, Role]:
    """Who asks and who answers: by the label, else by how many of a speaker's turns ask."""
    turns: dict[str, int] = {}
    asking: dict[str, int] = {}
    for speaker, start, end in spans:
        turns[speaker] = turns.get(speaker, 0) + 1
        asking[speaker] = asking.get(speaker, 0) + bool(
            re.search("[?？؟]", text[max(start, end - 200) : end])
        )
    roles: dict[str, Role] = dict.fromkeys(turns, "other")
    named = {s for s in turns if _INTERVIEWER & set(re.split(r"\W+", s.casefold()))}
    if not named and len(turns) > 1:
        most = max(asking[s] / turns[s] for s in turns)
        if most >= 0.5:
            named = {s for s in turns if asking[s] / turns[s] >= max(0.5, 0.6 * most)}
        if named == set(turns):
            named = set()
    if named:
        roles = {s: "interviewer" if s in named else "interviewee" for s in turns}
    for speaker in turns:
        if speaker.casefold() in _INTERVIEWEE:
            roles[speaker] = "interviewee"
    return roles


# Parsing -----------------------------------------------------------------------------------


def _title(preamble: str, source: str) -> str:
    """The first heading, else the first line of plain words, else the source's name."""
    if heading := re.search(r"^#{1,6}[ \t]+(\S.*?)[ \t]*#*$", preamble, re.M):
        return fold(heading[1])
    for line in preamble.splitlines():
        if re.match(r"\s*[^\W_][^\[\]]*$", line):
            return fold(line)
    return Path(source).stem or "Transcript"


def parse_transcript(text: str, source: str) -> Transcript:
    """Find the turns of a transcript in Markdown or plain text.

    A turn begins where a line begins with a speaker's label, `**Name:**` or `Name:`, or, where there
    are none, is a heading with the name; a time may stand before or after the name. It ends before
    the next label. What stands before the first label (title, link, reading time) belongs to nobody.
    `TranscriptError` where the text is empty, has no labels, or has a line of more than `MAX_LINE`
    characters.
    """
    if not text.strip("\ufeff \t\r\n\f\v"):
        raise TranscriptError(
            f"{source} is empty: give a transcript with lines like 'Anna Smith: Good morning.'"
        )
    if text.lstrip("\ufeff \t\r\n").startswith("WEBVTT"):
        raise TranscriptError(
            f"{source} holds subtitles, which do not say who speaks: give a transcript with lines like "
            "'Anna Smith: Good morning.'"
        )
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if len(line) > MAX_LINE:
            raise TranscriptError(
                f"{source}: line {number} has {len(line):,} characters, more than the {MAX_LINE:,} that a "
                "transcript's line may have: put each speaker's turn on lines of its own"
            )
    labels = _labels(text)
    spans: list[tuple[str, int, int, float | None]] = []
    for label, following in zip_longest(labels, labels[1:]):
        stop = following.start() if following else len(text)
        words = text[label.end() : stop]
        start = label.end() + len(words) - len(words.lstrip())
        end = label.end() + len(words.rstrip())
        if start < end:
            spans.append((_speaker(label), start, end, _seconds(label)))
    if not spans:
        raise TranscriptError(
            f"{source}: no line begins with a speaker's name and a colon, such as 'Question:' or "
            "'**Anna Smith:**', so nobody could be quoted: add the speakers"
        )
    roles = _roles(text, [span[:3] for span in spans])
    starts = [span[3] for span in spans] + [None]
    turns = tuple(
        Turn(
            turn_id=number,
            speaker=speaker,
            role=roles[speaker],
            start=start,
            end=end,
            start_s=start_s,
            end_s=starts[number + 1] if start_s is not None else None,
        )
        for number, (speaker, start, end, start_s) in enumerate(spans)
    )
    return Transcript(
        transcript_id=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        title=_title(text[: labels[0].start()], source),
        source=source,
        text=text,
        turns=turns,
    )


def read_transcript(path: Path) -> Transcript:
    """Read and parse a UTF-8 file; `TranscriptError` says what is wrong with it and what to do."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TranscriptError(
                f"{path} has more than {MAX_BYTES:,} bytes: split it into several transcripts"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise TranscriptError(f"{path} does not exist: check the path") from None
    except IsADirectoryError:
        raise TranscriptError(f"{path} is a folder: give the files in it, one by one") from None
    except OSError as exc:
        raise TranscriptError(f"{path} cannot be read ({exc.strerror}): check its permissions") from exc
    if b"\0" in data:
        raise TranscriptError(f"{path} is a binary file: give a transcript in plain text or Markdown")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise TranscriptError(
            f"{path} is not UTF-8 (byte {exc.start:,} cannot be decoded): save it as UTF-8"
        ) from None
    return parse_transcript(text, path.name)


def interview_path() -> Path:
    """Where the interview that ships with the program lies on disk."""
    return Path(str(resources.files("index") / "data" / INTERVIEW))
