"""Every metric by hand, and against an independent definition where there is one."""

import collections
import random
import re
import string
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import metrics
from eval.spans import Span, meets

ANSWERABLE = np.array([True, True, True, False, False])
ANSWERED = np.array([True, True, False, True, False])
NOBODY = np.array([], dtype=bool)


# Rankings ----------------------------------------------------------------------------------


def test_the_first_unit_of_a_part_counts() -> None:
    assert metrics.first_ranks(["c", "b", "a"], [{"a", "b"}, {"c"}, {"d"}]) == (2, 1, None)


def test_recall_is_the_share_of_parts_found() -> None:
    ranks = (2, 1, None, 7)
    assert [metrics.recall_at(k, ranks) for k in (1, 2, 5, 10)] == [0.25, 0.5, 0.5, 0.75]


def test_a_hit_needs_one_part_only() -> None:
    assert metrics.hit_at(1, (4, None)) == 0
    assert metrics.hit_at(4, (4, None)) == 1


def test_reciprocal_rank_looks_no_deeper_than_k() -> None:
    assert metrics.reciprocal_rank((4, 9)) == 0.25
    assert metrics.reciprocal_rank((4, 9), k=3) == 0
    assert metrics.reciprocal_rank((None,)) == 0


def test_ndcg_by_hand() -> None:
    # Two parts, found at ranks 1 and 3: (1 + 1/2) over the ideal (1 + 1/log2(3)).
    parts = [{"a"}, {"b"}]
    found = metrics.ndcg_at(10, metrics.first_ranks(["a", "x", "b"], parts), parts)
    assert found == pytest.approx(1.5 / (1 + 1 / np.log2(3)))


def test_a_second_alternative_of_a_part_brings_nothing() -> None:
    parts = [{"a", "b"}]
    assert metrics.ndcg_at(10, metrics.first_ranks(["a", "x"], parts), parts) == 1
    assert metrics.ndcg_at(10, metrics.first_ranks(["a", "b"], parts), parts) == 1


def test_one_unit_that_answers_two_parts_is_the_ideal() -> None:
    parts = [{"both", "one"}, {"both", "other"}]
    assert metrics.ndcg_at(10, metrics.first_ranks(["both"], parts), parts) == 1
    apart = metrics.ndcg_at(10, metrics.first_ranks(["one", "other"], parts), parts)
    assert apart == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_rankings_agree_with_ir_measures() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ir_measures
        from ir_measures import RR, R, Success, nDCG
    rng = random.Random(7)
    documents = [f"d{i}" for i in range(30)]
    wanted = {nDCG @ 10: [], RR @ 10: [], R @ 5: [], R @ 10: [], Success @ 1: [], Success @ 3: []}
    qrels, run = [], []
    for number in range(60):
        query = f"q{number:02d}"
        gold = rng.sample(documents, rng.randint(1, 6))
        ranking = rng.sample(documents, rng.randint(3, 30))
        qrels += [ir_measures.Qrel(query, d, 1) for d in gold]
        run += [ir_measures.ScoredDoc(query, d, 100.0 - r) for r, d in enumerate(ranking)]
        parts = [{d} for d in gold]
        ranks = metrics.first_ranks(ranking, parts)
        wanted[nDCG @ 10].append(metrics.ndcg_at(10, ranks, parts))
        wanted[RR @ 10].append(metrics.reciprocal_rank(ranks, 10))
        wanted[R @ 5].append(metrics.recall_at(5, ranks))
        wanted[R @ 10].append(metrics.recall_at(10, ranks))
        wanted[Success @ 1].append(metrics.hit_at(1, ranks))
        wanted[Success @ 3].append(metrics.hit_at(3, ranks))
    found = collections.defaultdict(dict)
    for value in ir_measures.iter_calc(list(wanted), qrels, run):
        found[value.measure][value.query_id] = value.value
    for measure, ours in wanted.items():
        theirs = [found[measure][query] for query in sorted(found[measure])]
        assert ours == pytest.approx(theirs), measure


# Words -------------------------------------------------------------------------------------


