"""The command line as a user meets it: answers, JSON, batches, and one clear line for bad input."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from index.store import build_index
from index.transcript import fold, interview_path, read_transcript
from tests.conftest import DIALOGUE, HashEncoder
from tests.test_store import damage
from ui.cli import main

Run = Callable[..., tuple[int, str, str]]
QUESTION = "When will the summit for democracy take place?"


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Run the command in this process: (exit status, standard output, standard error)."""
    home = tmp_path_factory.getbasetemp() / "cli-home"
    monkeypatch.setenv("ONRECORD_HOME", str(home))

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["onrecord", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as exc:
            status = int(exc.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    path = tmp_path / "bridges.md"
    path.write_text(DIALOGUE, encoding="utf-8")
    return path


def test_an_answer_is_printed_with_its_speaker_and_its_place(run: Run) -> None:
    status, out, err = run("ask", QUESTION)
    assert (status, err) == (0, "")
    assert "This summit will take place in December" in " ".join(out.split())
    assert "Sergey Lavrov" in out


def test_json_is_one_object_with_exact_quotes(run: Run) -> None:
    status, out, _ = run("ask", "--json", QUESTION)
    assert status == 0
    entry = json.loads(out)
    assert entry["reply"] == "answer"
    text = interview_path().read_bytes().decode()
    quotes = [q for statement in entry["statements"] for q in statement["quotes"]]
    assert len(entry["hits"]) >= 10
    for quote in [*quotes, *entry["hits"]]:
        assert quote["text"] == fold(text[quote["start"] : quote["end"]])
    assert quotes[0].keys() == {"text", "speaker", "role", "turn_id", "start", "end"}
    assert 0 <= entry["confidence"] <= 1
    assert entry["timings_ms"].keys() == {"retrieve", "read", "total"}


def test_an_abstention_has_a_reason_and_the_nearest_quotes(run: Run) -> None:
    status, out, _ = run("ask", "--json", "What is a good recipe for borscht with beetroot?")
    entry = json.loads(out)
    assert status == 0
    assert entry["reply"] == "abstention"
    assert entry["reason"] == "never_mentioned"
    assert entry["nearest"]
    assert "statements" not in entry
    assert "confidence" in entry


def test_a_batch_is_answered_in_order(run: Run, tmp_path: Path) -> None:
    lines = [
        {"id": "b", "question": QUESTION},
        {
            "id": "a",
            "question": "And Kyrgyzstan?",
            "history": ["What did Uzbekistan say about foreign bases?"],
        },
        {"id": "ü", "question": "<b>Who</b> wrote *Hamlet*?", "history": []},
    ]
    batch = tmp_path / "questions.jsonl"
    batch.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n", encoding="utf-8")
    status, out, _ = run("ask", "--batch", batch, "--json")
    assert status == 0
    entries = [json.loads(line) for line in out.splitlines()]
    assert [entry["id"] for entry in entries] == ["b", "a", "ü"]
    kyrgyz = [q["text"] for s in entries[1].get("statements", []) for q in s["quotes"]] + [
        q["text"] for q in entries[1].get("nearest", [])
    ]
    assert any("Kyrgyzstan" in text for text in kyrgyz)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"id": "1", "question": "Who?"}\nnonsense\n', "line 2: not an object"),
        ('{"id": "1"}\n', "line 1: not an object"),
        ('["Who?"]\n', "line 1: not an object"),
        ('{"question": "Who?", "history": [1]}\n', "line 1: not an object"),
        ('{"question": " "}\n', "line 1: the question is blank"),
        ("\n\n", "holds no questions"),
        ("\xff", "not UTF-8"),
    ],
)
def test_a_bad_batch_is_refused_before_anything_is_asked(
    content: str, says: str, run: Run, tmp_path: Path
) -> None:
    batch = tmp_path / "questions.jsonl"
    batch.write_bytes(content.encode("latin-1"))
    status, out, err = run("ask", "--batch", batch, "--json")
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_another_transcript_is_asked_by_its_path(run: Run, talk: Path) -> None:
    status, out, err = run("ask", "-t", talk, "--json", "Why was the old bridge closed?")
    assert (status, err) == (0, "")
    entry = json.loads(out)
    assert entry["reply"] == "answer"
    quotes = [q for s in entry["statements"] for q in s["quotes"]]
    assert {quote["speaker"] for quote in quotes} == {"Tom Reed"}
    assert all(quote["text"] in DIALOGUE for quote in quotes)
    assert {quote["turn_id"] for quote in quotes} == {1}
    assert "northern cable had rusted" in entry["hits"][0]["text"]


def test_indexing_says_what_it_did_and_does_nothing_twice(run: Run, talk: Path) -> None:
    status, out, _ = run("index", talk)
    assert status == 0
    assert "4 turns, 8 sentences" in out
    assert "up to date" in run("index", talk)[1]
    talk.write_text(DIALOGUE.replace("every week", "every day"), encoding="utf-8")
    assert "2 of 8 sentences encoded" in run("index", talk)[1]


def test_turns_are_shown_as_a_table_and_as_json(run: Run, talk: Path) -> None:
    _, out, _ = run("transcript", talk)
    assert "Tom Reed" in out
    assert "interviewee" in out
    turns = [json.loads(line) for line in run("transcript", talk, "--json")[1].splitlines()]
    assert [t["speaker"] for t in turns] == ["Anna Berg", "Tom Reed"] * 2


