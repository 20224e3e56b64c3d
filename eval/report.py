"""A run's report: one JSON object, from which the page, the Markdown and README's table are made.

format          1
suite           {name, title, about, notes: [...], transcript_id}
figures         {"all" | "dev" | "test": [{name, label, group, better, value, low, high, n}]}
                value, low and high are null where undefined
ladder          [{rung, unit: "sentence" | "window", figures: [...]}], over all cases
kinds           [{kind, n, verdicts: {verdict: count}}]
published       [{system, values: {name: value}, note}], names as in figures or the ladder
curves          {recall: {rung: [at 1, at 2, ...]}, risk_coverage: [[coverage, risk]],
                 reliability: [[confidence, share, count]]}
plots           {recall, risk_coverage, reliability, latency}: SVG, each usable by itself
cases           [{id, kind, split, question, history, answerable, reason, gold: [[quote]], short,
                  reply, error, verdict, scores: {column: value}}], worst verdict first;
                a column that is undefined for a case is left out of its scores;
                reply is the object of `onrecord ask --json` without hits and timings
digest          SHA-256 of all of the above but plots: equal digests are equal figures
latency_ms      {median, p95, max}; the only part, with `plots.latency` and `run`, that differs
                from run to run
run             {made, seconds}
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eval import metrics, plots
from eval.cases import CaseError
from eval.measures import MEASURES, Columns, Measure, figure, ladder_measures
from eval.runner import DEPTH, VERDICTS, Outcome

FORMAT = 1
Report = dict[str, Any]
_MOST_POINTS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Another system's figures on the same questions, by the name of the measure."""

    system: str
    values: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What was measured."""

    name: str
    title: str
    about: str
    transcript_id: str = ""
    notes: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    measures: tuple[Measure, ...] = field(default=MEASURES)


def make_report(about: About, outcomes: Sequence[Outcome], rungs: Sequence[str], seconds: float) -> Report:
    """The report of a run. Everything but times is the same for the same outcomes."""
    entries = sorted((_entry(o) for o in outcomes), key=lambda e: VERDICTS.index(e["verdict"]))
    columns = Columns([e["scores"] for e in entries])
    splits = {"all": columns}
    for split in ("dev", "test"):
        chosen = [e["scores"] for e in entries if e["split"] == split]
        if chosen and len(chosen) < len(entries):
            splits[split] = Columns(chosen)
    curves = _curves(columns, rungs)
    report: Report = {
        "format": FORMAT,
        "suite": {
            "name": about.name,
            "title": about.title,
            "about": about.about,
            "notes": list(about.notes),
            "transcript_id": about.transcript_id,
        },
        "figures": {
            split: [asdict(figure(measure, cols)) for measure in about.measures]
            for split, cols in splits.items()
        },
        "ladder": [
            {"rung": rung, "unit": unit, "figures": [asdict(figure(m, columns)) for m in measures]}
            for (rung, unit), measures in ladder_measures(rungs).items()
        ],
        "kinds": _kinds(entries),
        "published": [
            {"system": p.system, "values": dict(p.values), "note": p.note} for p in about.published
        ],
        "curves": curves,
        "cases": entries,
    }
    report["digest"] = hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()
    latencies = sorted(o.latency_ms for o in outcomes if o.latency_ms)
    report["plots"] = {
        "recall": plots.recall_plot(curves["recall"]) if rungs else "",
        "risk_coverage": plots.risk_coverage_plot(curves["risk_coverage"]) if latencies else "",
        "reliability": plots.reliability_plot(curves["reliability"]) if latencies else "",
        "latency": plots.latency_plot(latencies),
    }
    report["latency_ms"] = _latency(latencies)
    report["run"] = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 1)}
    return report


def _entry(outcome: Outcome) -> dict[str, Any]:
    case = outcome.case
    said = {k: v for k, v in (outcome.said or {}).items() if k not in ("hits", "timings_ms")}
    scores = {**outcome.scores, "right": float(outcome.verdict == "right")}
    return {
        "id": case.case_id,
        "kind": case.kind,
        "split": case.split,
        "question": case.question,
        "history": list(case.history),
        "answerable": case.answerable,
        "reason": case.reason,
        "gold": [list(part) for part in outcome.gold],
        "short": list(case.short),
        "reply": said or None,
        "error": outcome.error,
        "verdict": outcome.verdict,
        "scores": {k: round(v, 6) for k, v in scores.items() if v is not None},
    }


def _kinds(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    kinds: dict[str, dict[str, int]] = {}
    for kind in dict.fromkeys(sorted(e["kind"] for e in entries)):
        verdicts = [e["verdict"] for e in entries if e["kind"] == kind]
        kinds[kind] = {v: verdicts.count(v) for v in VERDICTS}
    ordered = sorted(kinds.items(), key=lambda item: -item[1]["right"] / sum(item[1].values()))
    return [{"kind": kind, "n": sum(verdicts.values()), "verdicts": verdicts} for kind, verdicts in ordered]


def _curves(columns: Columns, rungs: Sequence[str]) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        values = columns[name][~np.isnan(columns[name])]
        return round(float(values.mean()), 6) if len(values) else None

    asked = ~np.isnan(columns["confidence"])
    confidence = columns["confidence"][asked]
    right = columns["first_is_right"][asked] > 0.5
    risks = metrics.risk_coverage(confidence, right)
    thin = max(1, len(risks) // _MOST_POINTS)
    return {
        "recall": {r: [mean(f"{r}/window/recall@{k}") for k in range(1, DEPTH + 1)] for r in rungs},
        "risk_coverage": [[round(c, 6), round(r, 6)] for c, r in [*risks[:-1:thin], *risks[-1:]]],
        "reliability": [
            [round(mean_, 6), round(share, 6), count]
            for mean_, share, count in metrics.reliability(confidence, columns["answerable"][asked] > 0.5)
        ],
    }


def _latency(latencies: Sequence[float]) -> dict[str, float]:
    if not latencies:
        return {}
    median, p95 = np.percentile(latencies, [50, 95])
    return {"median": round(float(median), 1), "p95": round(float(p95), 1), "max": round(latencies[-1], 1)}


# Files -------------------------------------------------------------------------------------


def save_report(report: Report, folder: Path) -> dict[str, Path]:
    """Write `<suite>.json`, `.md` and `.html` into `folder`, and say where each is."""
    from eval.page import render_page

    name = report["suite"]["name"]
    texts = {
        "json": _json(report),
        "md": render_markdown(report),
        "html": render_page(report),
    }
    paths = {kind: folder / f"{name}.{kind}" for kind in texts}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, text in texts.items():
            paths[kind].write_text(text + "\n", encoding="utf-8", newline="")
    except OSError as exc:
        raise CaseError(
            f"the report cannot be written to {folder} ({exc.strerror}): choose another folder"
        ) from exc
    return paths


def _json(report: Report) -> str:
    """One line for each key, and for each case, so that two reports can be compared by eye."""
    lines = []
    for key, value in report.items():
        if key == "cases":
            cases = ",\n".join(json.dumps(case, ensure_ascii=False) for case in value)
            lines.append(f'"cases": [\n{cases}\n]')
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}"


def load_report(path: Path) -> Report:
    """A report that `save_report` wrote; `CaseError` for any other file."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise CaseError(f"{path} cannot be read ({exc.strerror}): give the JSON file of a report") from exc
    except ValueError:
        report = None
    if not isinstance(report, dict) or not {"suite", "figures", "cases"} <= report.keys():
        raise CaseError(f"{path.name} is not a report: give the JSON file that 'onrecord eval' wrote")
    if report.get("format") != FORMAT:
        raise CaseError(
            f"{path.name} was written by another version of the program: run 'onrecord eval' again"
        )
    return report


