"""How well a reader finds the answering sentence, and knows that there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.data import Question, Scope
from training.model import Reader

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One question's scores: `late (n,)` and `cosine (n,)` of all sentences, and `null`."""

    scope: str
    source: str
    question: Question
    late: Floats
    null: float
    cosine: Floats

    @property
    def sure(self) -> float:
        """Log-odds of any sentence against the null."""
        return float(np.logaddexp.reduce(self.late) - self.null)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Probability that a positive scores above a negative, ties half."""
    if not len(positive) or not len(negative):
        return float("nan")
    p, n = np.asarray(positive)[:, None], np.asarray(negative)[None]
    return float(((p > n) + 0.5 * (p == n)).mean())


@torch.inference_mode()
def rows(reader: Reader, scopes: Sequence[Scope], *, with_history: bool = True) -> list[Row]:
    """Every question of the scopes, scored."""
    out: list[Row] = []
    for scope in scopes:
        windows = scope.windows()
        s = reader.upper(reader.windows(windows))
        q = reader.upper(reader.questions(scope.questions, with_history=with_history))
        logits, null, cosine = reader.score(q, s)
        for i, question in enumerate(scope.questions):
            out.append(
                Row(
                    scope=scope.name,
                    source=scope.source,
                    question=question,
                    late=logits[i].cpu().numpy(),
                    null=float(null[i]),
                    cosine=cosine[i].cpu().numpy(),
                )
            )
    return out


def rank(scores: Floats, gold: Sequence[int]) -> int:
    """How many sentences score above the best gold one."""
    return int((scores > max(scores[list(gold)])).sum())


def figures(table: Sequence[Row]) -> dict[str, float]:
    """First, in first three, AUROC and counts; `dense_first` by the pooled vectors."""
    answered = [r for r in table if r.question.gold]
    ranks = [rank(r.late, r.question.gold) for r in answered]
    dense = [rank(r.cosine, r.question.gold) for r in answered]
    return {
        "answerable": len(answered),
        "unanswerable": len(table) - len(answered),
        "first": float(np.mean([r == 0 for r in ranks])) if ranks else float("nan"),
        "first3": float(np.mean([r < 3 for r in ranks])) if ranks else float("nan"),
        "auroc": auroc([r.sure for r in answered], [r.sure for r in table if not r.question.gold]),
        "dense_first": float(np.mean([r == 0 for r in dense])) if dense else float("nan"),
    }


def report(table: Sequence[Row]) -> dict[str, Any]:
    """Figures of every source, and of the interviews by kind."""
    out: dict[str, Any] = {}
    for source in dict.fromkeys(r.source for r in table):
        lines = [r for r in table if r.source == source]
        out[source] = figures(lines)
        if source == "interviews":
            answered = [r for r in lines if r.question.gold]
            kinds = {}
            for kind in dict.fromkeys(r.question.kind for r in lines):
                own = [r for r in lines if r.question.kind == kind]
                kinds[kind] = figures(own if own[0].question.gold else [*answered, *own])
            out[source]["kinds"] = kinds
    return out


def show(figures_of: dict[str, Any]) -> str:
    """A report in a few lines."""
    lines = []
    for source, f in figures_of.items():
        lines.append(
            f"{source}: first {f['first']:.3f} first3 {f['first3']:.3f} auroc {f['auroc']:.3f} "
            f"dense first {f['dense_first']:.3f} n {f['answerable']}+{f['unanswerable']}"
        )
        for kind, k in f.get("kinds", {}).items():
            figure = f"auroc {k['auroc']:.2f}" if k["unanswerable"] else f"first {k['first']:.2f}"
            lines.append(
                f"  {kind}: {figure} first3 {k['first3']:.2f} n {k['answerable']}+{k['unanswerable']}"
            )
    return "\n".join(lines)


# Confidence --------------------------------------------------------------------------------


def fit(x: Floats, y: Floats, strength: float = 1.0) -> Floats:
    """Logistic regression by Newton's method; the last weight is the constant, not shrunk."""
    design = np.c_[x, np.ones(len(x))].astype(np.float64)
    w = np.zeros(design.shape[1])
    ridge = np.diag([strength] * x.shape[1] + [1e-6])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ w, -30, 30)))
        gradient = design.T @ (p - y) + ridge @ w
        w -= np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + ridge, gradient)
    return w.astype(np.float32)


def probability(x: Floats, w: Floats) -> Floats:
    """Calibrated probability that the transcript answers."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.c_[x, np.ones(len(x))] @ w, -30, 30))), dtype=np.float32)


def expected_calibration_error(p: Floats, y: Floats, bins: int = 10) -> float:
    """Mean distance between probability and share of answerable ones, over equally filled bins."""
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(len(i) * abs(p[i].mean() - y[i].mean()) for i in parts if len(i)) / len(p))
