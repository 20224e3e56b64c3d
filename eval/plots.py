"""The report's plots, as SVG that stands alone, follows the page's light or dark, and reads in print.

Colours are CSS variables with a fallback, so a page may set `--accent`, `--muted` and `--rule`.
"""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 44, 112, 16, 42
Point = tuple[float, float]

_ACCENT = "var(--accent,#1a56db)"
_MUTED = "var(--muted,#6b7280)"
_RULE = "var(--rule,#d8dce3)"
_DASHES = ("1 4", "6 4", "10 3 2 3", "3 2", "")


def recall_plot(curves: Mapping[str, Sequence[float | None]]) -> str:
    """Recall at 1, 2, ... for each rung; the last one is the program's answer and stands out."""
    lines = {
        name: [(float(k), value) for k, value in enumerate(values, 1) if value is not None]
        for name, values in curves.items()
    }
    depth = max((len(v) for v in curves.values()), default=1)
    lowest = min((y for points in lines.values() for _, y in points), default=0.0)
    frame = _Frame(x=(1, max(depth, 2)), y=(min(0.9, int(lowest * 10) / 10), 1))
    body = [
        frame.axes(
            "k, the number of passages read", "share of the evidence found", [1, 3, 5, 10], _steps(frame.y)
        )
    ]
    ends: list[tuple[float, str, bool]] = []
    for place, (name, points) in enumerate(lines.items()):
        main = place == len(lines) - 1
        body.append(frame.line(points, main=main, dash="" if main else _DASHES[place % 4]))
        if points:
            ends.append((frame.at(points[-1])[1], name, main))
    body.append(_labels(ends, frame.right + 8))
    return _svg("Recall at k", body)


def risk_coverage_plot(points: Sequence[Point]) -> str:
    """The share of errors among the most confident share of the cases."""
    worst = max((risk for _, risk in points), default=0.0)
    frame = _Frame(x=(0, 1), y=(0, max(0.1, min(1.0, int(worst * 10 + 1) / 10))), right=WIDTH - 16)
    body = [frame.axes("coverage, most confident first", "risk", [0, 0.25, 0.5, 0.75, 1], _steps(frame.y))]
    body.append(frame.line(points, main=True))
    return _svg("Risk and coverage", body)


def reliability_plot(bins: Sequence[tuple[float, float, int]]) -> str:
    """Share of answerable questions against the confidence stated; dots grow with their counts."""
    frame = _Frame(x=(0, 1), y=(0, 1), right=WIDTH - 16)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    body = [frame.axes("confidence stated", "share that has an answer", ticks, ticks)]
    body.append(frame.line([(0, 0), (1, 1)], main=False, dash="4 4"))
    total = sum(count for _, _, count in bins) or 1
    for mean, share, count in bins:
        x, y = frame.at((mean, share))
        radius = 3 + 13 * (count / total) ** 0.5
        body.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" '
            f'style="fill:{_ACCENT};fill-opacity:.35;stroke:{_ACCENT}"><title>{count} cases</title></circle>'
        )
    return _svg("Reliability", body)


