"""An independent check that every quotation is exact: the transcript's file, the JSON, nothing else.

It imports nothing of the program and folds in its own way, so that a mistake in the program's
folding, offsets or speakers cannot hide itself. To check anybody's answers:

    python -m eval.exactness TRANSCRIPT FILE.json [FILE.jsonl ...]
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

_CUT_WORD = re.compile(r"[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0003ffff]{2}")
"""Two letters or digits side by side, in scripts that put spaces between words."""
_ELISION = " […] "


class Checked(NamedTuple):
    """One quotation: where in the JSON it stands, and what is wrong with it, if anything."""

    place: str
    fault: str | None


def check_quotes(text: str, said: Any) -> tuple[Checked, ...]:
    """Every quotation in a JSON value: every object with `text`, `start` and `end`, at any depth.

    A quotation is exact when its words are those of `text[start:end]` after folding, when neither
    end cuts a word, and when the speaker it names is the one whose label stands before it.
    """
    named = {obj["speaker"] for _, obj in _objects(said) if isinstance(obj.get("speaker"), str)} - {""}
    labels = _labels(text, frozenset(named))
    return tuple(
        Checked(place, _fault(text, labels, obj))
        for place, obj in _objects(said)
        if {"text", "start", "end"} <= obj.keys() or {"text", "quotes"} <= obj.keys()
    )


@lru_cache(maxsize=8)
def _labels(text: str, named: frozenset[str]) -> list[tuple[int, str]]:
    """Where speakers' labels end, and whose they are: names in bold or, where none is, names that
    begin several lines; and whoever the JSON names."""
    bold = set(re.findall(r"^\W*\*\*([^*:\n]{1,80}):?\*\*", text, re.M))
    plain = Counter(re.findall(r"^(?:\W*\d[\d:.,]*\W*)?([^\W\d_a-z][^:\n*]{0,60}):(?=\s)", text, re.M))
    names = named | (bold or {name for name, count in plain.items() if count > 1})
    return sorted(
        (match.end(), name)
        for name in names
        for match in re.finditer(rf"^\W*(?:\d[\d:.,]*\W*)?{re.escape(name)}\W{{0,30}}?[:：]", text, re.M)
    )


def _objects(value: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield place, value
        for key, item in value.items():
            yield from _objects(item, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _objects(item, f"{place}[{number}]")


def _fault(text: str, labels: list[tuple[int, str]], quote: dict[str, Any]) -> str | None:
    words = quote["text"]
    if "quotes" in quote:  # a statement: its text is its quotes, with a mark at every cut
        quoted = [q.get("text") for q in quote["quotes"] if isinstance(q, dict)]
        return None if words == _ELISION.join(map(str, quoted)) else "the statement says more than its quotes"
    start, end = quote["start"], quote["end"]
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
        return f"{start}:{end} lies outside the transcript"
    if words != folded(text[start:end]):
        return f"the transcript has “{folded(text[start:end])[:80]}” at {start}:{end}"
    if any(_CUT_WORD.fullmatch(text[max(0, edge - 1) : edge + 1]) for edge in (start, end)):
        return f"{start}:{end} cuts a word"
    before = [name for place, name in labels if place <= start]
    if before and quote.get("speaker") and quote["speaker"] != before[-1]:
        return f"said by {before[-1]}, not by {quote['speaker']}"
    return None


def folded(text: str) -> str:
    """Runs of white space as one space, Markdown emphasis marks left out where they come in pairs."""
    opened: list[re.Match[str]] = []
    marks: list[re.Match[str]] = []
    for run in re.finditer(r"\*+|_+", text):
        before, after = text[run.start() - 1 : run.start()], text[run.end() : run.end() + 1]
        pair = next((m for m in reversed(opened) if m[0] == run[0]), None)
        if pair and before.strip() and not after.isalnum():
            marks += [pair, run]
            del opened[opened.index(pair) :]
        elif len(run[0]) <= 3 and after.strip() and not before.isalnum():
            opened.append(run)
    for run in sorted(marks, key=lambda m: -m.start()):
        text = text[: run.start()] + text[run.end() :]
    return " ".join(text.split())


def _main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print("give a transcript and one or more files of answers in JSON or JSON lines", file=sys.stderr)
        return 2
    text = Path(arguments[0]).read_bytes().decode("utf-8")
    checked: list[Checked] = []
    for name in arguments[1:]:
        content = Path(name).read_text(encoding="utf-8")
        try:
            values = list(map(json.loads, content.splitlines() if name.endswith("l") else [content]))
        except ValueError as exc:
            print(f"{name} is not JSON ({exc})", file=sys.stderr)
            return 2
        checked += [
            Checked(f"{name}: {c.place}", c.fault) for value in values for c in check_quotes(text, value)
        ]
    faults = [c for c in checked if c.fault]
    for fault in faults:
        print(f"{fault.place}: {fault.fault}")
    print(f"{len(checked) - len(faults)} of {len(checked)} quotations are exact")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
