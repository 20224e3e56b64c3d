"""The metrics, as pure functions. What is undefined is `None`, never 0.

Rankings are compared with *parts*: each part of a question's evidence is the set of units
(sentences, turns, passages) of which any one answers it. Where every part is a single unit, the
figures are those of ir_measures; where a part has alternatives, a second one brings nothing.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from collections.abc import Set as AbstractSet
from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.spans import Span, meets, overlap

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Finding the evidence ----------------------------------------------------------------------


def first_ranks(ranking: Sequence[Hashable], parts: Sequence[AbstractSet[Any]]) -> tuple[int | None, ...]:
    """For each part the rank, from 1, of the first unit that answers it; `None` where none does.

    >>> first_ranks(["c", "a", "b"], [{"a", "b"}, {"d"}])
    (2, None)
    """
    ranks: dict[Hashable, int] = {}
    for rank, unit in enumerate(ranking, 1):
        ranks.setdefault(unit, rank)
    return tuple(min((ranks[u] for u in part if u in ranks), default=None) for part in parts)


def recall_at(k: int, ranks: Sequence[int | None]) -> float | None:
    """Recall@k: the share of the parts that is answered within the first k."""
    return sum(r is not None and r <= k for r in ranks) / len(ranks) if ranks else None


def hit_at(k: int, ranks: Sequence[int | None]) -> float | None:
    """1 where any part is answered within the first k, else 0."""
    return float(any(r is not None and r <= k for r in ranks)) if ranks else None


def reciprocal_rank(ranks: Sequence[int | None], k: int | None = None) -> float | None:
    """One over the rank of the first unit that answers any part, 0 beyond k."""
    if not ranks:
        return None
    best = min((r for r in ranks if r is not None), default=None)
    return 0.0 if best is None or (k is not None and best > k) else 1 / best


def ndcg_at(k: int, ranks: Sequence[int | None], parts: Sequence[AbstractSet[Any]]) -> float | None:
    """nDCG@k where a part counts once, at its first unit (alpha-nDCG of Clarke et al. 2008, alpha = 1).

    The ideal order takes the unit that answers most of the parts still open, time after time.
    """
    if not parts:
        return None
    gained = sum(1 / log2(1 + r) for r in ranks if r is not None and r <= k)
    remaining = [set(part) for part in parts]
    ideal = 0.0
    for rank in range(1, k + 1):
        counts = Counter(unit for part in remaining for unit in part)
        if not counts:
            break
        best = max(sorted(counts, key=str), key=counts.__getitem__)
        ideal += counts[best] / log2(1 + rank)
        remaining = [part for part in remaining if best not in part]
    return gained / ideal if ideal else None


# Short answers -----------------------------------------------------------------------------


def normalise(text: str) -> list[str]:
    """Words as SQuAD's evaluation compares them: lower case, no ASCII punctuation, no articles."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def exact_match(answer: str, golds: Sequence[str]) -> float | None:
    """1 where the normalised words are those of a gold answer. An empty gold means "no answer"."""
    return max((float(normalise(answer) == normalise(g)) for g in golds), default=None)


def token_f1(answer: str, golds: Sequence[str]) -> float | None:
    """Best F1 of normalised words, counted with multiplicity; empty against empty is 1."""
    return max((_f1(normalise(answer), normalise(g)) for g in golds), default=None)


