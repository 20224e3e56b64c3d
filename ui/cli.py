"""The command `onrecord`.

Every heavy library is imported inside the command that needs it, so that `--help` answers at once.
A user's mistake is one line on standard error and exit status 2.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from index.errors import OnRecordError, QuestionError

if TYPE_CHECKING:
    from eval.commands import Done
    from index.encoder import Encoder, Progress
    from rag.pipeline import Interview

app = typer.Typer(
    help="Ask an interview a question. Every answer is quoted word for word from the transcript, leads back "
    "to its place, or says that the interview does not say.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Transcript = Annotated[
    Path | None,
    typer.Option(
        "--transcript", "-t", metavar="FILE", help="Transcript to ask; default: the interview that ships."
    ),
]
IndexDirectory = Annotated[
    Path | None,
    typer.Option("--index", metavar="DIR", help="Index directory to open as it is, instead of a transcript."),
]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Name or folder of a sentence-transformers model; default: all-MiniLM-L6-v2.",
    ),
]
AllowDownload = Annotated[
    bool, typer.Option("--allow-download", help="Let the encoder be downloaded if it is not on this machine.")
]
ReaderName = Annotated[
    str | None,
    typer.Option(
        "--reader",
        metavar="NAME",
        help="Name or folder of a CrossEncoder or question-answering model to read the best passages with.",
    ),
]


@app.command("index")
def index_command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Transcripts; default: the interview that ships."),
    ] = None,
    encoder: EncoderName = None,
    allow_download: AllowDownload = False,
) -> None:
    """Index transcripts, so that the first question is answered at once."""
    from index.store import build_index, index_directory
    from index.transcript import interview_path, read_transcript

    model = _encoder(encoder, allow_download)
    paths = files or [interview_path()]
    for path, transcript in [(path, read_transcript(path)) for path in paths]:
        directory = index_directory(path)
        with _progress(f"Indexing {path.name}") as progress:
            built = build_index(transcript, directory, model, progress)
        total = len(built.index.sentences)
        fresh = "up to date" if built.encoded == 0 else f"{built.encoded} of {total} sentences encoded"
        typer.echo(f"{path.name}: {len(transcript.turns)} turns, {total} sentences, {fresh}: {directory}")


@app.command()
def ask(
    question: Annotated[str | None, typer.Argument(help="What to ask.")] = None,
    transcript: Transcript = None,
    index: IndexDirectory = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--history", metavar="QUESTION", help="An earlier question; repeat it, oldest first."),
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl", help='Ask every line of a file: {"id", "question", "history": [...]}.'
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a question.")] = False,
    encoder: EncoderName = None,
    reader: ReaderName = None,
    allow_download: AllowDownload = False,
) -> None:
    """Ask one question, or a file of them."""
    if (question is None) == (batch is None):
        raise QuestionError("give either a question or --batch FILE")
    from rag.question import check_question
    from rag.replies import reply_as_dict

    if batch:
        lines = _read_batch(batch)
    else:
        lines = [{"question": check_question(question or ""), "history": history or []}]
    interview = _interview(transcript, index, encoder, reader, allow_download)
    for line in lines:
        reply = interview.ask(line["question"], line["history"])
        if as_json:
            entry = {"id": line["id"]} if "id" in line else {}
            typer.echo(json.dumps(entry | reply_as_dict(interview.transcript, reply), ensure_ascii=False))
        else:
            from ui.render import render_text

            if batch:
                typer.echo(f"{line['question']}\n")
            typer.echo(render_text(interview.transcript, reply))


@app.command()
def chat(
    transcript: Transcript = None,
    index: IndexDirectory = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; the default is reached from this machine only.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 7860,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    encoder: EncoderName = None,
    reader: ReaderName = None,
    allow_download: AllowDownload = False,
) -> None:
    """Serve the page: the chat, and the transcript beside it."""
    interview = _interview(transcript, index, encoder, reader, allow_download)
    from eval.cases import append_case
    from eval.commands import last_report
    from index.store import default_home
    from ui.page import serve

    own = default_home() / f"cases-{Path(interview.transcript.source).stem}.jsonl"

    def keep_case(question: str, quotes: Sequence[str], earlier: Sequence[str]) -> None:
        append_case(own, interview.transcript, question, quotes, history=earlier)

    report = last_report()
    serve(interview, host=host, port=port, open_browser=open_browser, report=report, keep_case=keep_case)


@app.command("transcript")
def transcript_command(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Transcript; default: the interview that ships.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a turn.")] = False,
) -> None:
    """Show how a transcript is understood: its turns, who speaks in which role, and where."""
    from index.transcript import interview_path, read_transcript

    found = read_transcript(file or interview_path())
    if as_json:
        for turn in found.turns:
            entry = {"turn_id": turn.turn_id, "speaker": turn.speaker, "role": turn.role}
            place = {"start": turn.start, "end": turn.end, "start_s": turn.start_s, "end_s": turn.end_s}
            typer.echo(
                json.dumps(entry | place | {"text": found.words(turn.start, turn.end)}, ensure_ascii=False)
            )
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(found.title), title_justify="left", box=None, pad_edge=False)
    table.add_column("Turn", justify="right", min_width=4)
    table.add_column("Speaker", min_width=8)
    table.add_column("Role", min_width=11)
    table.add_column("Start", justify="right", min_width=6)
    table.add_column("Words", justify="right", min_width=5)
    console = Console()
    table.add_column("Beginning", overflow="ellipsis", no_wrap=True, max_width=max(20, console.width - 56))
    for turn in found.turns:
        words = found.words(turn.start, turn.end)
        cells = (
            str(turn.turn_id),
            turn.speaker,
            turn.role,
            str(turn.start),
            str(len(words.split())),
            words[:200],
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


evaluation = typer.Typer(
    help="Measure grounding: every case, every figure with its interval, one report.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(evaluation, name="eval")


@evaluation.callback()
def eval_command(
    context: typer.Context,
    suite: Annotated[
        str, typer.Option(help="'interview' (the cases that ship), or a public suite by its name.")
    ] = "interview",
    cases: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="Your own cases, in the format of the shipped ones."),
    ] = None,
    transcript: Transcript = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the public suites' data lie.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write the report; default: beside the indexes."),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Figures that must be reached; default: the shipped ones."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Run the first cases only, for a trial.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A.json B.json", help="Compare two reports instead.")
    ] = None,
) -> None:
    """Run a suite and write its report as JSON, Markdown and one HTML page.

    Exit status 1 where a figure is below its threshold.
    """
    if context.invoked_subcommand:
        return
    from eval import commands

    if compare:
        _say(commands.compare(*compare))
        return
    with _progress(f"Evaluating {suite}") as progress:
        done = commands.run_suite(
            suite,
            cases=cases,
            transcript=transcript,
            data=data,
            out=out,
            thresholds=thresholds,
            limit=limit,
            progress=progress,
        )
    _say(done)


@evaluation.command("check")
def eval_check(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Cases to check.")],
    transcript: Transcript = None,
) -> None:
    """Say which cases cannot be used, and which quotes are not in the transcript."""
    from eval import commands

    _say(commands.check(file, transcript))


@evaluation.command("readme")
def eval_readme(
    readme: Annotated[Path, typer.Argument(metavar="README.md")] = Path("README.md"),
    report: Annotated[
        Path | None,
        typer.Option(metavar="REPORT.json", help="Default: the report that ships."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether they agree.")] = False,
) -> None:
    """Write a report's figures into README."""
    from eval import commands

    _say(commands.readme(readme, report or commands.SHIPPED_REPORT, check_only=check))


