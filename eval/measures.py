"""Measures as values: which columns of the outcomes each needs, and how a figure comes of them.

Per-case scores come first and figures second, so that any figure can be drawn again from the cases
of a report, with its interval, or compared between two reports case by case.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval import metrics
from eval.metrics import Booleans, Floats

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A named figure over `columns`; `of` is given them as arrays, undefined cases left out.

    `counts` says how many of those cases the figure speaks of, where that is not all of them.
    """

    name: str
    label: str
    group: str
    columns: tuple[str, ...]
    of: Callable[..., float | None]
    better: Better = "higher"
    counts: Callable[..., int] = lambda *columns: len(columns[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measure's value over `n` cases with its 95 % bootstrap interval; `None` is undefined."""

    name: str
    label: str
    group: str
    better: Better
    value: float | None
    low: float | None
    high: float | None
    n: int


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _over_decisions(
    of: Callable[[Booleans, Booleans], float | None],
) -> Callable[[Floats, Floats], float | None]:
    return lambda answerable, answered: of(answerable > 0.5, answered > 0.5)


def _over_confidence(
    of: Callable[[Floats, Booleans], float | None],
) -> Callable[[Floats, Floats], float | None]:
    return lambda confidence, positive: of(confidence, positive > 0.5)


def averaged(name: str, label: str, group: str) -> Measure:
    """The mean of one column."""
    return Measure(name=name, label=label, group=group, columns=(name,), of=_mean)


def _decided(
    name: str,
    label: str,
    of: Callable[[Booleans, Booleans], float | None],
    among: Callable[[Booleans, Booleans], Booleans] = lambda answerable, _: np.ones_like(answerable),
) -> Measure:
    """A figure over decisions; `among` marks the cases that it speaks of."""
    return Measure(
        name=name,
        label=label,
        group="Answer or abstain",
        columns=("answerable", "answered"),
        of=_over_decisions(of),
        counts=lambda answerable, answered: int(among(answerable > 0.5, answered > 0.5).sum()),
    )


def ranked(rung: str, unit: str, metric: str, label: str) -> Measure:
    """The mean of a ranking metric of one rung, over sentences or windows."""
    return Measure(
        name=f"{rung}/{unit}/{metric}",
        label=label,
        group="Finding the evidence",
        columns=(f"{rung}/{unit}/{metric}",),
        of=_mean,
    )


RANKINGS = {
    "hit@1": "Evidence first",
    "hit@3": "Evidence among the first 3",
    "recall@5": "Recall@5",
    "recall@10": "Recall@10",
    "mrr": "MRR@10",
    "ndcg@10": "nDCG@10",
}

MEASURES: tuple[Measure, ...] = (
    Measure(
        name="right",
        label="Cases that are wholly right",
        group="Overall",
        columns=("right",),
        of=_mean,
    ),
    *(ranked("reader", "sentence", metric, label) for metric, label in RANKINGS.items()),
    _decided("avna", "AvNA: rightly answered or declined", metrics.answer_or_abstain),
    _decided("f1_rg", "Mean of F1 of declining and of answering", metrics.refusal_balance),
    _decided("coverage", "Answerable questions answered", metrics.coverage, lambda a, _: a),
    _decided(
        "abstention_recall", "Unanswerable questions declined", metrics.abstention_recall, lambda a, _: ~a
    ),
    _decided(
        "abstention_precision",
        "Declined questions that have no answer",
        metrics.abstention_precision,
        lambda _, d: ~d,
    ),
    _decided("abstention_f1", "F1 of declining", metrics.abstention_f1),
    averaged("kind_of_no", "Right kind of no, where rightly declined", "Answer or abstain"),
    Measure(
        name="auroc",
        label="AUROC of the confidence",
        group="Confidence",
        columns=("confidence", "answerable"),
        of=_over_confidence(metrics.auroc),
    ),
    Measure(
        name="calibration_error",
        label="Expected calibration error",
        group="Confidence",
        columns=("confidence", "answerable"),
        of=_over_confidence(metrics.calibration_error),
        better="lower",
    ),
    Measure(
        name="aurc",
        label="Area under the risk-coverage curve",
        group="Confidence",
        columns=("confidence", "first_is_right"),
        of=_over_confidence(metrics.area_under_risk),
        better="lower",
    ),
    averaged("quote_exactness", "Quote exactness", "Quotes"),
    averaged("citation_precision", "Citation precision", "Quotes"),
    averaged("citation_recall", "Citation recall", "Quotes"),
    averaged("speaker", "Right speaker", "Quotes"),
    averaged("exact_match", "Exact match of the short answer", "Answers in words"),
    averaged("f1", "F1 of the short answer", "Answers in words"),
    averaged("rouge_l", "ROUGE-L recall in 60 words", "Answers in words"),
)


def ladder_measures(rungs: Sequence[str]) -> dict[tuple[str, str], tuple[Measure, ...]]:
    """The ranking measures of each rung, over sentences and over windows."""
    return {
        (rung, unit): tuple(ranked(rung, unit, metric, label) for metric, label in RANKINGS.items())
        for rung in rungs
        for unit in ("sentence", "window")
    }


class Columns:
    """Per-case scores as arrays `(n,)`, undefined as NaN; from outcomes or from a report's cases."""

    def __init__(self, rows: Sequence[Mapping[str, float | None]]) -> None:
        self._rows = rows
        self._arrays: dict[str, Floats] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> Floats:
        if name not in self._arrays:
            values = [row.get(name) for row in self._rows]
            self._arrays[name] = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        return self._arrays[name]

    def undefined(self, measure: Measure) -> Booleans:
        """Which cases lack one of the measure's columns, `(n,)`."""
        return np.asarray(np.any(np.isnan([self[name] for name in measure.columns]), axis=0))

    def defined(self, measure: Measure) -> tuple[Floats, ...]:
        """The measure's columns, over the cases where all of them are defined."""
        keep = ~self.undefined(measure)
        return tuple(self[name][keep] for name in measure.columns)


def figure(measure: Measure, columns: Columns, *, resamples: int = metrics.RESAMPLES) -> Figure:
    """A measure's value and interval over all cases that define it."""
    arrays = columns.defined(measure)
    n = len(arrays[0])
    interval = metrics.bootstrap_interval(
        lambda drawn: measure.of(*(a[drawn] for a in arrays)), n, resamples=resamples
    )
    value = measure.of(*arrays) if n else None
    low, high = interval if interval and value is not None else (None, None)
    return Figure(
        name=measure.name,
        label=measure.label,
        group=measure.group,
        better=measure.better,
        value=_rounded(value),
        low=_rounded(low),
        high=_rounded(high),
        n=measure.counts(*arrays) if n else 0,
    )


def _rounded(value: float | None) -> float | None:
    """Six decimals, so that a report is the same to the last digit wherever sums are exact."""
    return None if value is None else round(value, 6)
