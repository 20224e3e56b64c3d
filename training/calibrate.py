"""Weigh the reader's two stages as the program runs them, and calibrate its confidence.

The held-out invented interviews are asked through the program itself. From what its reader sees come
the cross-encoder's share in the order, the confidence (a logistic regression; the figures come from
the folds that it was not fitted on), and from which probability a short answer is marked.

    python -m training.calibrate rag/data/cross_encoder.safetensors
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics import token_f1
from index.encoder import Encoder
from index.store import make_index
from rag.compose import POLICY
from rag.cross import CrossEncoder
from rag.pipeline import Interview
from rag.question import contextualise
from rag.retrieval import match
from rag.trained import Evidence, TrainedReader, weighed
from training.data import SPAN_KINDS, Question, Scope, held_out, interviews
from training.evaluate import Floats, auroc, expected_calibration_error, fit, probability
from training.export import rewrite

SHARES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
WITHIN = (1.0, 2.0, 3.0, 4.0, 5.0)
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One question as the program's reader sees it; `eligible (n,)` sentences may answer."""

    scope: Scope
    question: Question
    evidence: Evidence
    eligible: Floats


def collect(scopes: Sequence[Scope], encoder: Encoder, cross_encoder: CrossEncoder) -> list[Row]:
    """Ask every question of the scopes."""
    reader = TrainedReader(cross_encoder)
    rows = []
    for scope in scopes:
        index = make_index(scope.transcript, encoder, scope.sentences).index
        interview = Interview(index, encoder, reader=reader)
        for q in scope.questions:
            asked = contextualise(q.text, q.history, interview.transcript, encoder)
            evidence = reader.evidence(asked, index, match(index, asked))
            turns = interview.transcript.turns
            may = [asked.may_be_answered_by(turns[s.turn_id].role) for s in index.sentences]
            rows.append(
                Row(scope=scope, question=q, evidence=evidence, eligible=np.array(may, dtype=np.float32))
            )
    return rows


def rank(row: Row, share: float) -> int:
    """How many sentences that may answer score above the best gold one."""
    scores = weighed(row.evidence, share)
    gold = max(scores[list(row.question.gold)])
    return int(((scores > gold) & (row.eligible > 0)).sum())


def ranks(rows: Sequence[Row], share: float) -> Floats:
    """`rank` of every answerable question, `(n,)`."""
    return np.array([rank(r, share) for r in rows if r.question.gold], dtype=np.float32)


def order(ranks: Floats) -> tuple[float, float]:
    """The answering sentence first, and among the first three."""
    return float((ranks == 0).mean()), float((ranks < 3).mean())


def chosen_share(ranks_of: Mapping[float, Floats]) -> float:
    """The least share whose order is no more than one standard error behind the best one's (the
    one-standard-error rule; Breiman et al., Classification and Regression Trees, 1984): the order
    hardly depends on it here, and the cross-encoder is the stage that leans on the texts it learnt from.
    `ranks_of` each share the same questions `(n,)`."""
    hits = {share: (r == 0).astype(float) + (r < 3) for share, r in ranks_of.items()}
    best = max(hits.values(), key=np.mean)
    return min(
        share
        for share, own in hits.items()
        if (best - own).mean() <= (best - own).std() / math.sqrt(len(own))
    )


def confidences(rows: Sequence[Row]) -> tuple[Floats, Floats]:
    """Probabilities `(n,)`, each from a fit on the other interviews, and the weights of all."""
    x = np.stack([r.evidence.features for r in rows])
    y = np.array([bool(r.question.gold) for r in rows], dtype=np.float32)
    names = sorted({r.scope.name for r in rows})
    fold = np.array([names.index(r.scope.name) % FOLDS for r in rows])
    out = np.zeros(len(x), dtype=np.float32)
    for k in range(FOLDS):
        out[fold == k] = probability(x[fold == k], fit(x[fold != k], y[fold != k]))
    return out, fit(x, y)


