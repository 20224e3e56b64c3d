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
READ = 8
"""How many sentences the last stage reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One question's scores: `late (n,)` and `cosine (n,)` of all sentences, `null`, and of the
    best `READ` by `late`, in that order, their positions, the last stage's logits and its short
    answers (spans of the sentence's words, or `None`)."""

    scope: str
    source: str
    question: Question
    late: Floats
    null: float
    cosine: Floats
    best: tuple[int, ...]
    read: Floats
    shorts: tuple[str | None, ...]


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
        k = min(READ, logits.shape[1])
        best = logits.topk(k, dim=1).indices
        asked = torch.arange(len(best), device=best.device)
        answers, shorts = [], []
        for part in torch.split(asked, 32):
            answer, span = reader.read(q, s, part.repeat_interleave(k), best[part].flatten())
            answers.append(answer.view(-1, k))
            for i, c, logit in zip(
                part.repeat_interleave(k).tolist(), best[part].flatten().tolist(), span, strict=True
            ):
                del i
                shorts.append(reader.short(windows[c], logit))
        read = torch.cat(answers).cpu().numpy()
        for i, question in enumerate(scope.questions):
            out.append(
                Row(
                    scope=scope.name,
                    source=scope.source,
                    question=question,
                    late=logits[i].cpu().numpy(),
                    null=float(null[i]),
                    cosine=cosine[i].cpu().numpy(),
                    best=tuple(best[i].tolist()),
                    read=read[i],
                    shorts=tuple(shorts[i * k : (i + 1) * k]),
                )
            )
    return out


def mixed(row: Row, share: float) -> Floats:
    """Scores of all sentences: `late`, and for those read, `share` times the last stage's, above
    the rest."""
    scores = row.late.copy()
    if share:
        scores[list(row.best)] += share * row.read + 1e3
    return scores


def features(row: Row) -> list[float]:
    """What the confidence is made of: log-odds of any sentence against the null by either stage,
    and the distance between the best sentence and the next."""
    first = float(np.logaddexp.reduce(row.late) - row.null)
    last = float(np.logaddexp.reduce(row.read))
    two = np.sort(row.late[list(row.best)] + row.read)[-2:]
    return [first, last, float(two[-1] - two[0]) if len(two) > 1 else 0.0]


def rank(scores: Floats, gold: Sequence[int]) -> int:
    """How many sentences score above the best gold one."""
    return int((scores > max(scores[list(gold)])).sum())


def figures(table: Sequence[Row], share: float, sure: Sequence[float]) -> dict[str, float]:
    """First, in first three, AUROC (of `sure`, one a row) and counts."""
    ranks = [rank(mixed(r, share), r.question.gold) for r in table if r.question.gold]
    yes = [c for r, c in zip(table, sure, strict=True) if r.question.gold]
    no = [c for r, c in zip(table, sure, strict=True) if not r.question.gold]
    return {
        "answerable": len(yes),
        "unanswerable": len(no),
        "first": float(np.mean([r == 0 for r in ranks])) if ranks else float("nan"),
        "first3": float(np.mean([r < 3 for r in ranks])) if ranks else float("nan"),
        "auroc": auroc(yes, no),
    }


def report(table: Sequence[Row], share: float, sure: Sequence[float]) -> dict[str, Any]:
    """Figures of every source, and of the interviews by kind."""
    out: dict[str, Any] = {}
    for source in dict.fromkeys(r.source for r in table):
        part = [(r, c) for r, c in zip(table, sure, strict=True) if r.source == source]
        lines, line_sure = [r for r, _ in part], [c for _, c in part]
        out[source] = figures(lines, share, line_sure)
        answered = [r for r in lines if r.question.gold]
        out[source]["dense_first"] = float(np.mean([rank(r.cosine, r.question.gold) == 0 for r in answered]))
        if source == "interviews":
            yes = [c for r, c in part if r.question.gold]
            kinds: dict[str, Any] = {}
            for kind in dict.fromkeys(r.question.kind for r in lines):
                own = [(r, c) for r, c in part if r.question.kind == kind]
                kinds[kind] = figures([r for r, _ in own], share, [c for _, c in own])
                if not own[0][0].question.gold:
                    kinds[kind]["auroc"] = auroc(yes, [c for _, c in own])
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
            figure = (
                f"first {k['first']:.2f} first3 {k['first3']:.2f}"
                if k["answerable"]
                else f"auroc {k['auroc']:.2f}"
            )
            lines.append(f"  {kind}: {figure} n {k['answerable'] + k['unanswerable']}")
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


def calibrated(table: Sequence[Row], folds: int = 5) -> tuple[Floats, Floats]:
    """Probabilities `(n,)`, each from a fit on the other folds (by transcript), and the weights
    fitted on all."""
    x = np.asarray([features(r) for r in table], dtype=np.float32)
    y = np.asarray([bool(r.question.gold) for r in table], dtype=np.float32)
    names = sorted({r.scope for r in table})
    fold = np.asarray([names.index(r.scope) % folds for r in table])
    out = np.zeros(len(x), dtype=np.float32)
    for k in range(folds):
        if (fold == k).any():
            out[fold == k] = probability(x[fold == k], fit(x[fold != k], y[fold != k]))
    return out, fit(x, y)


def expected_calibration_error(p: Floats, y: Floats, bins: int = 10) -> float:
    """Mean distance between probability and share of answerable ones, over equally filled bins."""
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(len(i) * abs(p[i].mean() - y[i].mean()) for i in parts if len(i)) / len(p))
