"""Speed as ratios within one run, so that a slow or a busy machine does not change the verdict.

Run it by `make bench`. Exit status 1 where a bar is missed:

    retrieval / embedding the question alone          at most 1.5
    building the index / encoding its windows alone   at most 1.3
    an answer without a last stage / embedding        at most 2
    a whole answer, last stage included               at most 250 ms
    onrecord --help                                   under 0.5 s
"""

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from index.chunks import make_windows
from index.encoder import Encoder
from index.sentences import split_sentences
from index.store import build_index
from index.transcript import interview_path, read_transcript
from rag.pipeline import Interview, open_interview
from rag.reader import LateReader

QUESTIONS = (
    "Who was not invited to the summit for democracy?",
    "Why was Ashraf Ghani unhappy with the agreement concluded in Doha?",
    "Which countries refused American bases on their territory?",
    "What did Matteo Salvini refuse to allow?",
)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    started = perf_counter()
    work()
    return perf_counter() - started


def paired(
    work: Callable[[str], object], base: Callable[[str], object], rounds: int = 25
) -> tuple[float, float, float]:
    """Median seconds of both, taken in turn on the same questions, and the median of their ratios."""
    pairs = [
        (seconds(lambda q=q: work(q)), seconds(lambda q=q: base(q))) for _ in range(rounds) for q in QUESTIONS
    ]  # type: ignore[misc]
    ratio = statistics.median(a / b for a, b in pairs)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), ratio


def main() -> int:
    """Measure, print, and judge."""
    encoder = Encoder()
    transcript = read_transcript(interview_path())
    windows = make_windows(transcript, split_sentences(transcript))
    encoder.encode_windows(windows[:32])
    with tempfile.TemporaryDirectory() as home:
        ratios = []
        for number in range(3):
            alone = seconds(lambda: encoder.encode_windows(windows))
            built = seconds(lambda n=number: build_index(transcript, Path(home) / str(n), encoder))  # type: ignore[misc]
            ratios.append((built / alone, built, alone))
        building, built, alone = sorted(ratios)[1]
        interview = open_interview(home=Path(home), encoder=encoder)
        for question in QUESTIONS:
            interview.ask(question)

        def embedding(question: str) -> object:
            return encoder.encode_questions([question])

        search, embed, retrieval = paired(interview.search, embedding)
        plain = Interview(interview.index, encoder, reader=LateReader())
        simple, _, simply = paired(plain.ask, embedding)
        whole, _, answer = paired(interview.ask, embedding)
    command = [sys.executable, "-m", "ui.cli", "--help"]
    helps = min(seconds(lambda: subprocess.run(command, capture_output=True, check=True)) for _ in range(3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = (
        ("retrieval / embedding the question", retrieval, 1.5, f"{search * 1e3:.1f} / {embed * 1e3:.1f} ms"),
        ("answer without last stage / embedding", simply, 2, f"{simple * 1e3:.1f} ms"),
        ("whole answer, ms", whole * 1e3, 250, f"{answer:.1f} times embedding the question"),
        ("building / encoding its windows", building, 1.3, f"{built:.2f} / {alone:.2f} s"),
        ("onrecord --help, seconds", helps, 0.5, ""),
    )
    print(f"{'':40}{'figure':>8}{'bar':>7}")
    for name, figure, bar, note in rows:
        print(f"{name:40}{figure:8.2f}{bar:7.1f}  {'' if figure <= bar else 'MISSED  '}{note}")
    print(f"{'peak memory of this run, MiB':40}{peak:8.0f}")
    return int(any(figure > bar for _, figure, bar, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