def _say(done: "Done") -> None:
    """Print what a command has to say, and leave with its status."""
    try:
        typer.echo(done.text)
    except BrokenPipeError:
        if not done.exit_status:
            raise
    if done.exit_status:
        raise typer.Exit(done.exit_status)


def _read_batch(path: Path) -> list[dict[str, Any]]:
    """The questions of a JSON-lines file; `QuestionError` names the line that cannot be read."""
    from rag.question import check_question

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise QuestionError(f"{path} cannot be read ({reason}): give a file of JSON lines") from exc
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            earlier = entry.get("history") or []
            if not isinstance(entry["question"], str) or not isinstance(earlier, list):
                raise TypeError
            if not all(isinstance(h, str) for h in earlier):
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise QuestionError(
                f'{path}, line {number}: not an object like {{"id": "1", "question": "...", "history": []}}'
            ) from None
        try:
            entries.append(
                {"id": entry.get("id"), "question": check_question(entry["question"]), "history": earlier}
            )
        except QuestionError as exc:
            raise QuestionError(f"{path}, line {number}: {exc}") from None
    if not entries:
        raise QuestionError(f"{path} holds no questions: give one JSON object a line")
    return entries


def _encoder(name: str | None, allow_download: bool) -> "Encoder":
    from index.encoder import DEFAULT_ENCODER, Encoder

    return Encoder(name or DEFAULT_ENCODER, allow_download=allow_download)


def _interview(
    transcript: Path | None, index: Path | None, encoder: str | None, reader: str | None, allow_download: bool
) -> "Interview":
    if transcript and index:
        raise OnRecordError("give either --transcript or --index, not both")
    from rag.pipeline import open_directory, open_interview

    if index:
        interview = open_directory(index, encoder=_encoder(encoder, allow_download) if encoder else None)
    else:
        with _progress("Indexing, for the first question only") as progress:
            interview = open_interview(
                transcript, encoder=_encoder(encoder, allow_download), progress=progress
            )
    if reader:
        from rag.models import reader_from

        interview.reader = reader_from(reader, interview.reader, allow_download=allow_download)
    return interview


@contextmanager
def _progress(description: str) -> Iterator["Progress"]:
    """A progress bar on standard error, shown only when the work takes longer than a second."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(description, total=None)
    started = monotonic()
    is_shown = False

    def advance(done: int, total: int) -> None:
        nonlocal is_shown
        if not is_shown and done < total and monotonic() - started > 1:
            bar.start()
            is_shown = True
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if is_shown:
            bar.stop()


def main() -> None:
    """Run the command line; the console script's entry."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except OnRecordError as exc:
        _fail(str(exc))
    except typer.TyperException as exc:
        _fail(f"{exc.format_message().rstrip('.')}: see 'onrecord --help'")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except SystemExit as exc:
        # Click and rich leave with 1 where the reader of a pipe has gone ("| head -1"): no failure.
        sys.exit(0 if isinstance(exc.__context__, BrokenPipeError) else exc.code)
    except OSError as exc:
        # What is left in the buffer cannot be written either: leave without another attempt.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(exc, BrokenPipeError):
            sys.exit(0)
        _fail(f"the output cannot be written ({exc.strerror or exc}): free space or write it elsewhere")


def _fail(message: str) -> NoReturn:
    print(f"onrecord: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
