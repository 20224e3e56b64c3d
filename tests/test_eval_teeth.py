"""Metrics have teeth: each falls for a pipeline that is broken in its way.

The pipelines are small real classes. `Faithful` knows the shipped cases' gold and scores 1; every
other one breaks a single thing of it.
"""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from eval.cases import Case, read_cases, shipped_cases
from eval.measures import MEASURES, Columns, figure
from eval.metrics import minimal
from eval.report import About, make_report
from eval.runner import Outcome, run_cases
from eval.spans import Span, meets
from index.chunks import make_chunks
from index.errors import QuestionError
from index.sentences import split_sentences
from index.transcript import Transcript

GUEST, HOST = "Sergey Lavrov", "Question"


class Faithful:
    """Says what the gold says."""

    def __init__(self, transcript: Transcript, cases: Sequence[Case]) -> None:
        self.transcript = transcript
        cuts = split_sentences(transcript)
        self.sentences = [Span(s.start, s.end) for s in cuts]
        self.windows = [Span(c.start, c.end) for c in make_chunks(cuts)]
        self._cases = {(case.question, case.history): case for case in cases}

    def case(self, question: str, history: Sequence[str]) -> Case:
        return self._cases[question, tuple(history)]

    def quote(self, span: Span) -> dict[str, Any]:
        return {
            "text": self.transcript.words(*span),
            "speaker": self.transcript.turn_at(span.start).speaker,
            "start": span.start,
            "end": span.end,
        }

    def spans(self, case: Case) -> list[Span]:
        return [minimal(part)[0] for part in case.evidence]

    def answers(self, case: Case) -> bool:
        return case.answerable

    def confidence(self, case: Case) -> float:
        return float(case.answerable)

    def reason(self, case: Case) -> str | None:
        return case.reason

    def answer(self, question: str, history: Sequence[str]) -> object:
        case = self.case(question, history)
        if not self.answers(case):
            return {
                "reply": "abstention",
                "reason": self.reason(case),
                "nearest": [],
                "confidence": self.confidence(case),
            }
        statements = []
        for number, span in enumerate(self.spans(case)):
            quote = self.quote(span)
            statement: dict[str, Any] = {"text": quote["text"], "quotes": [quote]}
            if case.short:
                statement["short_answer"] = {"text": "" if number else case.short[0]}
            statements.append(statement)
        return {"reply": "answer", "statements": statements, "confidence": self.confidence(case)}

    def rank(self, _rung: str, question: str, history: Sequence[str]) -> list[int]:
        case = self.case(question, history)
        places = range(len(self.sentences))
        gold = [
            next(i for i in places if any(meets(self.sentences[i], g) for g in minimal(part)))
            for part in case.evidence
        ]
        return list(dict.fromkeys([*gold, *places]))


class RandomOrder(Faithful):
    """Ranks the sentences by chance."""

    def rank(self, _rung: str, question: str, _history: Sequence[str]) -> list[int]:
        order = list(range(len(self.sentences)))
        random.Random(question).shuffle(order)
        return order


class ShiftedByOne(Faithful):
    """Cuts every quotation one character late."""

    def quote(self, span: Span) -> dict[str, Any]:
        shifted = super().quote(Span(span.start + 1, span.end + 1))
        return {**shifted, "speaker": super().quote(span)["speaker"]}


class ElsewhereByOne(Faithful):
    """Gives the right words with offsets that are one too high."""

    def quote(self, span: Span) -> dict[str, Any]:
        return {**super().quote(span), "start": span.start + 1, "end": span.end + 1}


class Reworded(Faithful):
    """Changes one letter inside the quotation marks."""

    def quote(self, span: Span) -> dict[str, Any]:
        quote = super().quote(span)
        return {**quote, "text": quote["text"][:-2] + "~" + quote["text"][-1]}


class AlwaysAnswers(Faithful):
    """Finds something to quote for everything, and is sure of it."""

    def answers(self, _case: Case) -> bool:
        return True

    def spans(self, case: Case) -> list[Span]:
        return super().spans(case) or [self.sentences[40]]

    def confidence(self, _case: Case) -> float:
        return 0.9


class NeverAnswers(Faithful):
    """Declines everything."""

    def answers(self, _case: Case) -> bool:
        return False

    def reason(self, case: Case) -> str | None:
        return case.reason or "never_mentioned"


class CreditsTheGuest(Faithful):
    """Gives everybody's words to the wrong one of the two."""

    def quote(self, span: Span) -> dict[str, Any]:
        quote = super().quote(span)
        return {**quote, "speaker": HOST if quote["speaker"] == GUEST else GUEST}


class QuotesTheInterviewer(Faithful):
    """Quotes the question instead of its answer."""

    def spans(self, _case: Case) -> list[Span]:
        turn = self.transcript.turns[0]
        return [Span(turn.start, turn.end)]


class OneKindOfNo(Faithful):
    """Knows only one way to decline."""

    def reason(self, _case: Case) -> str | None:
        return "low_confidence"


class WrongWords(Faithful):
    """Marks nothing as the short answer, and quotes one sentence too many."""

    def answer(self, question: str, history: Sequence[str]) -> object:
        reply = super().answer(question, history)
        assert isinstance(reply, dict)
        for statement in reply.get("statements", []):
            statement.pop("short_answer", None)
            statement["quotes"] = [self.quote(self.sentences[3])]
            statement["text"] = statement["quotes"][0]["text"]
        return reply


