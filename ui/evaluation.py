"""The Evaluation tab: the last report as HTML.

It knows the report's JSON and nothing else of the evaluation. What the file holds is text to be
escaped, or one of its plots, which are shown only where they are drawings and nothing more.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ui.render import percent

Entry = Mapping[str, Any]

FORMAT = 1
MOST_CASES = 500
"""The tab lists this many cases, worst first; the report's own page lists more."""

_CAPTIONS = {
    "recall": "How much of the evidence the first k passages hold.",
    "risk_coverage": "How many answers would be wrong if only the most confident share were given.",
    "reliability": "Whether a stated confidence of 0.8 means that 8 of 10 such questions have an answer.",
    "latency": "How long a reply takes.",
}
_DRAWING = frozenset({"svg", "g", "path", "line", "polyline", "circle", "rect", "text", "tspan", "title"})


def render_evaluation(path: Path) -> str:
    """The report in `path` as HTML; where there is none that can be read, how to make one."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _missing("There is no report yet.")
    except (OSError, ValueError):
        return _missing(f"The report {path.name} cannot be read.")
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        return _missing(f"{path.name} is not a report of this version.")
    try:
        return _report(report)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return _missing(f"The report {path.name} is damaged.")


def _missing(fact: str) -> str:
    return (
        f'<div class="report"><header><h2>Evaluation</h2><p class="about">{escape(fact)} '
        "Run <code>onrecord eval</code>, then open this tab again.</p></header></div>"
    )


def _report(report: Entry) -> str:
    suite, run = report["suite"], report["run"]
    notes = "".join(f"<p>{escape(note)}</p>" for note in suite["notes"])
    return (
        f'<div class="report"><header><p class="label">Evaluation</p><h2>{escape(suite["title"])}</h2>'
        f'<p class="about">{escape(suite["about"])}</p></header>'
        f"{_figures(report['figures'])}{_plots(report['plots'])}{_ladder(report['ladder'])}"
        f"{_kinds(report['kinds'])}{_cases(report['cases'])}"
        f"<footer>{notes}<p>Made {escape(str(run['made']))} in {float(run['seconds']):g} s. Digest of the "
        f"figures: <code>{escape(str(report['digest'])[:16])}</code></p></footer></div>"
    )


def _figures(figures: Mapping[str, Sequence[Entry]]) -> str:
    splits = list(figures)
    rows: list[str] = []
    group = None
    for number, figure in enumerate(figures["all"]):
        if figure["value"] is None:
            continue
        if figure["group"] != group:
            group = figure["group"]
            rows.append(
                f'<tr class="group"><th colspan="{len(splits) + 2}" scope="colgroup">'
                f"{escape(str(group))}</th></tr>"
            )
        cells = "".join(f"<td>{_with_interval(figures[split][number])}</td>" for split in splits)
        lower = " <small>less is better</small>" if figure["better"] == "lower" else ""
        n = f"<td>{int(figure['n']):,}</td>"
        rows.append(f'<tr><th scope="row">{escape(figure["label"])}{lower}</th>{cells}{n}</tr>')
    names = {"all": "all cases", "dev": "development", "test": "test"}
    head = "".join(f'<th scope="col">{escape(names.get(split, split))}</th>' for split in splits)
    return (
        '<section><h3>Figures</h3><p class="caption">With 95 % bootstrap intervals.</p>'
        f'<table><thead><tr><td></td>{head}<th scope="col">n</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def _with_interval(figure: Entry) -> str:
    if figure["low"] is None:
        return _number(figure["value"])
    return f"{_number(figure['value'])}<small>{_number(figure['low'])}–{_number(figure['high'])}</small>"


def _number(value: float | None) -> str:
    """A figure; what is undefined is a dash, never 0."""
    return "–" if value is None else f"{value:.3f}"


def _plots(plots: Mapping[str, str]) -> str:
    figures = "".join(
        f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
        for name, caption in _CAPTIONS.items()
        if (svg := plots.get(name, "")) and _is_drawing(svg)
    )
    return f'<section><h3>Plots</h3><div class="plots">{figures}</div></section>' if figures else ""


def _is_drawing(svg: str) -> bool:
    """Whether an SVG only draws: no script, no handler, nothing fetched."""
    try:
        elements = list(ElementTree.fromstring(svg).iter())
    except ElementTree.ParseError:
        return False
    return all(
        element.tag.rpartition("}")[2] in _DRAWING
        and not any(name.lower().startswith("on") or "href" in name for name in element.attrib)
        and not any("url(" in value for value in element.attrib.values())
        for element in elements
    )


def _ladder(ladder: Sequence[Entry]) -> str:
    rungs = [rung for rung in ladder if rung["unit"] == "window" and rung["figures"][0]["n"]]
    if not rungs:
        return ""
    head = "".join(f'<th scope="col">{escape(figure["label"])}</th>' for figure in rungs[0]["figures"])
    rows = "".join(
        _row(rung["rung"], [_number(figure["value"]) for figure in rung["figures"]]) for rung in rungs
    )
    return (
        '<section><h3>The ladder</h3><p class="caption">The same questions, each rung ranking the same '
        "sentences; found where the sentence or a neighbour is the evidence.</p>"
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _kinds(kinds: Sequence[Entry]) -> str:
    if not kinds:
        return ""
    verdicts = list(kinds[0]["verdicts"])[::-1]
    head = "".join(f'<th scope="col">{escape(verdict)}</th>' for verdict in verdicts)
    rows = "".join(
        _row(
            kind["kind"],
            [*(str(int(kind["verdicts"][verdict]) or "–") for verdict in verdicts), str(int(kind["n"]))],
        )
        for kind in kinds
    )
    return (
        f'<section><h3>By kind of question</h3><table><thead><tr><td></td>{head}<th scope="col">n</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></section>"
    )


def _row(name: str, cells: Sequence[str]) -> str:
    """A table's row; the cells are HTML, the name is not."""
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


