"""Run cases through a system, and keep everything that a report needs.

What is measured is the JSON object of `onrecord ask --json`, so that nothing is credited which a
user does not get. A reply that fails or cannot be read counts as wrong, and is shown.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from eval import metrics
from eval.cases import Case
from eval.exactness import check_quotes
from eval.spans import Span, meets, overlap
from index.errors import OnRecordError
from index.transcript import Transcript

RUNGS = ("BM25", "dense", "hybrid", "late interaction", "reader")
"""The ladder: each rung ranks the same sentences for the same questions; the last is what answers."""

Verdict = Literal["failed", "answered", "wrong quote", "declined", "partly", "right"]
VERDICTS: tuple[Verdict, ...] = ("failed", "answered", "wrong quote", "declined", "partly", "right")
"""Worst first: no readable reply; answered what has no answer; quoted something else; declined what
has an answer; quoted some parts; all parts quoted, or rightly declined."""

DEPTH = 10
"""How deep rankings are compared."""

Scores = dict[str, float | None]
Progress = Callable[[int, int], None]
RankingScorer = Callable[[Case, str, Sequence[int]], Scores]
"""More scores of a case's ranking by a rung."""


class System(Protocol):
    """What is measured: a transcript, cut into sentences and windows, and what is said about it.

    The units are sentences, or whole turns or passages where a suite says so.
    """

    @property
    def transcript(self) -> Transcript:
        """What is asked."""

    @property
    def sentences(self) -> Sequence[Span]:
        """Its units, in order."""

    @property
    def windows(self) -> Sequence[Span]:
        """Each unit with its neighbours."""

    def answer(self, question: str, history: Sequence[str]) -> object:
        """The object that `onrecord ask --json` prints."""

    def rank(self, rung: str, question: str, history: Sequence[str]) -> Sequence[int]:
        """Positions of units, best first, by one rung of the ladder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A case, what was said, and its scores. `scores` holds a column for each measure, `None`
    where it is undefined; `gold` are quotes as in the reply's JSON."""

    case: Case
    gold: tuple[tuple[dict[str, Any], ...], ...]
    said: dict[str, Any] | None
    error: str | None
    verdict: Verdict
    scores: Scores
    latency_ms: float


def run_cases(
    system: System,
    cases: Sequence[Case],
    *,
    rungs: Sequence[str] = RUNGS,
    asks: bool = True,
    score_ranking: RankingScorer | None = None,
    progress: Progress | None = None,
) -> tuple[Outcome, ...]:
    """One outcome for each case, in order.

    Where `asks` is false nothing is answered, and the verdict is whether the last rung of `rungs`
    puts the evidence first.
    """
    outcomes = []
    for done, case in enumerate(cases, 1):
        # First asked, so that what is timed is what a user waits for, and then ranked.
        reply = _ask(system, case) if asks else None
        ranking = _ranking_scores(system, case, rungs, score_ranking)
        outcomes.append(_asked(system, case, reply, ranking) if reply else _found(system, case, ranking))
        if progress:
            progress(done, len(cases))
    return tuple(outcomes)