BROKEN: dict[type[Faithful], tuple[str, ...]] = {
    RandomOrder: (
        *(f"reader/sentence/{m}" for m in ("hit@1", "hit@3", "recall@5", "recall@10", "mrr", "ndcg@10")),
        "aurc",
    ),
    ShiftedByOne: ("quote_exactness",),
    ElsewhereByOne: ("quote_exactness",),
    Reworded: ("quote_exactness",),
    AlwaysAnswers: (
        *("right", "avna", "f1_rg", "abstention_recall", "abstention_f1"),
        *("auroc", "calibration_error", "citation_precision"),
    ),
    NeverAnswers: (
        "right",
        "avna",
        "f1_rg",
        "coverage",
        "abstention_precision",
        "abstention_f1",
        "citation_recall",
        "rouge_l",
    ),
    CreditsTheGuest: ("speaker", "quote_exactness"),
    QuotesTheInterviewer: ("right", "speaker", "citation_precision", "citation_recall"),
    OneKindOfNo: ("kind_of_no",),
    WrongWords: ("exact_match", "f1", "rouge_l"),
}


@pytest.fixture(scope="module")
def cases(lavrov: Transcript) -> tuple[Case, ...]:
    return read_cases(shipped_cases(), lavrov)


def figures(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    columns = Columns([{**o.scores, "right": float(o.verdict == "right")} for o in outcomes])
    return {m.name: figure(m, columns, resamples=2).value for m in MEASURES}


@pytest.fixture(scope="module")
def faithful(lavrov: Transcript, cases: tuple[Case, ...]) -> dict[str, float | None]:
    return figures(run_cases(Faithful(lavrov, cases), cases, rungs=("reader",)))


def test_a_faithful_pipeline_scores_full_marks(faithful: dict[str, float | None]) -> None:
    least = {
        "rouge_l": 0.8,
        "reader/sentence/recall@5": 0.99,
        "reader/sentence/ndcg@10": 0.99,
    }
    errors = {m.name for m in MEASURES if m.better == "lower"} - {"aurc"}
    for name, value in faithful.items():
        if name in errors:
            assert value == 0, name
        elif name != "aurc":  # unanswerable cases are errors at full coverage, whoever answers
            assert value is not None
            assert value >= least.get(name, 1.0), name


@pytest.mark.parametrize("pipeline", BROKEN, ids=lambda p: p.__name__)
def test_a_broken_pipeline_falls(
    pipeline: type[Faithful], lavrov: Transcript, cases: tuple[Case, ...], faithful: dict[str, float | None]
) -> None:
    broken = figures(run_cases(pipeline(lavrov, cases), cases, rungs=("reader",)))
    better = {m.name: m.better for m in MEASURES}
    for name in BROKEN[pipeline]:
        before, after = faithful[name], broken[name]
        assert before is not None
        assert after is not None
        fall = before - after if better[name] == "higher" else after - before
        assert fall > 0.05, f"{name} stays at {after} where {pipeline.__name__} should lower it"


def test_every_measure_has_a_pipeline_that_it_catches() -> None:
    assert {name for names in BROKEN.values() for name in names} == {m.name for m in MEASURES}


# Failures count ----------------------------------------------------------------------------


class Breaks(Faithful):
    """Fails on one question and says nonsense to another."""

    def answer(self, question: str, history: Sequence[str]) -> object:
        case = self.case(question, history)
        if case.case_id == "fact-01":
            raise QuestionError("the question cannot be used")
        return (
            {"reply": "maybe", "confidence": 0.5}
            if case.case_id == "absent-01"
            else super().answer(question, history)
        )


def test_a_failed_or_unreadable_reply_counts_and_is_shown(
    lavrov: Transcript, cases: tuple[Case, ...]
) -> None:
    few = [case for case in cases if case.case_id in ("fact-01", "fact-02", "absent-01", "absent-02")]
    outcomes = run_cases(Breaks(lavrov, cases), few, rungs=("reader",))
    report = make_report(About(name="few", title="Few", about="Few."), outcomes, ("reader",), 1.0)
    assert [c["verdict"] for c in report["cases"]] == ["failed", "failed", "right", "right"]
    assert {c["error"] for c in report["cases"][:2]} == {
        "the question cannot be used",
        "'reply' is 'maybe', neither 'answer' nor 'abstention'",
    }
    found = {f["name"]: f["value"] for f in report["figures"]["all"]}
    assert (found["avna"], found["right"], found["auroc"], found["citation_recall"]) == (0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("text", "not a JSON object"),
        ({"reply": "answer", "confidence": 2}, "not a probability"),
        ({"reply": "answer", "confidence": True, "statements": []}, "an answer without statements"),
        ({"reply": "answer", "confidence": 0.5, "statements": [{}]}, "a statement without quotes"),
        (
            {"reply": "answer", "confidence": 0.5, "statements": [{"quotes": [{"text": "x"}]}]},
            "a quote without text, speaker, start and end",
        ),
    ],
)
def test_what_cannot_be_read_is_named(
    reply: object, fault: str, lavrov: Transcript, cases: tuple[Case, ...]
) -> None:
    class Says(Faithful):
        def answer(self, _question: str, _history: Sequence[str]) -> object:
            return reply

    (outcome,) = run_cases(Says(lavrov, cases), cases[:1], rungs=("reader",))
    assert outcome.verdict == "failed"
    assert fault in (outcome.error or "")
