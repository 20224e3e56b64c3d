"""Parsing: turns, speakers, roles, titles, times, and what is refused."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import TranscriptError
from index.transcript import MAX_LINE, Transcript, fold, interview_path, parse_transcript, read_transcript

PUBLISHED_SHA256 = "7ffa9e2a1f31d23504a0a3f128c7f1a2f05ecce0596f1236ea3735575e9eb255"


def turns(text: str) -> list[tuple[str, str, str]]:
    found = parse_transcript(text, "talk.txt")
    return [(t.speaker, t.role, found.words(t.start, t.end)) for t in found.turns]


def test_the_interview_is_kept_byte_for_byte() -> None:
    data = interview_path().read_bytes()
    assert len(data) == 30_164
    assert hashlib.sha256(data).hexdigest() == PUBLISHED_SHA256


def test_the_interview_has_nine_questions_and_nine_answers(lavrov: Transcript) -> None:
    assert [t.speaker for t in lavrov.turns] == ["Question", "Sergey Lavrov"] * 9
    assert [t.role for t in lavrov.turns] == ["interviewer", "interviewee"] * 9
    assert lavrov.title.startswith("Foreign Minister Sergey Lavrov's interview with Rossiya 24")
    assert lavrov.words(lavrov.turns[0].start, lavrov.turns[0].start + 20) == "Not so long ago, you"
    assert lavrov.words(lavrov.turns[16].start, lavrov.turns[16].end).endswith("long haul ...")
    assert lavrov.words(lavrov.turns[17].start, lavrov.turns[17].end).endswith("response will come.")


def test_what_stands_before_the_first_label_belongs_to_nobody(lavrov: Transcript) -> None:
    spoken = "".join(lavrov.text[t.start : t.end] for t in lavrov.turns)
    assert "minutes" not in spoken.split("Question")[0][:200]
    assert "28-35 minutes" in lavrov.text
    assert "28-35 minutes" not in spoken


@pytest.mark.parametrize(
    "text",
    [
        "**Anna:** Why?\n\n**Tom:** Because.",
        "**Anna**: Why?\n\n**Tom**: Because.",
        "__Anna:__ Why?\r\n\r\n__Tom:__ Because.",
        "Anna: Why?\nTom: Because.",
        "Anna:Why?\n**Anna:** Why?\n**Tom:** Because."[10:],
        "\ufeffAnna: Why?\r\nTom: Because.\r\n",
        "ANNA: Why?\rTOM: Because.".replace("ANNA", "Anna").replace("TOM", "Tom"),
        "- **Anna:** Why?\n- **Tom:** Because.",
        "[00:01] Anna: Why?\n[00:05] Tom: Because.",
        "Anna (00:01): Why?\nTom (00:05): Because.",
        "Anna： Why?\nTom： Because.",  # full-width colons
    ],
)
def test_labels_are_found_in_markdown_and_in_plain_text(text: str) -> None:
    assert turns(text) == [("Anna", "interviewer", "Why?"), ("Tom", "interviewee", "Because.")]


@pytest.mark.parametrize(
    "heading", ["### Anna", "### Anna:", "## **Anna**", "## **Anna:** ##", "# Anna (0:05)"]
)
def test_a_heading_that_comes_back_is_a_speaker(heading: str) -> None:
    tom = heading.replace("Anna", "Tom Reed")
    text = f"Title\n\n{heading}\n\nWhy?\n\n{tom}\n\nBecause.\n\nRemember: it is old.\n\n{heading}\n\nAh?"
    assert turns(text) == [
        ("Anna", "interviewer", "Why?"),
        ("Tom Reed", "interviewee", "Because. Remember: it is old."),
        ("Anna", "interviewer", "Ah?"),
    ]


def test_a_heading_of_a_chapter_is_not_a_speaker() -> None:
    text = "# Bridges\n\n## Childhood\n\nAnna: Why?\n\nTom: So.\n\n## Later Years\n\nAnna: And?\n\nTom: No."
    assert {speaker for speaker, _, _ in turns(text)} == {"Anna", "Tom"}


def test_a_colon_inside_a_long_answer_is_not_a_speaker() -> None:
    text = (
        "Anna: What do you tell them?\n\nTom: I tell them this.\n\nRemember: the bridge is old.\n\n"
        "They replied: let it be.\n\nhttp://example.org: no.\n\nAnna: Thank you. Anything else?\n\nTom: No."
    )
    assert [speaker for speaker, _, _ in turns(text)] == ["Anna", "Tom", "Anna", "Tom"]
    assert "Remember: the bridge is old. They replied" in turns(text)[1][2]


def test_roles_come_from_labels_else_from_who_asks() -> None:
    assert [r for _, r, _ in turns("Q: Why?\nA: So.\nQ: How?\nA: Thus.")] == [
        "interviewer",
        "interviewee",
    ] * 2
    three = "Mia: Who begins?\nJan: I do.\nMia: And then?\nEva: Then I do, not so?\nJan: Yes.\nEva: I see."
    assert {s: r for s, r, _ in turns(three)} == {
        "Mia": "interviewer",
        "Jan": "interviewee",
        "Eva": "interviewee",
    }
    assert {r for _, r, _ in turns("Jan: I speak.\nEva: I speak too.")} == {"other"}


def test_times_become_seconds() -> None:
    found = parse_transcript("[01:02:03] Anna: Why?\n[01:02:05.5] Tom: So.\nAnna: Ah.\n", "t.txt")
    assert [(t.start_s, t.end_s) for t in found.turns] == [(3723.0, 3725.5), (3725.5, None), (None, None)]


def test_the_title_is_the_heading_else_the_first_words_else_the_file() -> None:
    assert parse_transcript("[x](y)\n## The *old* bridge\nA: B.", "f.md").title == "The old bridge"
    assert parse_transcript("Bridges, a talk\n\nA: B.", "f.md").title == "Bridges, a talk"
    assert parse_transcript("A: B.", "f.md").title == "f"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("Once upon a time there was a bridge.\n", "no line begins with a speaker"),
        ("Anna:\n\nTom:\n", "no line begins with a speaker"),
        ("A: " + "x" * MAX_LINE, "line 1 has 1,000,003 characters"),
    ],
)
def test_what_is_not_a_transcript_is_refused_with_a_remedy(text: str, says: str) -> None:
    with pytest.raises(TranscriptError, match=says):
        parse_transcript(text, "talk.txt")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    binary, latin, folder = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c"
    binary.write_bytes(b"A: B\x00\x01")
    latin.write_bytes("Jos\xe9: Hola.".encode("latin-1"))
    folder.mkdir()
    for path, says in (
        (binary, "binary"),
        (latin, "not UTF-8"),
        (folder, "folder"),
        (tmp_path / "d", "exist"),
    ):
        with pytest.raises(TranscriptError, match=says):
            read_transcript(path)


def test_line_ends_are_kept_so_that_offsets_are_the_files(tmp_path: Path) -> None:
    path = tmp_path / "crlf.txt"
    path.write_bytes(b"Anna: Why?\r\nTom: So.\r\n")
    found = read_transcript(path)
    assert found.text == path.read_bytes().decode()
    assert found.text[found.turns[1].start : found.turns[1].end] == "So."


def test_folding_changes_white_space_and_emphasis_and_nothing_else() -> None:
    assert fold("quite\n\namusing") == "quite amusing"
    assert (
        fold("(*E pluribus unum*) and **bold**, ***both***, _so_") == "(E pluribus unum) and bold, both, so"
    )
    assert fold("5 * 3 * 2, snake_case_name, * a, f*** it") == "5 * 3 * 2, snake_case_name, * a, f*** it"
    assert fold("“curly” – 'straight' … É") == "“curly” – 'straight' … É"


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(), st.text(alphabet=" \t\n\r\u2028\u00a0"))
def test_folding_removes_only_white_space_and_marks(text: str, space: str) -> None:
    def letters(value: str) -> str:
        return "".join(c for c in value if not c.isspace() and c not in "*_")

    assert letters(fold(text + space + text)) == letters(text + space + text)


speech = st.lists(
    st.tuples(st.sampled_from(["Anna", "Tom Reed", "Q", "Ægir", "李明"]), st.text(min_size=1)),
    min_size=1,
    max_size=6,
)


@given(speech, st.sampled_from(["\n", "\r\n", "\n\n"]), st.sampled_from(["{}: ", "**{}:** "]))
def test_turns_are_in_order_disjoint_and_inside_any_text(
    said: list[tuple[str, str]], newline: str, label: str
) -> None:
    text = newline.join(label.format(name) + words for name, words in said)
    try:
        found = parse_transcript(text, "t.txt")
    except TranscriptError:
        return
    position = 0
    for turn in found.turns:
        assert position <= turn.start < turn.end <= len(text)
        assert not text[turn.start].isspace()
        assert not text[turn.end - 1].isspace()
        position = turn.end


@pytest.mark.parametrize(
    ("text", "speakers"),
    [
        ("**Host:** Why?\n\nAnna Reed: I went for the sea.", ["Host", "Anna Reed"]),
        ("**[00:03] Host:** Why?\n\n**Anna:** So.", ["Host", "Anna"]),
        (
            "Host: Why?\n\nJane Doe (former minister of finance): I stayed.",
            ["Host", "Jane Doe (former minister of finance)"],
        ),
        ("**Host:** Why?\n\n**Anna:** So.\n\n**Note:** It was cold.", ["Host", "Anna"]),
        (
            "Host: Why?\n\nMary: So.\n\nHost: And?\n\nMary: Well.\n\nBrexit: that was it.",
            ["Host", "Mary"] * 2,
        ),
        ("Q. Why?\nA. So.\nQ: And then?\nA: Thus.", ["Q", "A", "Q", "A"]),
        ("记者：您为什么离开？\n李明：因为海。", ["记者", "李明"]),
    ],
)
def test_speakers_are_told_from_what_looks_like_them(text: str, speakers: list[str]) -> None:
    found = parse_transcript(text, "t.md")
    assert [turn.speaker for turn in found.turns] == speakers
    assert [turn.role for turn in found.turns[:2]] == ["interviewer", "interviewee"]


def test_subtitles_are_refused() -> None:
    with pytest.raises(TranscriptError, match="subtitles"):
        parse_transcript("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Host>Why?", "t.vtt")
