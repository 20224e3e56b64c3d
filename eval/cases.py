"""Cases: a question, and every passage that a careful reader would accept as its answer.

A file of cases is JSON lines:

    {"id": "fact-01", "kind": "fact", "split": "dev" | "test",
     "question": "...", "history": ["an earlier question", ...],
     "evidence": [["a quote of the first part", "another that would do"], ["the second part"]],
     "short": ["the short answer", "a variant"]}

A question that the transcript does not answer has `"evidence": []`, no short answers, a `reason`
(`never_mentioned` or `not_answered`) and, if something comes close, `near`: quotes that tempt.
Quotes are verbatim after folding, each stands in the transcript exactly once, inside one turn.
`id` and `question` are the only keys without which a line is refused; `kind` is "own" by default.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from eval.spans import QuoteFinder, Span
from index.errors import OnRecordError
from index.transcript import Transcript

Split = Literal["dev", "test"]
KINDS_OF_NO = ("never_mentioned", "not_answered")
SHIPPED = "lavrov-rossiya24-2021-11-01.jsonl"
_KEYS = frozenset(
    ["id", "kind", "split", "question", "history", "evidence", "short", "reason", "near", "note", "notes"]
)


class CaseError(OnRecordError):
    """A file of cases cannot be used, or a line of it is not a case."""


Part = tuple[Span, ...]
"""The spans of which each alone answers one part of a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question with its gold spans; `evidence` is empty where the transcript does not answer."""

    case_id: str
    kind: str
    split: Split
    question: str
    history: tuple[str, ...] = ()
    evidence: tuple[Part, ...] = ()
    short: tuple[str, ...] = ()
    reason: str | None = None
    near: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        if not self.evidence and self.short:
            raise ValueError(f"{self.case_id}: a short answer without evidence")
        if any(not part for part in self.evidence):
            raise ValueError(f"{self.case_id}: an empty part of the evidence")

    @property
    def answerable(self) -> bool:
        """Whether the transcript answers the question."""
        return bool(self.evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a line of a file of cases."""

    line: int
    message: str


def shipped_cases() -> Path:
    """The cases about the interview that ship with the program."""
    return Path(str(resources.files("eval") / "data" / SHIPPED))


def read_cases(path: Path, transcript: Transcript) -> tuple[Case, ...]:
    """Every case of a file; `CaseError` names the file and the line of the first problem."""
    cases, problems = check_cases(path, transcript)
    if problems:
        rest = len(problems) - 1
        more = f" (and {rest} more: 'onrecord eval check {path.name}' lists them)" if rest else ""
        raise CaseError(f"{path.name}:{problems[0].line}: {problems[0].message}{more}")
    if not cases:
        raise CaseError(f"{path.name} holds no cases: give one JSON object a line")
    return cases