# Cases -------------------------------------------------------------------------------------


def _cases(cases: Sequence[Entry]) -> str:
    listed = cases[:MOST_CASES]
    rest = len(cases) - len(listed)
    more = f'<p class="caption">{rest:,} more stand in the report’s own page.</p>' if rest else ""
    return (
        '<section class="cases"><h3>Cases</h3><div class="filters">'
        f"{_select('verdict', 'Any verdict', [case['verdict'] for case in listed])}"
        f"{_select('kind', 'Any kind', sorted(case['kind'] for case in listed))}"
        f'<output aria-live="polite">{len(listed):,} cases</output></div>'
        f"{''.join(map(_case, listed))}{more}</section>"
    )


def _select(name: str, every: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{escape(value)}</option>" for value in dict.fromkeys(values))
    options = f'<option value="">{every}</option>{options}'
    return f'<select data-filter="{name}" aria-label="{every}">{options}</select>'


def _case(case: Entry) -> str:
    verdict = str(case["verdict"])
    history = "".join(f"<li>{escape(question)}</li>" for question in case["history"])
    after = (
        f'<p class="caption">After these questions:</p><ol class="history">{history}</ol>' if history else ""
    )
    return (
        f'<details class="case" data-verdict="{escape(verdict)}" data-kind="{escape(case["kind"])}"><summary>'
        f'<span class="verdict{" right" if verdict == "right" else ""}">{escape(verdict)}</span>'
        f'<span class="asked" dir="auto">{escape(case["question"])}</span>'
        f"<small>{escape(case['kind'])}, {escape(case['id'])}</small></summary>{after}"
        f'<div class="sides"><div><h4>Should quote</h4>{_gold(case)}</div>'
        f"<div><h4>Was said</h4>{_said(case)}</div></div></details>"
    )


def _gold(case: Entry) -> str:
    if not case["answerable"]:
        return f"<p>Nothing: {escape(str(case['reason'] or 'no answer').replace('_', ' '))}.</p>"
    return "<hr>".join('<p class="or">or</p>'.join(map(_quote, part)) for part in case["gold"])


def _said(case: Entry) -> str:
    reply = case["reply"]
    if not reply:
        return f"<p>{escape(str(case['error'] or 'Not asked.'))}</p>"
    confidence = f'<p class="caption">Confidence {percent(reply["confidence"])}</p>'
    if reply["reply"] == "abstention":
        reason = escape(str(reply["reason"]).replace("_", " "))
        return f"<p>Declined: {reason}.</p>{confidence}"
    return "".join(_quote(q) for said in reply["statements"] for q in said["quotes"]) + confidence


def _quote(quote: Entry) -> str:
    return (
        f'<blockquote dir="auto">{escape(quote["text"])}</blockquote>'
        f'<p class="caption">{escape(quote["speaker"])}</p>'
    )