def _found(system: System, case: Case, ranking: Scores) -> Outcome:
    return Outcome(
        case=case,
        gold=_gold(system.transcript, case),
        said=None,
        error=None,
        verdict="right" if ranking["first_is_right"] else "wrong quote",
        scores=ranking,
        latency_ms=0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    said: dict[str, Any] | None
    error: str | None
    latency_ms: float


def _ask(system: System, case: Case) -> _Reply:
    said, error = None, None
    started = time.perf_counter()
    try:
        reply = system.answer(case.question, case.history)
        latency_ms = (time.perf_counter() - started) * 1000
        error = unreadable(reply)
        if error is None and isinstance(reply, dict):
            said = reply
    except OnRecordError as exc:
        latency_ms = (time.perf_counter() - started) * 1000
        error = str(exc)
    return _Reply(said=said, error=error, latency_ms=latency_ms)


def _asked(system: System, case: Case, reply: _Reply, ranking: Scores) -> Outcome:
    scores = _reply_scores(system.transcript, case, reply.said) | ranking
    return Outcome(
        case=case,
        gold=_gold(system.transcript, case),
        said=reply.said,
        error=reply.error,
        verdict=_verdict(case, reply.said, scores),
        scores=scores,
        latency_ms=reply.latency_ms,
    )


def _gold(transcript: Transcript, case: Case) -> tuple[tuple[dict[str, Any], ...], ...]:
    return tuple(
        tuple(
            {
                "text": transcript.words(span.start, span.end),
                "speaker": transcript.turn_at(span.start).speaker,
                "start": span.start,
                "end": span.end,
            }
            for span in part
        )
        for part in case.evidence
    )


# Replies -----------------------------------------------------------------------------------


def unreadable(reply: object) -> str | None:
    """What keeps a reply from being the object that `onrecord ask --json` prints, if anything."""
    if not isinstance(reply, dict):
        return f"the reply is not a JSON object but {type(reply).__name__}"
    confidence = reply.get("confidence")
    if not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        return f"the confidence {confidence!r} is not a probability"
    if reply.get("reply") == "abstention":
        return None
    if reply.get("reply") != "answer":
        return f"'reply' is {reply.get('reply')!r}, neither 'answer' nor 'abstention'"
    statements = reply.get("statements")
    if not isinstance(statements, list) or not statements:
        return "an answer without statements"
    for statement in statements:
        quotes = statement.get("quotes") if isinstance(statement, dict) else None
        if not isinstance(quotes, list) or not quotes:
            return "a statement without quotes"
        if not all(isinstance(q, dict) and _is_quote(q) for q in quotes):
            return "a quote without text, speaker, start and end"
    return None


def _is_quote(quote: Mapping[str, Any]) -> bool:
    strings = all(isinstance(quote.get(key), str) for key in ("text", "speaker"))
    start, end = quote.get("start"), quote.get("end")
    return strings and isinstance(start, int) and isinstance(end, int) and start < end


def answer_text(said: Mapping[str, Any], *, short: bool) -> str:
    """What an answer says in words: its short answers where it marks them, or all it quotes."""
    return (", " if short else " ").join(
        (s.get("short_answer") or s)["text"] if short else s["text"]
        for s in said.get("statements", [])
        if isinstance(s.get("text"), str)
    )


def _reply_scores(transcript: Transcript, case: Case, said: dict[str, Any] | None) -> Scores:
    """What can be told from the reply alone. A reply that failed is wrong in everything defined."""
    answered = said["reply"] == "answer" if said else not case.answerable
    confidence = float(said["confidence"]) if said else float(not case.answerable)
    quotes = [q for s in said["statements"] for q in s["quotes"]] if said and answered else []
    spans = [Span(q["start"], q["end"]) for q in quotes]
    checked = check_quotes(transcript.text, said) if said else ()
    speakers = {transcript.turn_at(s.start).speaker for part in case.evidence for s in part}
    golds = case.short or (_shortest(transcript, case),)
    text = answer_text(said, short=False) if said and answered else ""
    brief = answer_text(said, short=True) if said and answered else ""
    declined_rightly = not case.answerable and not answered
    return {
        "answerable": float(case.answerable),
        "answered": float(answered),
        "confidence": confidence,
        "quote_exactness": sum(c.fault is None for c in checked) / len(checked) if checked else None,
        "citation_precision": metrics.citation_precision(spans, case.evidence),
        "citation_recall": metrics.citation_recall(spans, case.evidence),
        "speaker": float({q["speaker"] for q in quotes} <= speakers) if case.answerable and quotes else None,
        "exact_match": metrics.exact_match(brief, case.short),
        "f1": metrics.token_f1(brief, case.short),
        "rouge_l": metrics.rouge_l_recall(text, golds) if case.answerable else None,
        "kind_of_no": float(said.get("reason") == case.reason)
        if said and case.reason and declined_rightly
        else None,
    }


def _shortest(transcript: Transcript, case: Case) -> str:
    """A reference answer in sentences: of each part the shortest passage that would do."""
    chosen = [min(part, key=lambda s: (s.end - s.start, s.start)) for part in case.evidence]
    return " ".join(transcript.words(s.start, s.end) for s in chosen)


def _verdict(case: Case, said: dict[str, Any] | None, scores: Scores) -> Verdict:
    if said is None:
        return "failed"
    if not case.answerable:
        return "answered" if scores["answered"] else "right"
    if not scores["answered"]:
        return "declined"
    recall = scores["citation_recall"] or 0.0
    return "right" if recall == 1 else "partly" if recall else "wrong quote"


# Rankings ----------------------------------------------------------------------------------


def _ranking_scores(
    system: System, case: Case, rungs: Sequence[str], score_ranking: RankingScorer | None
) -> Scores:
    """For each rung `"<rung>/<unit>/<metric>"`, over sentences and over their windows."""
    scores: Scores = {}
    parts = {
        unit: [
            {i for i, span in enumerate(spans) if any(meets(span, gold) for gold in metrics.minimal(part))}
            for part in case.evidence
        ]
        for unit, spans in (("sentence", system.sentences), ("window", system.windows))
    }
    for rung in rungs:
        try:
            ranking = list(system.rank(rung, case.question, case.history)) if case.answerable else []
        except OnRecordError:
            ranking = []
        if score_ranking and case.answerable:
            scores |= score_ranking(case, rung, ranking)
        rankings = {"sentence": ranking, "window": _apart(ranking, system.sentences, system.windows)}
        for unit, wanted in parts.items():
            ranks = metrics.first_ranks(rankings[unit], wanted)
            at = f"{rung}/{unit}/"
            scores |= {f"{at}hit@{k}": metrics.hit_at(k, ranks) for k in (1, 3)}
            depths = range(1, DEPTH + 1) if unit == "window" else (5, DEPTH)
            scores |= {f"{at}recall@{k}": metrics.recall_at(k, ranks) for k in depths}
            scores[f"{at}mrr"] = metrics.reciprocal_rank(ranks, DEPTH)
            scores[f"{at}ndcg@10"] = metrics.ndcg_at(DEPTH, ranks, wanted)
    if rungs:
        scores["first_is_right"] = scores[f"{rungs[-1]}/sentence/hit@1"] or 0.0
    return scores


def _apart(ranking: Sequence[int], sentences: Sequence[Span], windows: Sequence[Span]) -> list[int]:
    """The first windows of a ranking that are different places: one whose middle sentence stands in
    a better window is left out, as it is from the hits that a user sees."""
    chosen: list[int] = []
    covered: set[int] = set()
    for i in ranking:
        if i in covered:
            continue
        chosen.append(i)
        if len(chosen) == DEPTH:
            break
        for step in (-1, 1):
            j = i
            while 0 <= j < len(sentences) and overlap(sentences[j], windows[i]):
                covered.add(j)
                j += step
    return chosen