# Markdown ----------------------------------------------------------------------------------


def shown(value: float | None, digits: int = 3) -> str:
    """A figure as it is printed; what is undefined is a dash, never 0."""
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(found: Mapping[str, Any]) -> str:
    """A figure with its interval: `0.812 (0.750–0.868)`."""
    interval = "" if found["low"] is None else f" ({shown(found['low'])}–{shown(found['high'])})"
    return f"{shown(found['value'])}{interval}"


def figure_table(report: Mapping[str, Any]) -> list[str]:
    """The headline table in Markdown: all cases, and each split where there are two."""
    splits = list(report["figures"])
    lines = [f"| | {' | '.join(f'{s} cases' for s in splits)} | n |", "|---|" + "---:|" * (len(splits) + 1)]
    for place, row in enumerate(report["figures"]["all"]):
        if row["value"] is None:
            continue
        cells = [with_interval(report["figures"][s][place]) for s in splits]
        lines.append(
            f"| {row['label']}{' ↓' if row['better'] == 'lower' else ''} | {' | '.join(cells)} | {row['n']} |"
        )
    return lines


def ladder_table(report: Mapping[str, Any], unit: str = "window") -> list[str]:
    """The ladder in Markdown."""
    rungs = [r for r in report["ladder"] if r["unit"] == unit and r["figures"][0]["n"]]
    if not rungs:
        return []
    names = [f["label"] for f in rungs[0]["figures"]]
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    lines += [f"| {r['rung']} | {' | '.join(shown(f['value']) for f in r['figures'])} |" for r in rungs]
    return lines


