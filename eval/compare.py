"""Two reports on the same cases: paired differences with intervals, and the cases that changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval import metrics
from eval.cases import CaseError
from eval.measures import MEASURES, Columns, Measure
from eval.report import Report, reply_in_words, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A measure in A and in B over the cases that define it in both; `delta` is B less A, with its
    95 % interval from resampling the pairs."""

    name: str
    label: str
    a: float
    b: float
    delta: float
    low: float | None
    high: float | None
    n: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves no doubt that there is a difference."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A case whose verdict differs."""

    case_id: str
    question: str
    a: str
    b: str
    said_a: str
    said_b: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """B against A. `only_a` and `only_b` are ids of cases that the other report lacks."""

    differences: tuple[Difference, ...]
    changes: tuple[Change, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    n: int


def compare_reports(a: Report, b: Report) -> Comparison:
    """Compare by case id; `CaseError` where the reports share no case, or a case was rewritten."""
    of_a = {case["id"]: case for case in a["cases"]}
    of_b = {case["id"]: case for case in b["cases"]}
    shared = sorted(of_a.keys() & of_b.keys())
    if not shared:
        raise CaseError("the two reports share no case: compare runs of the same suite")
    for case_id in shared:
        if any(
            of_a[case_id][key] != of_b[case_id][key] for key in ("question", "history", "gold", "answerable")
        ):
            raise CaseError(
                f"case {case_id!r} is not the same in both reports: run both on the same file of cases"
            )
    columns = [Columns([of[i]["scores"] for i in shared]) for of in (of_a, of_b)]
    found = (_difference(measure, *columns) for measure in MEASURES)
    return Comparison(
        differences=tuple(d for d in found if d),
        changes=tuple(_change(of_a[i], of_b[i]) for i in shared if of_a[i]["verdict"] != of_b[i]["verdict"]),
        only_a=tuple(sorted(of_a.keys() - of_b.keys())),
        only_b=tuple(sorted(of_b.keys() - of_a.keys())),
        n=len(shared),
    )


def _difference(measure: Measure, a: Columns, b: Columns) -> Difference | None:
    keep = ~(a.undefined(measure) | b.undefined(measure))
    arrays_a = [a[name][keep] for name in measure.columns]
    arrays_b = [b[name][keep] for name in measure.columns]
    n = int(keep.sum())
    value_a, value_b = (measure.of(*arrays) if n else None for arrays in (arrays_a, arrays_b))
    if value_a is None or value_b is None:
        return None

    def delta(drawn: metrics.Indices) -> float | None:
        drawn_a, drawn_b = (measure.of(*(x[drawn] for x in arrays)) for arrays in (arrays_a, arrays_b))
        return None if drawn_a is None or drawn_b is None else drawn_b - drawn_a

    interval = metrics.bootstrap_interval(delta, n)
    return Difference(
        name=measure.name,
        label=measure.label,
        a=value_a,
        b=value_b,
        delta=value_b - value_a,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        n=n,
    )


def _change(a: Mapping[str, Any], b: Mapping[str, Any]) -> Change:
    return Change(
        case_id=a["id"],
        question=a["question"],
        a=a["verdict"],
        b=b["verdict"],
        said_a=reply_in_words(a),
        said_b=reply_in_words(b),
    )


def render_comparison(found: Comparison, name_a: str, name_b: str) -> str:
    """The comparison in Markdown; a star marks a difference whose interval excludes 0."""
    lines = [
        f"# {name_b} against {name_a}, {found.n} shared cases",
        "",
        f"| | {name_a} | {name_b} | difference (95 %) | n |",
        "|---|---:|---:|---:|---:|",
    ]
    for d in found.differences:
        interval = "" if d.low is None else f" ({d.low:+.3f} to {d.high:+.3f})"
        star = " *" if d.is_clear else ""
        lines.append(f"| {d.label} | {shown(d.a)} | {shown(d.b)} | {d.delta:+.3f}{interval}{star} | {d.n} |")
    for ids, name in ((found.only_a, name_a), (found.only_b, name_b)):
        if ids:
            lines += ["", f"Only in {name}: {', '.join(ids)}"]
    lines += ["", f"## {len(found.changes)} cases changed", ""]
    for c in found.changes:
        lines += [
            f"- **{c.case_id}** {c.a} → {c.b}: {c.question}",
            f"  - {name_a}: {c.said_a}",
            f"  - {name_b}: {c.said_b}",
        ]
    return "\n".join(lines)
