"""The report as one HTML page that needs nothing else: no font, no script and no picture from outside.

Whatever comes from a transcript, a question or a reply is escaped; the script reads attributes only.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from eval.report import published_table, shown
from eval.runner import VERDICTS

_HEADLINE = ("right", "reader/sentence/hit@1", "avna", "auroc", "quote_exactness")
_MEANING = {
    "failed": "no readable reply",
    "answered": "though the transcript does not say",
    "wrong quote": "something else was quoted",
    "declined": "though the transcript does say",
    "partly": "only some parts were quoted",
    "right": "quoted, or rightly declined",
}
_STYLE, _SCRIPT = (
    (Path(__file__).parent / "data" / name).read_text(encoding="utf-8")
    for name in ("report.css", "report.js")
)
MOST_CASES = 2_000
"""A page lists this many cases, worst first; the JSON holds every one."""


def render_page(report: Mapping[str, Any]) -> str:
    """The whole page."""
    suite = report["suite"]
    body = [
        f"<header><p class=kicker>On Record · evaluation</p><h1>{_e(suite['title'])}</h1>",
        f"<p class=lead>{_e(suite['about'])}</p></header>",
        _headline(report),
        _section("Figures", _figures(report)),
        _section("Beside others", _published(report)) if report["published"] else "",
        _section("The ladder", _ladder(report)) if report["ladder"] else "",
        _section("In pictures", _pictures(report)),
        _section("By kind of question", _kinds(report)),
        _section("Every case", _cases(report)),
        f"<footer>{''.join(f'<p>{_e(note)}</p>' for note in suite['notes'])}"
        f"<p>Made {_e(report['run']['made'])} in {report['run']['seconds']:g} s. "
        f"Digest of the figures <code>{_e(report['digest'][:16])}</code>: "
        "equal digests are equal figures.</p></footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_e(suite['title'])} · evaluation</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main><script>{_SCRIPT}</script></body></html>"
    )


def _e(words: object) -> str:
    return escape(str(words), quote=True)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_e(title)}</h2>{body}</section>"


def _headline(report: Mapping[str, Any]) -> str:
    split = "test" if "test" in report["figures"] else "all"
    found = {f["name"]: f for f in report["figures"][split]}
    cards = [
        f"<div class=card><b>{shown(found[name]['value'])}</b>{_interval(found[name])}"
        f"<span>{_e(found[name]['label'])}</span>"
        f"<small>{_range(found[name])} · {found[name]['n']} cases</small></div>"
        for name in _HEADLINE
        if name in found and found[name]["value"] is not None
    ]
    caption = "The test split; only the other one may be tuned on." if split == "test" else "All cases."
    caption += " Bars are 95 % bootstrap intervals."
    return f"<div class=cards>{''.join(cards)}</div><p class=caption>{caption}</p>"


def _range(found: Mapping[str, Any]) -> str:
    return "no interval" if found["low"] is None else f"{shown(found['low'])}–{shown(found['high'])}"


def _interval(found: Mapping[str, Any]) -> str:
    """A figure on a scale from 0 to 1: a dot on its interval."""
    value = found["value"]
    if value is None:
        return ""
    low, high = (value, value) if found["low"] is None else (found["low"], found["high"])
    place, start, width = (100 * min(1.0, max(0.0, v)) for v in (value, low, high - low))
    return (
        '<svg class=interval viewBox="-3 0 106 8" preserveAspectRatio="xMinYMid" aria-hidden=true>'
        '<path class=scale d="M0 4H100"/>'
        f'<path class=range d="M{start:.1f} 4h{max(width, 0.1):.1f}"/>'
        f'<circle cx="{place:.1f}" cy="4" r="3"/></svg>'
    )


def _figures(report: Mapping[str, Any]) -> str:
    figures = report["figures"]
    splits = list(figures)
    out = [
        f"<table><thead><tr><th><th>{''.join(f'<th class=n>{s}' for s in splits)}<th class=n>n</thead><tbody>"
    ]
    group = None
    for place, row in enumerate(figures["all"]):
        if row["value"] is None:
            continue
        if row["group"] != group:
            group = row["group"]
            out.append(f"<tr class=group><th colspan={len(splits) + 3}>{_e(group)}")
        cells = "".join(
            f"<td class=n>{shown(figures[s][place]['value'])}<small>{_range(figures[s][place])}</small>"
            for s in splits
        )
        arrow = " <abbr title='less is better'>↓</abbr>" if row["better"] == "lower" else ""
        out.append(
            f"<tr><th scope=row>{_e(row['label'])}{arrow}<td>{_interval(row)}{cells}<td class=n>{row['n']}"
        )
    return "".join(out) + "</tbody></table>"


def _published(report: Mapping[str, Any]) -> str:
    head, _, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in published_table(report)]
    out = [f"<table><thead><tr>{''.join(f'<th class=n>{_e(c)}' for c in head)}</thead><tbody>"]
    for place, row in enumerate(rows):
        name, *cells = row
        cells_html = "".join(f"<td class=n>{_e(c)}" for c in cells)
        out.append(f"<tr{' class=ours' if not place else ''}><th scope=row>{_e(name.strip('*'))}{cells_html}")
    return "".join(out) + "</tbody></table>"


def _ladder(report: Mapping[str, Any]) -> str:
    out = [
        "<p>The same questions, each rung ranking the same sentences. "
        "A window is a sentence with its neighbours.</p>"
    ]
    for unit, title in (
        ("window", "A window of three holds the evidence"),
        ("sentence", "The sentence itself is the evidence"),
    ):
        rungs = [r for r in report["ladder"] if r["unit"] == unit]
        if not rungs or not rungs[0]["figures"][0]["n"]:
            continue
        names = "".join(f"<th class=n>{_e(f['label'])}" for f in rungs[0]["figures"])
        out.append(f"<table><caption>{title}</caption><thead><tr><th><th>{names}</thead><tbody>")
        for place, rung in enumerate(rungs):
            first = rung["figures"][0]
            cells = "".join(f"<td class=n>{shown(f['value'])}" for f in rung["figures"])
            ours = " class=ours" if place == len(rungs) - 1 else ""
            out.append(f"<tr{ours}><th scope=row>{_e(rung['rung'])}<td>{_interval(first)}{cells}")
        out.append("</tbody></table>")
    return "".join(out)


def _pictures(report: Mapping[str, Any]) -> str:
    captions = {
        "recall": "How much of the evidence the first k passages hold, by rung.",
        "risk_coverage": "If only the most confident share were answered, how many answers would be wrong.",
        "reliability": "Whether a stated confidence of 0.8 means that 8 of 10 such questions have an answer.",
        "latency": "How long a whole reply takes.",
    }
    figures = [
        f"<figure>{report['plots'][name]}<figcaption>{caption}</figcaption></figure>"
        for name, caption in captions.items()
        if report["plots"].get(name)
    ]
    return f"<div class=plots>{''.join(figures)}</div>"


def _kinds(report: Mapping[str, Any]) -> str:
    out = ["<table class=kinds><thead><tr><th><th>verdicts<th class=n>right<th class=n>n</thead><tbody>"]
    for kind in report["kinds"]:
        bars = "".join(
            f'<i class="v {v.replace(" ", "-")}" style="flex:{kind["verdicts"][v]}" '
            f'title="{kind["verdicts"][v]} {v}"></i>'
            for v in reversed(VERDICTS)
            if kind["verdicts"][v]
        )
        share = kind["verdicts"]["right"] / kind["n"]
        out.append(
            f"<tr><th scope=row>{_e(kind['kind'])}<td><span class=bar>{bars}</span>"
            f"<td class=n>{shown(share, 2)}<td class=n>{kind['n']}"
        )
    legend = "".join(
        f'<li><i class="v {v.replace(" ", "-")}"></i><b>{v}</b> {_MEANING[v]}</li>'
        for v in reversed(VERDICTS)
    )
    return "".join(out) + f"</tbody></table><ul class=legend>{legend}</ul>"


# Cases -------------------------------------------------------------------------------------


def _cases(report: Mapping[str, Any]) -> str:
    cases = report["cases"][:MOST_CASES]
    kinds = sorted({c["kind"] for c in cases})
    verdicts = [v for v in VERDICTS if any(c["verdict"] == v for c in cases)]
    rest = len(report["cases"]) - len(cases)
    note = f"<p class=caption>The {rest:,} cases that follow are in the JSON file.</p>" if rest else ""
    return (
        "<form class=filters onsubmit='return false'>"
        f"{_select('verdict', 'any verdict', verdicts)}{_select('kind', 'any kind', kinds)}"
        "<input type=search name=words placeholder='words in the case' aria-label='words in the case'>"
        "<button type=button name=toggle>Open all</button><output></output></form>"
        f"<div id=cases>{''.join(map(_case, cases))}</div>{note}"
    )


def _select(name: str, every: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{_e(v)}</option>" for v in values)
    return f"<select name={name} aria-label={name}><option value=''>{every}</option>{options}</select>"


def _case(entry: Mapping[str, Any]) -> str:
    reply = entry["reply"]
    confidence = f" · confidence {reply['confidence']:.2f}" if reply else ""
    history = "".join(f"<li>{_e(h)}" for h in entry["history"])
    return (
        f'<details data-kind="{_e(entry["kind"])}" data-verdict="{_e(entry["verdict"])}"><summary>'
        f'<i class="v {_e(entry["verdict"].replace(" ", "-"))}">{_e(entry["verdict"])}</i>'
        f"<q>{_e(entry['question'])}</q><small>{_e(entry['id'])} · {_e(entry['kind'])} · "
        f"{_e(entry['split'])}{confidence}</small></summary>"
        + (f"<p>After these questions:</p><ol class=history>{history}</ol>" if history else "")
        + f"<div class=sides><div><h3>Should quote</h3>{_gold(entry)}</div>"
        f"<div><h3>Said</h3>{_said(entry)}</div></div></details>"
    )


def _gold(entry: Mapping[str, Any]) -> str:
    if not entry["answerable"]:
        return f"<p>Nothing: {_e(str(entry['reason'] or 'no answer').replace('_', ' '))}.</p>"
    parts = "<hr>".join("<p class=or>or</p>".join(map(_quote, _least(part))) for part in entry["gold"])
    short = f"<p class=short>{_e(' / '.join(entry['short']))}</p>" if entry["short"] else ""
    return short + parts


def _least(part: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The passages of a part without those that contain another one whole."""
    return [
        a for a in part if not any(b != a and a["start"] <= b["start"] and b["end"] <= a["end"] for b in part)
    ]


def _said(entry: Mapping[str, Any]) -> str:
    reply = entry["reply"]
    if not reply:
        return f"<p>{_e(entry['error'] or 'Not asked: only its passages were looked for.')}</p>"
    if reply["reply"] == "abstention":
        nearest = "".join(map(_quote, reply.get("nearest", [])[:1]))
        return f"<p>Declined: {_e(str(reply.get('reason', '')).replace('_', ' '))}. Nearest:</p>{nearest}"
    short = [s["short_answer"]["text"] for s in reply["statements"] if s.get("short_answer")]
    head = f"<p class=short>{_e(' / '.join(short))}</p>" if short else ""
    return head + "".join(_quote(q) for s in reply["statements"] for q in s["quotes"])


def _quote(quote: Mapping[str, Any]) -> str:
    place = f"{quote['start']}–{quote['end']}"
    source = f"{_e(quote['speaker'])} · {place}" if quote["speaker"] else place
    return f"<blockquote>{_e(quote['text'])}<cite>{source}</cite></blockquote>"
