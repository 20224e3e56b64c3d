"""Thresholds in a file, so that continuous integration can refuse a regression."""

import tomllib
from pathlib import Path
from typing import Any

from eval.cases import CaseError
from eval.report import Report

DEFAULT = Path(__file__).with_name("thresholds.toml")


def missed_thresholds(report: Report, path: Path = DEFAULT) -> tuple[str, ...]:
    """One line for each figure of the report that misses its threshold; none is good.

    An undefined figure misses. `CaseError` where the file or a name in it is wrong.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise CaseError(f"{path} cannot be read ({exc.strerror}): give a file of thresholds") from exc
    except tomllib.TOMLDecodeError as exc:
        raise CaseError(f"{path.name} is not TOML ({exc}): mend it") from None
    figures = {f["name"]: f for f in report["figures"]["all"]}
    figures |= {f["name"]: f for rung in report["ladder"] for f in rung["figures"]}
    lines = []
    for name, bounds in tables.get(report["suite"]["name"], {}).items():
        if name not in figures:
            raise CaseError(f"{path.name}: there is no figure {name!r}: use a name from the report's JSON")
        least, most = _bounds(path, name, bounds)
        value = figures[name]["value"]
        if value is None:
            lines.append(f"{name} is undefined")
        elif least is not None and value < least:
            lines.append(f"{name} is {value:.3f}, less than {least:g}")
        elif most is not None and value > most:
            lines.append(f"{name} is {value:.3f}, more than {most:g}")
    return tuple(lines)


def _bounds(path: Path, name: str, bounds: Any) -> tuple[float | None, float | None]:
    allowed = {"at_least", "at_most"}
    if (
        not isinstance(bounds, dict)
        or not bounds
        or not bounds.keys() <= allowed
        or not all(isinstance(b, int | float) for b in bounds.values())
    ):
        raise CaseError(f"{path.name}: {name!r} needs {{ at_least = number }} or {{ at_most = number }}")
    return bounds.get("at_least"), bounds.get("at_most")
