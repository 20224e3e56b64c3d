"""The public suites: which set, run how, beside whose figures.

Floors are what the same encoder and bm25s reached without this program; published figures are those
of the sets' authors, of leaderboards' own predictions scored here, or of public result lists.
"""

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from eval import metrics, public
from eval.cache import CachedCrossEncoder, CachedEncoder
from eval.cases import Case, CaseError
from eval.measures import MEASURES, Measure, averaged, ranked
from eval.public import Scope
from eval.report import About, Published, Report, make_report
from eval.runner import RUNGS, Outcome, Progress, RankingScorer, Scores, System, answer_text, run_cases
from eval.spans import Span
from eval.systems import InterviewSystem
from index.chunks import Window
from index.encoder import DEFAULT_ENCODER, PUBLISHED, Encoder
from index.lexical import LexicalIndex
from index.store import make_index
from rag.pipeline import Interview
from rag.trained import TrainedReader

TEXTS = Path(__file__).parent / "data" / "suites.toml"
"""Titles, notes, floors and published figures of the suites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """How a public set is run; `data/suites.toml` says the rest.

    `system` makes what is measured; `asks` is false where passages are found but nothing is
    answered; `finish` adds scores that need the whole outcome.
    """

    load: Callable[[Path], Iterator[Scope]]
    rungs: tuple[str, ...] = RUNGS
    asks: bool = True
    encoder: str = DEFAULT_ENCODER
    measures: tuple[Measure, ...] = MEASURES
    leaderboard: Callable[[Path, Sequence[Case]], tuple[Published, ...]] | None = None
    system: Callable[[Scope, Encoder], System] | None = None
    score_ranking: Callable[[System], RankingScorer] | None = None
    finish: Callable[[Outcome], Scores] | None = None


def run_public(
    name: str, data: Path, embeddings: Path, *, limit: int | None = None, progress: Progress | None = None
) -> Report:
    """Run one of `SUITES` on the sets in `data`; what was embedded is kept in `embeddings`."""
    suite = SUITES[name]
    if not data.is_dir():
        raise CaseError(f"{data} is not a folder: give the one that holds the public sets")
    encoder = CachedEncoder(Encoder(suite.encoder), embeddings)
    scopes = list(_first(suite.load(data), limit))
    total = sum(len(scope.cases) for scope in scopes)
    outcomes: list[Outcome] = []
    started = perf_counter()
    for scope in scopes:
        system = (suite.system or _asked)(scope, encoder)
        found = run_cases(
            system,
            scope.cases,
            rungs=suite.rungs,
            asks=suite.asks,
            score_ranking=suite.score_ranking(system) if suite.score_ranking else None,
        )
        if progress:
            progress(len(outcomes) + len(found), total)
        outcomes += [replace(o, scores=o.scores | suite.finish(o)) if suite.finish else o for o in found]
    text = tomllib.loads(TEXTS.read_text(encoding="utf-8"))[name]
    published = tuple(Published(**row) for row in text.get("published", ()))
    if suite.leaderboard:
        published += suite.leaderboard(data, [o.case for o in outcomes])
    about = About(
        name=name,
        title=text["title"],
        about=f"{text['about']} {total:,} questions, {len(scopes):,} texts.",
        notes=tuple(text.get("notes", ())),
        published=published,
        measures=suite.measures,
    )
    return make_report(about, outcomes, suite.rungs, perf_counter() - started)


def _first(scopes: Iterator[Scope], limit: int | None) -> Iterator[Scope]:
    left = limit
    for scope in scopes:
        if left is None:
            yield scope
        elif left > 0:
            yield replace(scope, cases=scope.cases[:left])
            left -= len(scope.cases)
        else:
            return


def _asked(scope: Scope, encoder: Encoder) -> InterviewSystem:
    index = make_index(scope.transcript, encoder, scope.units).index
    reader = None
    if isinstance(encoder, CachedEncoder) and encoder.name == DEFAULT_ENCODER:
        reader = TrainedReader(CachedCrossEncoder(encoder))
    return InterviewSystem(Interview(index, encoder, reader=reader))


# Systems that only find --------------------------------------------------------------------


class SeparatePassages:
    """Passages embedded by themselves and searched by vectors or by BM25: the pre-check of encoder,
    lexical index and metrics against figures that others published."""

    def __init__(self, scope: Scope, encoder: Encoder) -> None:
        self.transcript = scope.transcript
        self.sentences = tuple(Span(t.start, t.end) for t in scope.transcript.turns)
        self.windows = self.sentences
        texts = [scope.transcript.words(*span) for span in self.sentences]
        self._encoder = encoder
        self._vectors = encoder.encode_windows([Window(text=t, focus=((0, len(t)),)) for t in texts]).vectors
        self._lexical = LexicalIndex.build(texts)

    def answer(self, question: str, history: Sequence[str]) -> object:
        """Nothing is answered."""
        raise NotImplementedError("passages are found, not asked")

    def rank(self, rung: str, question: str, history: Sequence[str]) -> list[int]:
        """Every passage, best first."""
        del history
        if rung == "dense":
            scores = self._vectors @ self._encoder.encode_questions([question])[0].vector
        else:
            scores = self._lexical.scores(question)
        return [int(i) for i in np.argsort(-scores, kind="stable")]


SESSION = ("as asked", "human rewrite", "session")


class FollowUps:
    """What a session makes of a follow-up: the question alone, a human's rewrite, and the question
    with the session's earlier ones. All three search by the program's own retrieval."""

    def __init__(self, scope: Scope, encoder: Encoder) -> None:
        self._asked = _asked(scope, encoder)
        self.transcript = scope.transcript
        self.sentences = self._asked.sentences
        self.windows = self._asked.windows
        self._rewrites = {(c.question, c.history): scope.rewrites[c.case_id] for c in scope.cases}

    def answer(self, question: str, history: Sequence[str]) -> object:
        """Nothing is answered."""
        raise NotImplementedError("passages are found, not asked")

    def rank(self, rung: str, question: str, history: Sequence[str]) -> list[int]:
        """Every answer of every dialogue, best first."""
        if rung == "human rewrite":
            question = self._rewrites[question, tuple(history)]
        return self._asked.rank("late interaction", question, history if rung == "session" else ())


def _reading(system: System, share: float = 0.15) -> RankingScorer:
    """QMSum: the share of the gold's words found when the best turns are read, up to a share of all
    words of the meeting."""
    lengths = [len(system.transcript.text[s.start : s.end].split()) for s in system.sentences]
    place = {span: i for i, span in enumerate(system.sentences)}
    budget = share * sum(lengths)

    def score(case: Case, rung: str, ranking: Sequence[int]) -> Scores:
        gold = {place[span] for part in case.evidence for span in part}
        read, found = 0, 0
        for i in ranking:
            if read + lengths[i] > budget:
                break
            read += lengths[i]
            found += lengths[i] * (i in gold)
        return {f"{rung}/sentence/gold_words": found / sum(lengths[i] for i in gold)}

    return score


# Published figures -------------------------------------------------------------------------


def _leaderboard(data: Path, cases: Sequence[Case]) -> tuple[Published, ...]:
    """SQuAD 2.0 systems' own predictions, scored here on exactly the questions of the run."""
    folder = data / "squad2_half"
    official = public.read_json(folder / "official_ids.json")
    rows = []
    for path in sorted((folder / "leaderboard_predictions").glob("v2.0_*.json")):
        predictions = public.read_json(path)
        scored = [squad_scores(case, predictions[official[case.case_id]]) for case in cases]
        rows.append(Published(system=path.stem[5:].split(" (")[0], values=_means(scored), note="leaderboard"))
    nothing = _means([squad_scores(case, "") for case in cases])
    rows.append(Published(system="always abstain", values=nothing))
    return tuple(sorted(rows, key=lambda r: -r.values["squad_f1"]))


