"""Files of cases: what is read, and what is refused with which words."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.cases import CaseError, append_case, check_cases, read_cases, shipped_cases
from eval.commands import check
from eval.spans import QuoteFinder
from index.transcript import Transcript, fold, parse_transcript

GOOD = {
    "id": "a",
    "question": "Why was the bridge closed?",
    "evidence": [["Its northern cable had rusted through."]],
    "short": ["its northern cable had rusted"],
}


def written(folder: Path, *lines: object) -> Path:
    path = folder / "cases.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def problem(path: Path, transcript: Transcript) -> str:
    with pytest.raises(CaseError) as refused:
        read_cases(path, transcript)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_quote_becomes_a_span_of_the_raw_text(tmp_path: Path, dialogue: Transcript) -> None:
    (case,) = read_cases(written(tmp_path, GOOD), dialogue)
    ((span,),) = case.evidence
    assert dialogue.text[span.start : span.end] == "Its northern cable had rusted through."
    assert case.answerable
    assert (case.kind, case.split) == ("own", "test")


def test_every_shipped_case_can_be_used(lavrov: Transcript) -> None:
    cases = read_cases(shipped_cases(), lavrov)
    assert len(cases) >= 200
    assert sum(not case.answerable for case in cases) >= 60
    assert {case.split for case in cases} == {"dev", "test"}


def test_a_quote_is_found_across_a_page_break_and_emphasis(lavrov: Transcript) -> None:
    finder = QuoteFinder(lavrov)
    (broken,) = finder.find("be quite amusing")
    assert "\n" in lavrov.text[broken.start : broken.end]
    (latin,) = finder.find("E pluribus unum)")
    assert fold(lavrov.text[latin.start : latin.end]).startswith("E pluribus unum")


@given(st.text(alphabet="ab *_\n\t.é𝄞", min_size=1, max_size=40), st.data())
def test_any_folded_stretch_of_a_turn_is_found_where_it_stands(words: str, data: st.DataObject) -> None:
    transcript = parse_transcript(f"Ann: x{words}x", "t")
    turn = transcript.turns[0]
    folded = transcript.words(turn.start, turn.end)
    start = data.draw(st.integers(0, len(folded) - 1))
    wanted = folded[start : data.draw(st.integers(start + 1, len(folded)))]
    places = QuoteFinder(transcript).find(wanted)
    if fold(wanted) and fold(wanted) == wanted:
        assert places
    for place in places:
        bare = "".join(transcript.text[place.start : place.end].split())
        assert "".join(c for c in bare if c not in "*_") == "".join(c for c in fold(wanted) if c not in "*_ ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{not json", "cases.jsonl:2: not a JSON object"),
        ("[1]", "cases.jsonl:2: not a JSON object"),
        ({**GOOD, "id": "b", "evidnce": []}, "unknown key 'evidnce'"),
        ({**GOOD, "id": ""}, "'id' is missing or blank"),
        ({"id": "b"}, "'question' is missing or blank"),
        ({**GOOD, "id": "b", "history": "before"}, "'history' must be a list of strings"),
        ({**GOOD, "id": "b", "evidence": ["not nested"]}, "'evidence' must be a list"),
        ({**GOOD, "id": "b", "split": "train"}, "'split' either 'dev' or 'test'"),
        (
            {**GOOD, "id": "b", "reason": "never_mentioned"},
            "gold evidence on a case that is marked unanswerable",
        ),
        (
            {"id": "b", "question": "?", "reason": "never_mentioned", "short": ["x"]},
            "a short answer without evidence",
        ),
        ({"id": "b", "question": "?", "evidence": []}, "no evidence: give quotes, or the 'reason'"),
        ({**GOOD, "id": "b", "evidence": [[" "]]}, "a quote is blank"),
        ({**GOOD, "id": "b", "evidence": [["Good morning."]]}, "stands in the transcript 2 times"),
        (GOOD, "cases.jsonl:2: the id 'a' is used already in line 1"),
    ],
)
def test_a_line_that_is_no_case_is_refused_with_its_number(
    line: object, expected: str, tmp_path: Path, dialogue: Transcript
) -> None:
    assert expected in problem(written(tmp_path, GOOD, line), dialogue)


def test_a_quote_that_is_not_there_is_shown_with_the_nearest_words(
    tmp_path: Path, dialogue: Transcript
) -> None:
    changed = {**GOOD, "evidence": [["Its southern cable had rusted right through."]]}
    message = problem(written(tmp_path, changed), dialogue)
    assert message.startswith("cases.jsonl:1: the quote “Its southern cable")
    assert "nearest: “Its northern cable had rusted through.”" in message


def test_a_quote_in_other_quotation_marks_is_not_the_same(tmp_path: Path, lavrov: Transcript) -> None:
    changed = {**GOOD, "evidence": [['they are pushing the idea of a "summit for democracy."']], "short": []}
    assert "is not in the transcript" in problem(written(tmp_path, changed), lavrov)


def test_check_lists_every_problem_and_exits_with_2(tmp_path: Path, dialogue: Transcript) -> None:
    transcript = tmp_path / "bridges.md"
    transcript.write_text(dialogue.text, encoding="utf-8")
    done = check(
        written(tmp_path, GOOD, "nonsense", "", {**GOOD, "id": "c", "evidence": [["never said"]]}), transcript
    )
    assert done.exit_status == 2
    assert [line.split(":")[1] for line in done.text.splitlines()[:-1]] == ["2", "4"]
    assert done.text.splitlines()[-1] == "1 cases can be used, 0 of them unanswerable; 2 problems"
    assert check(written(tmp_path, GOOD), transcript).exit_status == 0


@pytest.mark.parametrize(("name", "content"), [("empty.jsonl", b""), ("latin.jsonl", b'{"id": "\xe9"}')])
def test_a_file_without_cases_is_refused(
    name: str, content: bytes, tmp_path: Path, dialogue: Transcript
) -> None:
    (tmp_path / name).write_bytes(content)
    assert name in problem(tmp_path / name, dialogue)
    assert "cannot be read" in problem(tmp_path / "missing.jsonl", dialogue)


# A user's own file -------------------------------------------------------------------------


def test_a_thumb_down_appends_a_case_that_can_be_read(tmp_path: Path, dialogue: Transcript) -> None:
    mine = tmp_path / "new" / "mine.jsonl"
    append_case(
        mine, dialogue, "Who pays?", ["The county pays two thirds.", "The ferry company pays the rest"]
    )
    append_case(mine, dialogue, "Who designed it?", [], history=["Who pays?"])
    answerable, unanswerable = read_cases(mine, dialogue)
    assert (len(answerable.evidence), answerable.case_id) == (2, "own-001")
    assert (unanswerable.answerable, unanswerable.history) == (False, ("Who pays?",))


def test_a_file_without_a_last_line_break_is_not_damaged(tmp_path: Path, dialogue: Transcript) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps(GOOD), encoding="utf-8")
    append_case(mine, dialogue, "Who pays?", ["The county pays two thirds."])
    assert len(read_cases(mine, dialogue)) == 2


def test_a_quote_that_was_not_said_is_not_appended(tmp_path: Path, dialogue: Transcript) -> None:
    mine = tmp_path / "mine.jsonl"
    with pytest.raises(CaseError, match="is not in the transcript"):
        append_case(mine, dialogue, "Who pays?", ["The state pays."])
    assert not mine.exists()


def test_the_shipped_file_is_never_written(lavrov: Transcript) -> None:
    before = shipped_cases().read_bytes()
    with pytest.raises(CaseError, match="ships with the program"):
        append_case(shipped_cases(), lavrov, "Who?", [])
    assert shipped_cases().read_bytes() == before


def test_a_hand_made_case_is_checked_where_it_is_made(dialogue: Transcript) -> None:
    cases, problems = check_cases(shipped_cases(), dialogue)
    assert problems
    assert all(not case.answerable and not case.near for case in cases)
