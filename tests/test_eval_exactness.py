"""The independent check of quotations, against the transcript's file and the JSON alone."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import exactness
from eval.exactness import check_quotes, folded
from index.sentences import split_sentences
from index.transcript import Transcript, fold, interview_path

TEXT = "**Ann:** It will be\n\nquite *amusing*, I think.\n\n**Tom Reed:** No. The end\n"
AT = TEXT.index("It will")


def quote(words: str, start: int, end: int, speaker: str = "Ann") -> dict[str, object]:
    return {"text": words, "speaker": speaker, "start": start, "end": end}


def faults(*quotes: dict[str, object]) -> list[str | None]:
    return [c.fault for c in check_quotes(TEXT, {"statements": [{"quotes": list(quotes)}]})]


def test_it_imports_nothing_of_the_program() -> None:
    tree = ast.parse(Path(exactness.__file__).read_text(encoding="utf-8"))
    modules = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert {m.split(".")[0] for m in modules} <= set(sys.stdlib_module_names)


def test_a_quote_over_a_page_break_and_emphasis_is_exact() -> None:
    end = TEXT.index("I think.") + len("I think.")
    assert faults(quote("It will be quite amusing, I think.", AT, end)) == [None]


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (quote("It will", AT, AT + 8 + 2), "the transcript has"),
        (quote("it will", AT, AT + 7), "the transcript has"),
        (quote("t wil", AT + 1, AT + 6), "cuts a word"),
        (quote("It wil", AT, AT + 6), "cuts a word"),
        (quote("It will", AT, 10_000), "lies outside"),
        (quote("It will", -3, AT), "lies outside"),
        (quote("It will", AT, AT + 7, "Tom Reed"), "said by Ann, not by Tom Reed"),
    ],
)
def test_what_is_not_exact_is_named(bad: dict[str, object], fault: str) -> None:
    (found,) = faults(bad)
    assert found is not None
    assert fault in found


def test_the_wrong_speaker_is_named() -> None:
    right, wrong = quote("It will", AT, AT + 7), quote("The end", len(TEXT) - 8, len(TEXT) - 1, "Ann")
    other = quote("No.", TEXT.index("No."), TEXT.index("No.") + 3, "Tom Reed")
    assert faults(right, wrong, other) == [None, "said by Tom Reed, not by Ann", None]


def test_a_statement_may_say_no_more_than_its_quotes() -> None:
    good = quote("It will", AT, AT + 7)
    for text, fault in (("It will", None), ("It will not", "the statement says more than its quotes")):
        said = {"statements": [{"text": text, "quotes": [good]}]}
        assert [c.fault for c in check_quotes(TEXT, said)] == [fault, None]


def test_every_sentence_of_the_interview_is_exact(lavrov: Transcript) -> None:
    said = [
        {"text": lavrov.words(s.start, s.end), "start": s.start, "end": s.end}
        | {"speaker": lavrov.turns[s.turn_id].speaker}
        for s in split_sentences(lavrov)
    ]
    assert {c.fault for c in check_quotes(lavrov.text, said)} == {None}


@given(st.text(alphabet="ab1 *_,.\n\t“é", max_size=30))
def test_two_foldings_agree_on_single_emphasis(words: str) -> None:
    if (
        "**" not in words
        and "__" not in words
        and not ("*" in words and "_" in words)
        and words.count("*") + words.count("_") <= 2
    ):
        assert folded(words) == fold(words)


def test_it_runs_by_itself(tmp_path: Path) -> None:
    said = {"quotes": [quote("for all of them", 0, 5)]}
    (tmp_path / "said.jsonl").write_text(json.dumps(said) + "\n", encoding="utf-8")
    command = [sys.executable, exactness.__file__, str(interview_path()), str(tmp_path / "said.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "0 of 1 quotations are exact" in done.stdout