def squad_words(text: str) -> list[str]:
    """SQuAD's normalisation, written out a second time: lower, punctuation, articles, spaces."""
    lowered = text.lower().translate({ord(c): None for c in string.punctuation})
    return [w for w in re.sub(r"\b(?:the|an|a)\b", " ", lowered).split() if w]


def squad_f1(prediction: str, gold: str) -> float:
    p, g = squad_words(prediction), squad_words(gold)
    if not p or not g:
        return float(p == g)
    common = sum(min(p.count(w), g.count(w)) for w in set(p))
    if not common:
        return 0.0
    precision, recall = common / len(p), common / len(g)
    return 2 * precision * recall / (precision + recall)


WORDS = st.lists(
    st.sampled_from(["the", "A", "cat", "cat's", "Cat,", "sat", "“on”", "mat.", "an", "—", "2021"]),
    max_size=8,
).map(" ".join)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=3))
def test_exact_match_and_f1_are_squads(answer: str, golds: list[str]) -> None:
    assert metrics.exact_match(answer, golds) == float(
        any(squad_words(answer) == squad_words(g) for g in golds)
    )
    assert metrics.token_f1(answer, golds) == pytest.approx(max(squad_f1(answer, g) for g in golds))


def test_f1_by_hand() -> None:
    assert metrics.token_f1("in December 2021", ["December"]) == pytest.approx(2 * 1 / (3 + 1))
    assert metrics.token_f1("", [""]) == 1
    assert metrics.token_f1("anything", [""]) == 0


def test_rouge_l_recall_by_hand() -> None:
    # The subsequence "take place in december" is 4 of the 5 words of the gold.
    assert metrics.rouge_l_recall("This will take place in December.", ["take its place in December"]) == 0.8


def test_words_beyond_the_cap_do_not_count() -> None:
    assert metrics.rouge_l_recall("pad " * 60 + "answer", ["answer"]) == 0
    assert metrics.rouge_l_recall("pad " * 59 + "answer", ["answer"]) == 1


# Citations ---------------------------------------------------------------------------------


def test_spans_meet_when_they_share_half_of_the_shorter() -> None:
    assert meets(Span(0, 10), Span(5, 15))
    assert not meets(Span(0, 10), Span(6, 16))
    assert meets(Span(0, 100), Span(99, 100))


def test_citations_by_hand() -> None:
    evidence = [[Span(0, 10), Span(50, 60)], [Span(20, 30)]]
    quotes = [Span(50, 60), Span(80, 90)]
    assert metrics.citation_precision(quotes, evidence) == 0.5
    assert metrics.citation_recall(quotes, evidence) == 0.5


def test_a_longer_alternative_does_not_make_its_idle_half_evidence() -> None:
    evidence = [[Span(0, 10), Span(0, 30)]]
    assert metrics.minimal(evidence[0]) == (Span(0, 10),)
    assert metrics.citation_recall([Span(15, 30)], evidence) == 0
    assert metrics.citation_recall([Span(0, 30)], evidence) == 1


# Answer or abstain -------------------------------------------------------------------------


def test_decisions_by_hand() -> None:
    assert metrics.answer_or_abstain(ANSWERABLE, ANSWERED) == pytest.approx(3 / 5)
    assert metrics.coverage(ANSWERABLE, ANSWERED) == pytest.approx(2 / 3)
    assert metrics.abstention_precision(ANSWERABLE, ANSWERED) == 0.5
    assert metrics.abstention_recall(ANSWERABLE, ANSWERED) == 0.5
    assert metrics.abstention_f1(ANSWERABLE, ANSWERED) == 0.5
    assert metrics.answering_f1(ANSWERABLE, ANSWERED) == pytest.approx(2 / 3)
    assert metrics.refusal_balance(ANSWERABLE, ANSWERED) == pytest.approx((0.5 + 2 / 3) / 2)