def latency_plot(milliseconds: Sequence[float]) -> str:
    """How long replies took, as a histogram with the median and the 95th percentile."""
    ordered = sorted(milliseconds)
    if not ordered:
        return ""
    median, late = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.95))
    widest = max(late * 1.25, 1e-3)
    bars = 24
    counts = [0] * bars
    for value in ordered:
        counts[min(bars - 1, int(value / widest * bars))] += 1
    frame = _Frame(x=(0, widest), y=(0, max(counts)), right=WIDTH - 16)
    step = _round_step(widest / 4)
    ticks = [i * step for i in range(int(widest / step) + 1)]
    body = [
        frame.axes(
            "milliseconds for a reply (the last bar holds all that took longer)",
            "replies",
            ticks,
            [0, max(counts)],
        )
    ]
    for i, count in enumerate(counts):
        x0, y0 = frame.at((widest * i / bars, count))
        x1, base = frame.at((widest * (i + 1) / bars, 0))
        body.append(
            f'<rect x="{x0 + 1:.1f}" y="{y0:.1f}" width="{x1 - x0 - 2:.1f}" height="{base - y0:.1f}" '
            f'style="fill:{_ACCENT};fill-opacity:.55"/>'
        )
    for value, name, row in ((median, "median", 0), (late, "95 %", 1)):
        x, top = frame.at((value, max(counts)))
        side, anchor = (5, "start") if value < 0.7 * widest else (-5, "end")
        body.append(
            f'<path d="M{x:.1f} {top:.1f}V{frame.bottom}" style="stroke:currentColor;stroke-dasharray:2 3"/>'
        )
        body.append(
            f'<text x="{x + side:.1f}" y="{top + 10 + 14 * row:.1f}" text-anchor="{anchor}" '
            f'style="fill:currentColor">'
            f"{name} {value:.0f} ms</text>"
        )
    return _svg("Latency", body)


class _Frame:
    """The plotting area: from values to places in the drawing."""

    def __init__(self, *, x: Point, y: Point, right: float = WIDTH - RIGHT) -> None:
        self.x, self.y, self.right, self.bottom = x, y, right, HEIGHT - BOTTOM

    def at(self, point: Point) -> Point:
        across = (point[0] - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (point[1] - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return LEFT + across * (self.right - LEFT), self.bottom - up * (self.bottom - TOP)

    def axes(self, x_label: str, y_label: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
        parts = []
        for tick in y_ticks:
            _, y = self.at((self.x[0], tick))
            parts.append(f'<path d="M{LEFT} {y:.1f}H{self.right}" style="stroke:{_RULE}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
        for tick in x_ticks:
            if self.x[0] <= tick <= self.x[1]:
                x, _ = self.at((tick, self.y[0]))
                parts.append(
                    f'<text x="{x:.1f}" y="{self.bottom + 17}" text-anchor="middle">{_number(tick)}</text>'
                )
        middle = (LEFT + self.right) / 2
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
        parts.append(f'<text x="{LEFT + 4}" y="{TOP - 5}">{escape(y_label)}</text>')
        return "".join(parts)

    def line(self, points: Sequence[Point], *, main: bool, dash: str = "") -> str:
        if not points:
            return ""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in map(self.at, points))
        colour, width = (_ACCENT, 2.5) if main else (_MUTED, 1.5)
        dashes = f";stroke-dasharray:{dash}" if dash else ""
        style = f"fill:none;stroke:{colour};stroke-width:{width};stroke-linejoin:round{dashes}"
        return f'<path d="M{path}" style="{style}"/>'


def _labels(ends: Sequence[tuple[float, str, bool]], x: float) -> str:
    """Names at the ends of lines, moved apart where they would touch."""
    parts = []
    lowest = -100.0
    for y, name, main in sorted(ends):
        lowest = max(y + 4, lowest + 14)
        style = f"fill:{_ACCENT};font-weight:600" if main else f"fill:{_MUTED}"
        parts.append(f'<text x="{x:.1f}" y="{lowest:.1f}" style="{style}">{escape(name)}</text>')
    return "".join(parts)


def _svg(title: str, body: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" style="width:100%;height:auto;font:11.5px system-ui,sans-serif">'
        f'<g style="fill:{_MUTED}">{"".join(body)}</g></svg>'
    )


def _steps(y: Point) -> list[float]:
    size = 0.1 if y[1] - y[0] <= 0.5 else 0.2
    return [round(y[0] + i * size, 2) for i in range(int((y[1] - y[0]) / size + 1.001))]


def _round_step(rough: float) -> float:
    power = 10.0 ** (len(str(int(rough))) - 1) if rough >= 1 else 0.1
    return next(power * m for m in (1, 2, 5, 10) if power * m >= rough)


def _number(value: float) -> str:
    return f"{value:g}"