def published_table(report: Mapping[str, Any]) -> list[str]:
    """Our figures beside those that others published, where there are any."""
    if not report["published"]:
        return []
    ours = {f["name"]: f for f in report["figures"]["all"]}
    ours |= {f["name"]: f for r in report["ladder"] for f in r["figures"]}
    names = list(dict.fromkeys(n for p in report["published"] for n in p["values"] if n in ours))
    lines = [
        f"| | {' | '.join(_heading(ours[n]) for n in names)} | |",
        "|---|" + "---:|" * len(names) + "---|",
        f"| **On Record** | {' | '.join(shown(ours[n]['value']) for n in names)} | |",
    ]
    lines += [
        f"| {p['system']} | {' | '.join(shown(p['values'].get(n)) for n in names)} | {p['note']} |"
        for p in report["published"]
    ]
    return lines


def _heading(found: Mapping[str, Any]) -> str:
    rung = found["name"].split("/")[0] if "/" in found["name"] else ""
    return f"{found['label']}{f' ({rung})' if rung and rung != 'reader' else ''}"


def render_markdown(report: Report) -> str:
    """The report in Markdown: tables, and every case that is not right."""
    suite, latency = report["suite"], report["latency_ms"]
    lines = [f"# {suite['title']}", "", suite["about"], ""]
    lines += [*figure_table(report), ""]
    if table := published_table(report):
        lines += ["## Beside others", "", *table, ""]
    if table := ladder_table(report):
        lines += ["## The ladder: a window of three sentences holds the evidence", "", *table, ""]
    lines += ["## By kind", "", f"| | n | {' | '.join(VERDICTS)} |", "|---|" + "---:|" * (len(VERDICTS) + 1)]
    for kind in report["kinds"]:
        lines.append(
            f"| {kind['kind']} | {kind['n']} | {' | '.join(str(kind['verdicts'][v]) for v in VERDICTS)} |"
        )
    if latency:
        lines += [
            "",
            f"A reply took {latency['median']} ms at the median, {latency['p95']} ms at the 95th percentile.",
        ]
    lines += [f"- {note}" for note in ("", *suite["notes"])][1:]
    lines += ["", "## Cases", "", "| verdict | case | question | reply |", "|---|---|---|---|"]
    for entry in report["cases"]:
        cells = (entry["verdict"], entry["id"], entry["question"], reply_in_words(entry))
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def reply_in_words(entry: Mapping[str, Any]) -> str:
    """What was said to a case, in one line."""
    reply = entry["reply"]
    if not reply:
        return f"failed: {entry['error']}" if entry["error"] else ""
    if reply["reply"] == "abstention":
        return f"declined: {str(reply.get('reason', '')).replace('_', ' ')}"
    return " ".join(str(statement.get("text", "")) for statement in reply["statements"])


def _cell(words: str) -> str:
    flat = " ".join(words.split())
    flat = flat if len(flat) <= 200 else flat[:199] + "…"
    for character in "\\|<>*_`[]":
        flat = flat.replace(character, f"\\{character}")
    return flat
