"""What `onrecord eval` does; `ui/cli.py` gives these functions their options and prints what they return.

Nothing heavy is imported before one of them is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.report import Report

Progress = Callable[[int, int], None]
INTERVIEW = "interview"
SHIPPED_REPORT = Path(__file__).parent / "data" / "report.json"
"""The report whose figures README shows, made by `make report`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command has to say, and its exit status: 0, or 1 where a figure or a case falls short."""

    text: str
    exit_status: int = 0


def report_folder(home: Path | None = None) -> Path:
    """Where reports are kept unless another folder is given."""
    from index.store import default_home

    return (home or default_home()) / "evaluation"


def last_report(home: Path | None = None) -> Path:
    """The last report of the shipped cases made here, else the one that ships."""
    own = report_folder(home) / f"{INTERVIEW}.json"
    return own if own.is_file() else SHIPPED_REPORT


def run_suite(
    suite: str = INTERVIEW,
    *,
    cases: Path | None = None,
    transcript: Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
    home: Path | None = None,
    thresholds: Path | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Done:
    """Run a suite, write its report, and hold its figures against the thresholds.

    The default suite asks the shipped interview the shipped cases. `cases` (with `transcript`, where
    it is not the shipped one) runs a user's own; any other `suite` is a public one, whose data lie in
    the folder `data`. `limit` runs the first cases only, for a trial: no thresholds then.
    """
    from eval.report import figure_table, published_table, save_report
    from eval.thresholds import DEFAULT, missed_thresholds

    report = (
        _own(cases, transcript, home, limit, progress)
        if suite == INTERVIEW
        else _public(suite, data, home, limit, progress)
    )
    paths = save_report(report, out or report_folder(home))
    missed = () if limit else missed_thresholds(report, thresholds or DEFAULT)
    lines = [report["suite"]["title"], "", *figure_table(report), ""]
    if table := published_table(report):
        lines += [*table, ""]
    lines += [f"{kind}: {path}" for kind, path in paths.items()]
    lines += [f"below the threshold: {line}" for line in missed]
    return Done(text="\n".join(lines), exit_status=1 if missed else 0)


def _own(
    cases_file: Path | None,
    transcript: Path | None,
    home: Path | None,
    limit: int | None,
    progress: Progress | None,
) -> "Report":
    from eval.cases import CaseError, read_cases, shipped_cases
    from eval.report import About, make_report
    from eval.runner import RUNGS, run_cases
    from eval.systems import InterviewSystem
    from rag.pipeline import open_interview

    if transcript and not cases_file:
        raise CaseError("cases about your own transcript are needed: give them with --cases FILE")
    interview = open_interview(transcript, home=home)
    file = cases_file or shipped_cases()
    chosen = read_cases(file, interview.transcript)[:limit]
    unanswerable = sum(not case.answerable for case in chosen)
    about = About(
        name=cases_file.stem if cases_file else INTERVIEW,
        title=interview.transcript.title,
        about=f"{len(chosen)} questions, {unanswerable} of them without an answer in the transcript; "
        f"every one is listed below with what was said.",
        transcript_id=interview.transcript.transcript_id,
    )
    started = perf_counter()
    outcomes = run_cases(InterviewSystem(interview), chosen, progress=progress)
    return make_report(about, outcomes, RUNGS, perf_counter() - started)


def _public(
    suite: str, data: Path | None, home: Path | None, limit: int | None, progress: Progress | None
) -> "Report":
    from eval.cases import CaseError
    from eval.suites import SUITES, run_public

    if suite not in SUITES:
        raise CaseError(f"there is no suite {suite!r}: choose {INTERVIEW}, {', '.join(SUITES)}")
    if data is None:
        raise CaseError(f"the suite {suite!r} needs its data: give their folder with --data FOLDER")
    return run_public(suite, data, report_folder(home) / "embeddings", limit=limit, progress=progress)


def compare(a: Path, b: Path) -> Done:
    """Compare report B with report A."""
    from eval.compare import compare_reports, render_comparison
    from eval.report import load_report

    names = (a.stem, b.stem) if a.stem != b.stem else (str(a), str(b))
    return Done(text=render_comparison(compare_reports(load_report(a), load_report(b)), *names))


def check(cases: Path, transcript: Path | None = None) -> Done:
    """Say what is wrong with each line of a file of cases."""
    from eval.cases import check_cases
    from index.transcript import interview_path, read_transcript

    source = transcript or interview_path()
    found, problems = check_cases(cases, read_transcript(source))
    lines = [f"{cases.name}:{problem.line}: {problem.message}" for problem in problems]
    unanswerable = sum(not case.answerable for case in found)
    lines.append(
        f"{len(found)} cases can be used, {unanswerable} of them unanswerable; {len(problems)} problems"
    )
    return Done(text="\n".join(lines), exit_status=2 if problems or not found else 0)


def readme(readme_file: Path, report_file: Path, *, check_only: bool = False) -> Done:
    """Write README's figures from a report, or say whether they are the report's."""
    from eval.readme import is_current, write_block
    from eval.report import load_report

    report = load_report(report_file)
    if check_only:
        if is_current(readme_file, report):
            return Done(text=f"{readme_file.name} shows the figures of {report_file.name}")
        return Done(text=f"{readme_file.name} does not show the figures of {report_file.name}", exit_status=1)
    changed = write_block(readme_file, report)
    return Done(text=f"{readme_file.name} is {'now' if changed else 'already'} up to date")
