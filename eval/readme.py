"""README's figures come from the last report, and a check fails when they differ."""

from pathlib import Path

from eval.cases import CaseError
from eval.report import Report, ladder_table, shown, with_interval

BEGIN = "<!-- evaluation -->"
END = "<!-- /evaluation -->"
_NAMES = (
    "right",
    "reader/sentence/hit@1",
    "reader/sentence/hit@3",
    "reader/sentence/ndcg@10",
    "avna",
    "coverage",
    "abstention_recall",
    "auroc",
    "quote_exactness",
    "citation_precision",
    "citation_recall",
    "speaker",
    "f1",
    "rouge_l",
)


def readme_block(report: Report) -> str:
    """What stands between the two marks: the headline figures, the ladder, and how to repeat them."""
    splits = [s for s in ("test", "dev") if s in report["figures"]] or ["all"]
    figures = {s: {f["name"]: f for f in report["figures"][s]} for s in splits}
    cases = report["cases"]
    unanswerable = sum(not case["answerable"] for case in cases)
    lines = [
        f"{len(cases)} questions, {unanswerable} of them without an answer, by `onrecord eval`; "
        "95 % bootstrap intervals in brackets.",
        "",
        f"| | {' | '.join(splits)} |",
        "|---|" + "---:|" * len(splits),
    ]
    for name in _NAMES:
        row = [figures[s][name] for s in splits]
        if row[0]["value"] is not None:
            lines.append(f"| {row[0]['label']} | {' | '.join(map(with_interval, row))} |")
    if table := ladder_table(report):
        lines += [
            "",
            "The same questions, one rung after the other; a window of three sentences holds the evidence:",
            "",
        ]
        lines += table
    least = min(
        (f["value"] for f in (figures[s]["quote_exactness"] for s in splits) if f["value"] is not None),
        default=None,
    )
    if least is not None and least < 1:
        lines += ["", f"**Quote exactness is {shown(least)}: some quotations are wrong.**"]
    return "\n".join(lines)


def write_block(readme: Path, report: Report) -> bool:
    """Bring README up to date; whether anything changed."""
    text = _read(readme)
    fresh = _replaced(readme, text, readme_block(report))
    if fresh != text:
        readme.write_text(fresh, encoding="utf-8", newline="")
    return fresh != text


def is_current(readme: Path, report: Report) -> bool:
    """Whether README shows the figures of this report."""
    text = _read(readme)
    return _replaced(readme, text, readme_block(report)) == text


def _read(readme: Path) -> str:
    try:
        return readme.read_bytes().decode("utf-8")
    except OSError as exc:
        raise CaseError(f"{readme} cannot be read ({exc.strerror}): check the path") from exc


def _replaced(readme: Path, text: str, block: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CaseError(f"{readme.name} has no place for the figures: add the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"