def test_always_abstaining_flatters_the_f1_of_abstention_alone() -> None:
    never = np.zeros(5, dtype=bool)
    mostly_unanswerable = np.array([True, False, False, False, False])
    assert metrics.abstention_f1(mostly_unanswerable, never) == pytest.approx(8 / 9)
    assert metrics.refusal_balance(mostly_unanswerable, never) == pytest.approx(4 / 9)


# Confidence --------------------------------------------------------------------------------


def test_auroc_by_hand() -> None:
    # Pairs (positive, negative): .9>.4, .9>.6, .6>.4, .6=.6 counts half: 3.5 of 4.
    confidence = np.array([0.9, 0.6, 0.4, 0.6])
    assert metrics.auroc(confidence, np.array([True, True, False, False])) == pytest.approx(3.5 / 4)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=2, max_size=20)
)
def test_auroc_is_the_share_of_pairs_in_order(cases: list[tuple[float, bool]]) -> None:
    confidence, positive = np.array([c for c, _ in cases]), np.array([p for _, p in cases])
    pairs = [(a > b) + (a == b) / 2 for a, p in cases if p for b, q in cases if not q]
    expected = sum(pairs) / len(pairs) if pairs else None
    assert metrics.auroc(confidence, positive) == (expected if expected is None else pytest.approx(expected))


def test_calibration_error_by_hand() -> None:
    # Bins .8-.9 (two cases, mean .85, half positive) and .2-.3 (two, mean .25, none): (.35 + .25) / 2.
    confidence = np.array([0.82, 0.88, 0.22, 0.28])
    positive = np.array([True, False, False, False])
    assert metrics.calibration_error(confidence, positive) == pytest.approx(0.3)
    assert metrics.calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


def test_risk_and_coverage_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, False, True, False])
    coverages, risks = zip(*metrics.risk_coverage(confidence, right), strict=True)
    assert coverages == (0.25, 0.5, 0.75, 1)
    assert risks == pytest.approx([0, 0.5, 1 / 3, 0.5])
    assert metrics.area_under_risk(confidence, right) == pytest.approx((0 + 0.5 + 1 / 3 + 0.5) / 4)


def test_cases_of_equal_confidence_share_their_errors() -> None:
    confidence = np.array([0.5, 0.5])
    for right in ([True, False], [False, True]):
        assert metrics.risk_coverage(confidence, np.array(right)) == ((0.5, 0.5), (1.0, 0.5))


# Undefined ---------------------------------------------------------------------------------


def test_undefined_is_none_and_never_zero() -> None:
    nothing = np.array([], dtype=float)
    undefined = [
        metrics.recall_at(5, ()),
        metrics.hit_at(1, ()),
        metrics.reciprocal_rank(()),
        metrics.ndcg_at(10, (), ()),
        metrics.exact_match("a", []),
        metrics.token_f1("a", []),
        metrics.rouge_l_recall("a", ["…"]),
        metrics.citation_precision([], [[Span(0, 1)]]),
        metrics.citation_recall([Span(0, 1)], []),
        metrics.answer_or_abstain(NOBODY, NOBODY),
        metrics.coverage(~ANSWERABLE & False, ANSWERED),
        metrics.abstention_precision(ANSWERABLE, ANSWERED | True),
        metrics.abstention_recall(ANSWERABLE | True, ANSWERED),
        metrics.abstention_f1(NOBODY, NOBODY),
        metrics.auroc(np.array([0.5]), np.array([True])),
        metrics.calibration_error(nothing, NOBODY),
        metrics.area_under_risk(nothing, NOBODY),
        metrics.bootstrap_interval(lambda _: 1.0, 1),
        metrics.bootstrap_interval(lambda _: None, 10),
    ]
    assert undefined == [None] * len(undefined)


# Intervals ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).random(50)
    first, second = (metrics.bootstrap_interval(lambda i: float(values[i].mean()), 50) for _ in range(2))
    assert first == second


def test_an_interval_of_a_mean_has_the_width_that_statistics_expects() -> None:
    values = np.repeat([0.0, 1.0], 200)
    interval = metrics.bootstrap_interval(lambda i: float(values[i].mean()), 400)
    assert interval is not None
    assert interval[1] - interval[0] == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)