def test_bad_input_is_one_line_and_exit_status_2(run: Run, tmp_path: Path) -> None:
    empty, binary, latin, prose, long = (
        tmp_path / name for name in ("e.txt", "b.txt", "l.txt", "p.txt", "x.txt")
    )
    empty.write_text("")
    binary.write_bytes(b"\x7fELF\x00\x00")
    latin.write_bytes("Jos\xe9: Hola.".encode("latin-1"))
    prose.write_text("Once upon a time.\n")
    with long.open("w") as stream:
        stream.write("Anna: " + "word " * 10_000_000)
    missing = tmp_path / "nowhere.txt"
    for arguments, says in (
        (("ask", "-t", missing, "Who?"), "does not exist"),
        (("ask", "-t", tmp_path, "Who?"), "is a folder"),
        (("index", empty), "is empty"),
        (("index", binary), "binary"),
        (("index", latin), "not UTF-8"),
        (("index", prose), "no line begins with a speaker"),
        (("index", long), "line 1 has 50,000,006 characters"),
        (("ask", ""), "blank"),
        (("ask", "  \n"), "blank"),
        (("ask", "why " * 25_000), "characters, more than"),
        (("ask",), "either a question or --batch"),
        (("ask", "Who?", "--batch", missing), "either a question or --batch"),
        (("ask", "Who?", "--index", missing), "there is no index"),
        (("ask", "Who?", "--index", missing, "-t", prose), "either --transcript or --index"),
        (("ask", "Who?", "--encoder", "nobody/no-such-model"), "not on this machine"),
        (("ask", "Who?", "--encoder", tmp_path), "holds no weights"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), arguments
        assert says in err
        assert err.startswith("onrecord: ")
        assert len(err.splitlines()) == 1


def test_an_index_directory_is_opened_as_it_is_or_refused(
    run: Run, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONRECORD_HOME", str(tmp_path / "own"))
    run("index", talk)
    (directory,) = (tmp_path / "own").iterdir()
    assert run("ask", "--index", directory, "Who pays?")[0] == 0
    (vectors,) = directory.glob("build-*/vectors.faiss")
    damage("one bit flipped", vectors)
    status, out, err = run("ask", "--index", directory, "Who pays?")
    assert (status, out) == (2, "")
    assert "damaged (vectors.faiss has changed)" in err
    assert run("ask", "-t", talk, "Who pays?")[0] == 0  # by its transcript it is rebuilt
    assert run("ask", "--index", directory, "Who pays?")[0] == 0


def test_an_index_that_another_encoder_made_is_refused(
    run: Run, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.encoder import Encoder

    monkeypatch.setenv("ONRECORD_HOME", str(tmp_path / "own"))
    run("index", talk)
    (directory,) = (tmp_path / "own").iterdir()
    monkeypatch.setattr(Encoder, "fingerprint", "0" * 64)
    status, _, err = run("ask", "--index", directory, "Who pays?")
    assert status == 2
    assert "made by the encoder" in err


def test_a_folder_that_cannot_be_written_is_one_error(
    run: Run, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONRECORD_HOME", "/proc/onrecord")
    status, _, err = run("index", talk)
    assert status == 2
    assert "cannot be written" in err
    assert "ONRECORD_HOME" in err


def test_a_port_in_use_is_one_error(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, _, err = run("chat", "--port", str(taken.getsockname()[1]))
    assert status == 2
    assert "--port" in err
    assert len(err.splitlines()) == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m ui.cli transcript --json '{interview_path()}' | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_a_mistake_on_the_command_line_is_one_line(run: Run) -> None:
    for arguments in (
        ("--bogus",),
        ("ask", "Who?", "--port", "3"),
        ("chat", "--port", "99999"),
        ("nonsense",),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith("onrecord: ")
        assert len(err.splitlines()) == 1


def test_a_question_that_is_no_text_is_refused(run: Run, tmp_path: Path) -> None:
    status, _, err = run("ask", "who \udcff left?")
    assert status == 2
    assert "not UTF-8" in err
    deep = tmp_path / "deep.jsonl"
    deep.write_text("[" * 100_000, encoding="utf-8")
    assert "line 1: not an object" in run("ask", "--batch", deep)[2]
    words = tmp_path / "words.jsonl"
    words.write_text('{"question": "Who?", "history": "abc"}', encoding="utf-8")
    assert "line 1: not an object" in run("ask", "--batch", words)[2]


def test_nothing_is_indexed_where_one_file_is_bad(run: Run, talk: Path, tmp_path: Path) -> None:
    status, out, err = run("index", talk, tmp_path / "nowhere.md")
    assert (status, out) == (2, "")
    assert "nowhere.md does not exist" in err


def test_an_index_that_cannot_be_written_to_can_be_asked_while_it_is_current(
    talk: Path, hash_encoder: HashEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcript = read_transcript(talk)
    build_index(transcript, tmp_path / "i", hash_encoder)
    monkeypatch.setattr("index.store.FileLock", None)  # any attempt to lock would fail
    assert build_index(transcript, tmp_path / "i", hash_encoder).encoded == 0


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_pipe_that_nobody_reads_any_more_is_no_failure(more: tuple[str, ...]) -> None:
    root = Path(__file__).parent.parent
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "ui.cli", "transcript", *more]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=root, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_output_is_one_error() -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "ui.cli", "transcript", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=root, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written" in done.stderr