def _f1(words: list[str], gold: list[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    same = sum((Counter(words) & Counter(gold)).values())
    return 2 * same / (len(words) + len(gold))


def rouge_l_recall(answer: str, golds: Sequence[str], max_words: int = 60) -> float | None:
    """ROUGE-L recall (Lin 2004): the longest common subsequence over the gold's length.

    Only the answer's first `max_words` words count, or quoting everything would win.
    """
    words = re.findall(r"[a-z0-9]+", " ".join(answer.split()[:max_words]).lower())
    golds_words = [re.findall(r"[a-z0-9]+", gold.lower()) for gold in golds]
    return max((_lcs(words, gold) / len(gold) for gold in golds_words if gold), default=None)


def _lcs(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        above_left = 0
        for j, other in enumerate(b, 1):
            above = row[j]
            row[j] = above_left + 1 if word == other else max(above, row[j - 1])
            above_left = above
    return row[-1]


# Citations ---------------------------------------------------------------------------------


def minimal(part: Sequence[Span]) -> tuple[Span, ...]:
    """A part's spans without those that contain another: the smaller one is what answers."""
    return tuple(a for a in part if not any(b != a and overlap(a, b) == b.end - b.start for b in part))


def citation_precision(quotes: Sequence[Span], evidence: Sequence[Sequence[Span]]) -> float | None:
    """The share of the quotes that are evidence, after ALCE (arXiv:2305.14627) but over spans."""
    golds = [span for part in evidence for span in part]
    return sum(any(meets(q, g) for g in golds) for q in quotes) / len(quotes) if quotes else None


def citation_recall(quotes: Sequence[Span], evidence: Sequence[Sequence[Span]]) -> float | None:
    """The share of the evidence's parts that is quoted."""
    quoted = sum(any(meets(q, g) for q in quotes for g in minimal(part)) for part in evidence)
    return quoted / len(evidence) if evidence else None


# Answer or abstain -------------------------------------------------------------------------


def _harmonic(true: int, false: int, missed: int) -> float | None:
    return 2 * true / (2 * true + false + missed) if true + false + missed else None


def answer_or_abstain(answerable: Booleans, answered: Booleans) -> float | None:
    """AvNA: the share of the cases that were rightly answered or rightly declined."""
    return float(np.mean(answerable == answered)) if len(answerable) else None


def abstention_precision(answerable: Booleans, answered: Booleans) -> float | None:
    """Of what was declined, the share that has no answer."""
    declined = ~answered
    return float(np.mean(~answerable[declined])) if declined.any() else None


def abstention_recall(answerable: Booleans, answered: Booleans) -> float | None:
    """Of what has no answer, the share that was declined."""
    return float(np.mean(~answered[~answerable])) if (~answerable).any() else None


def abstention_f1(answerable: Booleans, answered: Booleans) -> float | None:
    """F1 of declining. Never report it alone: always declining scores high."""
    return _harmonic(
        int((~answerable & ~answered).sum()),
        int((answerable & ~answered).sum()),
        int((~answerable & answered).sum()),
    )


def answering_f1(answerable: Booleans, answered: Booleans) -> float | None:
    """F1 of answering."""
    return _harmonic(
        int((answerable & answered).sum()),
        int((~answerable & answered).sum()),
        int((answerable & ~answered).sum()),
    )


def refusal_balance(answerable: Booleans, answered: Booleans) -> float | None:
    """F1_RG of TRUST-SCORE (arXiv:2409.11242): the mean of the F1 of declining and of answering."""
    both = abstention_f1(answerable, answered), answering_f1(answerable, answered)
    return None if both[0] is None or both[1] is None else (both[0] + both[1]) / 2


def coverage(answerable: Booleans, answered: Booleans) -> float | None:
    """Of what has an answer, the share that was answered."""
    return float(np.mean(answered[answerable])) if answerable.any() else None


# Confidence --------------------------------------------------------------------------------


def auroc(confidence: Floats, positive: Booleans) -> float | None:
    """The chance that a positive case has the higher confidence; a tie counts half."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return None
    _, place, count = np.unique(confidence, return_inverse=True, return_counts=True)
    middle_rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((middle_rank[positive].sum() - n * (n + 1) / 2) / (n * m))


def reliability(
    confidence: Floats, positive: Booleans, bins: int = 10
) -> tuple[tuple[float, float, int], ...]:
    """Mean confidence, share of positives and count for each bin of equal width that is not empty."""
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return tuple(
        (float(confidence[which == b].mean()), float(positive[which == b].mean()), int((which == b).sum()))
        for b in range(bins)
        if (which == b).any()
    )


def calibration_error(confidence: Floats, positive: Booleans, bins: int = 10) -> float | None:
    """Expected calibration error (Guo et al. 2017): how far confidence and share of positives lie
    apart, over bins of equal width weighted by their counts."""
    if not len(confidence):
        return None
    found = reliability(confidence, positive, bins)
    return sum(abs(mean - share) * count for mean, share, count in found) / len(confidence)


def risk_coverage(confidence: Floats, right: Booleans) -> tuple[tuple[float, float], ...]:
    """For each coverage 1/n ... 1, the share of errors among the most confident cases.

    Cases of equal confidence share their errors evenly, so that the order of a file changes nothing.
    """
    n = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    wrong = (~right[order]).astype(np.float64)
    _, place, count = np.unique(-confidence[order], return_inverse=True, return_counts=True)
    shared = (np.bincount(place, weights=wrong) / count)[place] if n else wrong
    risks = np.cumsum(shared) / np.arange(1, n + 1)
    return tuple((float((i + 1) / n), float(risk)) for i, risk in enumerate(risks))


def area_under_risk(confidence: Floats, right: Booleans) -> float | None:
    """AURC (Geifman and El-Yaniv 2017): the mean risk over all coverages. Less is better."""
    points = risk_coverage(confidence, right)
    return sum(risk for _, risk in points) / len(points) if points else None


# Intervals ---------------------------------------------------------------------------------

SEED = 20211101
RESAMPLES = 1000


def bootstrap_interval(
    statistic: Callable[[Indices], float | None],
    n: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float] | None:
    """The middle 95 % of `statistic` over `resamples` draws of n cases with replacement (Efron 1979).

    `statistic` is given the positions drawn. The same seed gives the same interval; for a paired
    comparison it returns the difference of two systems on the same cases.
    """
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    values = [v for _ in range(resamples) if (v := statistic(rng.integers(0, n, n))) is not None]
    if len(values) < resamples / 2:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