def shorts(rows: Sequence[Row], share: float) -> tuple[float, dict[str, float]]:
    """From which probability on a short answer is marked, by word F1 on right sentences: against the
    gold short answer, or against the whole sentence where that is the answer."""
    found = []
    for row in rows:
        q = row.question
        best = int(np.argmax(np.where(row.eligible > 0, weighed(row.evidence, share), -np.inf)))
        if best in q.gold and (judged := row.evidence.judged.get(best)):
            words = row.scope.words(best)
            short = q.short if q.short and q.kind in SPAN_KINDS else None
            if short and short not in words:
                continue
            target = [short or words]
            marked = token_f1(words[judged.start : judged.end], target)
            found.append((judged.probability, marked, token_f1(words, target), short is not None))
    grid = [k / 20 for k in range(21)]
    value = [float(np.mean([m if p >= g else w for p, m, w, _ in found])) for g in grid]
    best_from = grid[int(np.argmax(value))]
    has = [(m if p >= best_from else w, w) for p, m, w, is_short in found if is_short]
    return best_from, {
        "short_f1": float(np.mean([a for a, _ in has])),
        "whole_f1": float(np.mean([b for _, b in has])),
        "both_f1": max(value),
        "n": len(has),
    }


def lists(rows: Sequence[Row], share: float, within: float, most: int) -> tuple[float, float]:
    """Precision and recall of the sentences that a list question gets where the best `most` within
    `within` of the best one are quoted."""
    precision, recall = [], []
    for row in rows:
        if row.question.kind == "list":
            scores = np.where(row.eligible > 0, weighed(row.evidence, share), -np.inf)
            best = np.argsort(-scores, kind="stable")[:most]
            chosen = {int(i) for i in best if scores[i] >= scores[best[0]] - within}
            right = len(chosen & set(row.question.gold))
            precision.append(right / len(chosen))
            recall.append(right / len(row.question.gold))
    return float(np.mean(precision)), float(np.mean(recall))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the cross-encoder's weights, whose figures are rewritten")
    parser.add_argument("--interviews", type=Path, default=Path(__file__).parent / "interviews")
    args = parser.parse_args()
    scopes = [s for s in interviews(args.interviews) if held_out(s.name)]
    rows = collect(scopes, Encoder(), CrossEncoder(args.file))
    ranks_of = {share: ranks(rows, share) for share in SHARES}
    share = chosen_share(ranks_of)
    sure, weights = confidences(rows)
    answered = np.array([bool(r.question.gold) for r in rows])
    first, first3 = order(ranks_of[share])
    short_from, short = shorts(rows, share)
    figures: dict[str, Any] = {
        "first": first,
        "first3": first3,
        "auroc": auroc(sure[answered].tolist(), sure[~answered].tolist()),
        "ece": expected_calibration_error(sure, answered.astype(np.float32)),
        "answered": float((sure[answered] >= 0.5).mean()),
        "declined": float((sure[~answered] < 0.5).mean()),
        "short": short,
        "lists": {str(w): lists(rows, share, w, POLICY.most_in_list) for w in WITHIN},
        "kinds": {
            kind: {
                "n": len(own := [r for r in rows if r.question.kind == kind]),
                **dict(zip(("first", "first3"), order(ranks(own, share)), strict=True)),
            }
            if any(r.question.gold for r in rows if r.question.kind == kind)
            else {
                "n": len(own := [i for i, r in enumerate(rows) if r.question.kind == kind]),
                "auroc": auroc(sure[answered].tolist(), sure[own].tolist()),
            }
            for kind in dict.fromkeys(r.question.kind for r in rows)
        },
    }
    learnt = {"share": share, "confidence": weights.tolist(), "short_answer_from": short_from}
    rewrite(args.file, learnt | {"figures": figures})
    sys.stdout.write(json.dumps(learnt | figures, indent=1) + "\n")
    sys.stdout.write(f"shares: {[(s, *np.round(order(r), 3).tolist()) for s, r in ranks_of.items()]}\n")


if __name__ == "__main__":
    main()