def _means(scored: Sequence[Scores]) -> dict[str, float]:
    """The mean of each column over the cases that define it."""
    columns = {name: [s[name] for s in scored] for name in scored[0]}
    defined = {name: [v for v in values if v is not None] for name, values in columns.items()}
    return {name: sum(values) / len(values) for name, values in defined.items() if values}


def squad_scores(case: Case, prediction: str) -> Scores:
    """SQuAD 2.0's EM and F1, over all, with and without answer; an empty prediction abstains."""
    golds = case.short if case.answerable else ("",)
    f1 = metrics.token_f1(prediction, golds)
    return {
        "squad_em": metrics.exact_match(prediction, golds),
        "squad_f1": f1,
        "squad_has_answer": f1 if case.answerable else None,
        "squad_no_answer": None if case.answerable else f1,
        "squad_avna": float(case.answerable == bool(prediction)),
    }


def _squad_finish(outcome: Outcome) -> Scores:
    said = outcome.said
    return squad_scores(
        outcome.case, answer_text(said, short=True) if said and said["reply"] == "answer" else ""
    )


_SQUAD_MEASURES = tuple(
    averaged(name, label, "SQuAD 2.0")
    for name, label in (
        ("squad_em", "EM"),
        ("squad_f1", "F1"),
        ("squad_has_answer", "F1, answerable"),
        ("squad_no_answer", "F1, unanswerable"),
        ("squad_avna", "AvNA"),
    )
)

SUITES: dict[str, Suite] = {
    "xquad": Suite(
        load=public.xquad,
        rungs=("BM25", "dense"),
        asks=False,
        encoder=PUBLISHED,
        measures=tuple(ranked(rung, "sentence", "ndcg@10", f"nDCG@10, {rung}") for rung in ("dense", "BM25")),
        system=SeparatePassages,
    ),
    "locomo": Suite(load=public.locomo),
    "squad2-article": Suite(load=public.squad2_articles),
    "squad2-paragraph": Suite(
        load=public.squad2_paragraphs,
        rungs=("BM25", "dense", "reader"),
        measures=(*_SQUAD_MEASURES, *MEASURES),
        leaderboard=_leaderboard,
        finish=_squad_finish,
    ),
    "canard": Suite(
        load=public.canard,
        rungs=SESSION,
        asks=False,
        measures=tuple(
            ranked(rung, "sentence", metric, f"{label}, {rung}")
            for metric, label in (("ndcg@10", "nDCG@10"), ("hit@1", "Evidence first"))
            for rung in SESSION
        ),
        system=FollowUps,
    ),
    "qmsum": Suite(
        load=public.qmsum,
        asks=False,
        measures=tuple(
            averaged(f"{rung}/sentence/gold_words", f"Words of the gold found, {rung}", "Reading 15 %")
            for rung in RUNGS
        ),
        score_ranking=_reading,
    ),
}