def check_cases(path: Path, transcript: Transcript) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
    """The cases of a file that can be used, and what is wrong with the others."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise CaseError(f"{path} cannot be read ({exc.strerror}): check the path") from exc
    except UnicodeDecodeError:
        raise CaseError(f"{path.name} is not UTF-8: save it as UTF-8") from None
    finder = QuoteFinder(transcript)
    cases: list[Case] = []
    problems: list[Problem] = []
    first_lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        found = list(_problems_or_case(line, finder))
        for item in found:
            if isinstance(item, str):
                problems.append(Problem(line=number, message=item))
                continue
            if item.case_id in first_lines:
                used = f"the id {item.case_id!r} is used already in line {first_lines[item.case_id]}"
                problems.append(Problem(line=number, message=f"{used}: give each case its own"))
                continue
            first_lines[item.case_id] = number
            cases.append(item)
    return tuple(cases), tuple(problems)


def _problems_or_case(line: str, finder: QuoteFinder) -> Iterator[str | Case]:
    """Every problem of a line, or else its case."""
    try:
        raw = json.loads(line)
    except ValueError as exc:
        yield f"not a JSON object ({exc}): write one case a line"
        return
    problem = _shape(raw)
    if problem:
        yield problem
        return
    evidence = raw.get("evidence", [])
    missing = False
    resolved: dict[str, Span] = {}
    for quote in [*(q for part in evidence for q in part), *raw.get("near", [])]:
        places = finder.find(quote)
        if len(places) == 1:
            resolved[quote] = places[0]
            continue
        missing = True
        if places:
            times = f"stands in the transcript {len(places)} times"
            yield f"the quote “{_cut(quote)}” {times}: quote more words around it"
        elif not quote.strip():
            yield "a quote is blank: leave it out"
        else:
            nearest = _cut(finder.nearest(quote), 300)
            yield f"the quote “{_cut(quote)}” is not in the transcript; nearest: “{nearest}”"
    if not missing:
        yield Case(
            case_id=raw["id"],
            kind=raw.get("kind", "own"),
            split=raw.get("split", "test"),
            question=raw["question"],
            history=tuple(raw.get("history", [])),
            evidence=tuple(tuple(resolved[q] for q in part) for part in evidence),
            short=tuple(raw.get("short", [])),
            reason=raw.get("reason"),
            near=tuple(resolved[q] for q in raw.get("near", [])),
        )


def _shape(raw: Any) -> str | None:
    """What is wrong with the form of a line, if anything."""
    if not isinstance(raw, dict):
        return "not a JSON object: write one case a line"
    if unknown := sorted(set(raw) - _KEYS):
        return f"unknown key {unknown[0]!r}: use {', '.join(sorted(_KEYS))}"
    for key in ("id", "question"):
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            return f"{key!r} is missing or blank: every case has one"
    if not isinstance(raw.get("kind", "own"), str) or raw.get("split", "test") not in ("dev", "test"):
        return "'kind' must be a word and 'split' either 'dev' or 'test'"
    for key in ("history", "short", "near"):
        if not _strings(raw.get(key, [])):
            return f"{key!r} must be a list of strings"
    evidence = raw.get("evidence", [])
    if not isinstance(evidence, list) or not all(part and _strings(part) for part in evidence):
        return "'evidence' must be a list with, for each part of the answer, a list of quotes that would do"
    reason = raw.get("reason")
    if evidence and reason is not None:
        return f"gold evidence on a case that is marked unanswerable ({reason!r}): remove one of the two"
    if not evidence and raw.get("short"):
        return "a short answer without evidence: quote what it stands on, or remove it"
    if not evidence and reason not in KINDS_OF_NO:
        return (
            f"no evidence: give quotes, or the 'reason' why there is no answer ({' or '.join(KINDS_OF_NO)})"
        )
    return None


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _cut(words: str, length: int = 120) -> str:
    flat = " ".join(words.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


# A user's own cases ------------------------------------------------------------------------


def append_case(
    path: Path,
    transcript: Transcript,
    question: str,
    quotes: Sequence[str],
    *,
    history: Sequence[str] = (),
) -> Case:
    """Add a case to a user's file: the question, and what it should have quoted.

    Each quote becomes a part of the evidence; without any the case says that the transcript never
    mentions it. `CaseError` where a quote cannot be found, or for the shipped file, which nobody's
    thumb may change.
    """
    if path.resolve() == shipped_cases().resolve():
        raise CaseError(f"{path.name} ships with the program: choose a file of your own")
    used: set[str] = set()
    if path.exists():
        used = {case.case_id for case in check_cases(path, transcript)[0]}
    number = len(used) + 1
    while f"own-{number:03d}" in used:
        number += 1
    raw: dict[str, Any] = {
        "id": f"own-{number:03d}",
        "kind": "own",
        "split": "dev",
        "question": question,
        "history": list(history),
        "evidence": [[quote] for quote in quotes],
        "short": [],
    }
    if not quotes:
        raw["reason"] = "never_mentioned"
    line = json.dumps(raw, ensure_ascii=False)
    first = next(_problems_or_case(line, QuoteFinder(transcript)))
    if isinstance(first, str):
        raise CaseError(first)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            stream.seek(0, 2)
            if stream.tell():
                stream.seek(-1, 2)
                if stream.read(1) != b"\n":
                    line = "\n" + line
            stream.write(f"{line}\n".encode())
    except OSError as exc:
        raise CaseError(f"{path} cannot be written ({exc.strerror}): choose another file") from exc
    return first
