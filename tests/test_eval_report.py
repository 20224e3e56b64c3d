"""Reports, pages, comparisons, thresholds and README's figures, of runs that need no model."""

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eval.cases import Case, CaseError
from eval.commands import compare, readme
from eval.compare import compare_reports
from eval.page import render_page
from eval.readme import BEGIN, END
from eval.report import About, Report, load_report, make_report, render_markdown, save_report
from eval.runner import VERDICTS, run_cases
from eval.spans import QuoteFinder, Span
from eval.thresholds import missed_thresholds
from index.chunks import make_chunks
from index.sentences import split_sentences
from index.transcript import Transcript, parse_transcript

HOSTILE = '<script>alert("1")</script> & <b onclick=x>'
TEXT = f"""# Talk

Ann: Why is {HOSTILE} here?

Tom Reed: Because someone typed {HOSTILE} into it. It was on Monday. Nobody minded.
"""


class Reads:
    """Answers with the sentence that shares most words with the question, where any is shared."""

    def __init__(self, transcript: Transcript, *, least: int = 1) -> None:
        self.transcript = transcript
        cuts = split_sentences(transcript)
        self.sentences = [Span(s.start, s.end) for s in cuts]
        self.windows = [Span(c.start, c.end) for c in make_chunks(cuts)]
        self._least = least

    def _shared(self, question: str) -> list[int]:
        asked = set(re.findall(r"\w+", question.lower()))
        return [
            len(asked & set(re.findall(r"\w+", self.transcript.words(*s).lower()))) for s in self.sentences
        ]

    def rank(self, _rung: str, question: str, _history: Sequence[str]) -> list[int]:
        shared = self._shared(question)
        return sorted(range(len(shared)), key=lambda i: -shared[i])

    def answer(self, question: str, history: Sequence[str]) -> object:
        best = self.rank("reader", question, history)[0]
        span = self.sentences[best]
        quote = {"text": self.transcript.words(*span), "speaker": self.transcript.turn_at(span.start).speaker}
        quote |= {"start": span.start, "end": span.end}
        confidence = min(1.0, self._shared(question)[best] / 5)
        if self._shared(question)[best] < self._least:
            return {
                "reply": "abstention",
                "reason": "never_mentioned",
                "nearest": [quote],
                "confidence": confidence,
            }
        statement = {"text": quote["text"], "quotes": [quote]}
        return {"reply": "answer", "statements": [statement], "confidence": confidence, "hits": [quote]}


@pytest.fixture
def transcript() -> Transcript:
    return parse_transcript(TEXT, "talk")


@pytest.fixture
def cases(transcript: Transcript) -> list[Case]:
    find = QuoteFinder(transcript).find
    asked = [
        ("Which day was it on?", ["It was on Monday."]),
        ("Who minded?", ["Nobody minded."]),
        (f"Who typed {HOSTILE}?", ["Because someone typed"]),
        ("Was anybody angry?", ["Nobody minded."]),
        ("What colour has Paris?", None),
        ("Who was it that paid?", None),
    ]
    return [
        Case(
            case_id=f"c{number}",
            kind="fact" if quotes else "absent",
            split="dev" if number % 2 else "test",
            question=question,
            evidence=tuple((find(q)[0],) for q in quotes or ()),
            short=tuple(quotes or ()),
            reason=None if quotes else "never_mentioned",
        )
        for number, (question, quotes) in enumerate(asked)
    ]


def report_of(transcript: Transcript, cases: list[Case], *, least: int = 1) -> Report:
    outcomes = run_cases(Reads(transcript, least=least), cases, rungs=("BM25", "reader"))
    about = About(
        name="talk", title=f"Talk {HOSTILE}", about="A talk.", transcript_id=transcript.transcript_id
    )
    return make_report(about, outcomes, ("BM25", "reader"), 1.5)


@pytest.fixture
def report(transcript: Transcript, cases: list[Case]) -> Report:
    return report_of(transcript, cases)


# The report --------------------------------------------------------------------------------


def test_every_case_is_in_the_report_worst_first(report: Report, cases: list[Case]) -> None:
    assert {c["id"] for c in report["cases"]} == {case.case_id for case in cases}
    order = [VERDICTS.index(c["verdict"]) for c in report["cases"]]
    assert order == sorted(order)
    assert [c["verdict"] for c in report["cases"]] == ["answered", "wrong quote", *["right"] * 4]


def test_two_runs_give_the_same_figures_to_the_last_digit(transcript: Transcript, cases: list[Case]) -> None:
    first, second = report_of(transcript, cases), report_of(transcript, cases)
    for key in first.keys() - {"plots", "latency_ms", "run"}:
        assert json.dumps(first[key]) == json.dumps(second[key]), key
    assert first["digest"] == second["digest"]


def test_a_changed_answer_changes_the_digest(
    transcript: Transcript, cases: list[Case], report: Report
) -> None:
    assert report_of(transcript, cases, least=2)["digest"] != report["digest"]


def test_figures_stand_for_each_split_with_count_and_interval(report: Report) -> None:
    found = {f["name"]: f for f in report["figures"]["all"]}
    assert report["figures"].keys() == {"all", "dev", "test"}
    assert found["avna"]["n"] == 6
    assert found["coverage"]["n"] == 4
    assert found["abstention_recall"]["value"] == 0.5
    assert found["reader/sentence/hit@1"]["value"] == 0.75
    assert found["quote_exactness"]["value"] == 1
    assert found["avna"]["low"] <= found["avna"]["value"] <= found["avna"]["high"]


def test_what_is_undefined_is_null_and_not_zero(transcript: Transcript, cases: list[Case]) -> None:
    report = report_of(transcript, [case for case in cases if case.answerable])
    found = {f["name"]: f["value"] for f in report["figures"]["all"]}
    assert found["auroc"] is found["abstention_recall"] is found["kind_of_no"] is None


def test_a_saved_report_is_read_back_whole(report: Report, tmp_path: Path) -> None:
    paths = save_report(report, tmp_path / "new")
    assert {p.name for p in paths.values()} == {"talk.json", "talk.md", "talk.html"}
    assert load_report(paths["json"]) == report


@pytest.mark.parametrize("content", ["", "[]", '{"suite": 1}', "not json"])
def test_another_file_is_not_taken_for_a_report(content: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(content, encoding="utf-8")
    with pytest.raises(CaseError, match=r"other\.json is not a report"):
        load_report(tmp_path / "other.json")


# The page ----------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_shows_hostile_words_as_text(report: Report) -> None:
    page = Tags(render_page(report))
    assert page.tags.count("script") == 1
    assert [name for name, _ in page.attributes if name.startswith("on")] == ["onsubmit"]


def test_the_page_needs_nothing_from_elsewhere(report: Report) -> None:
    page = render_page(report)
    assert not {name for name, _ in Tags(page).attributes} & {"src", "href", "srcset", "data", "poster"}
    assert not re.search(r"url\(|@import|fetch\(|https?://(?!www\.w3\.org/2000/svg)", page)


def test_the_page_lists_every_case_with_its_kind_and_verdict(report: Report, cases: list[Case]) -> None:
    page = render_page(report)
    assert page.count("<details ") == len(cases)
    assert page.count('data-kind="absent"') == 2
    for plot in report["plots"].values():
        assert plot in page


def test_markdown_shows_hostile_words_as_text(report: Report) -> None:
    table = render_markdown(report).split("## Cases")[1]
    assert "<script>" not in re.sub(r"\\.", "", table)


# Comparison --------------------------------------------------------------------------------


def test_differences_are_paired_and_changed_cases_are_listed(
    report: Report, transcript: Transcript, cases: list[Case]
) -> None:
    found = compare_reports(report, report_of(transcript, cases, least=3))
    by_name = {d.name: d for d in found.differences}
    assert by_name["coverage"].delta < 0
    assert by_name["abstention_recall"].delta == 0.5
    assert by_name["reader/sentence/hit@1"].delta == 0
    assert by_name["reader/sentence/hit@1"].low == by_name["reader/sentence/hit@1"].high == 0
    assert not by_name["reader/sentence/hit@1"].is_clear
    assert {c.case_id for c in found.changes} == {"c1", "c3", "c5"}


def test_only_shared_cases_are_compared(transcript: Transcript, cases: list[Case], report: Report) -> None:
    found = compare_reports(report, report_of(transcript, cases[:4]))
    assert (found.n, found.only_a, found.only_b) == (4, ("c4", "c5"), ())


def test_reports_of_other_cases_are_not_compared(report: Report) -> None:
    other = json.loads(json.dumps(report))
    other["cases"][0]["question"] = "Another?"
    with pytest.raises(CaseError, match="not the same in both reports"):
        compare_reports(report, other)
    with pytest.raises(CaseError, match="share no case"):
        compare_reports(report, {**other, "cases": []})


def test_the_command_compares_two_files(report: Report, tmp_path: Path) -> None:
    paths = [save_report(report, tmp_path / name)["json"] for name in "ab"]
    done = compare(*paths)
    assert "6 shared cases" in done.text
    assert "0 cases changed" in done.text


# Thresholds --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "missed"),
    [
        ('"quote_exactness" = { at_least = 1.0 }', ()),
        ('"avna" = { at_least = 0.9 }', ("avna is 0.833, less than 0.9",)),
        ('"aurc" = { at_most = 0.01 }', ("aurc is 0.",)),
        ('"BM25/window/hit@1" = { at_least = 0.5 }', ()),
    ],
)
def test_a_figure_below_its_threshold_is_named(
    bounds: str, missed: tuple[str, ...], report: Report, tmp_path: Path
) -> None:
    (tmp_path / "t.toml").write_text(f"[talk]\n{bounds}\n", encoding="utf-8")
    found = missed_thresholds(report, tmp_path / "t.toml")
    assert len(found) == len(missed)
    assert all(line.startswith(start) for line, start in zip(found, missed, strict=True))


def test_an_undefined_figure_misses_its_threshold(
    transcript: Transcript, cases: list[Case], tmp_path: Path
) -> None:
    report = report_of(transcript, [case for case in cases if case.answerable])
    (tmp_path / "t.toml").write_text('[talk]\n"auroc" = { at_least = 0.0 }\n', encoding="utf-8")
    assert missed_thresholds(report, tmp_path / "t.toml") == ("auroc is undefined",)


@pytest.mark.parametrize(
    "content",
    ["[talk", '[talk]\n"nothing" = { at_least = 1 }', '[talk]\n"avna" = 1', '[talk]\n"avna" = { least = 1 }'],
)
def test_a_wrong_file_of_thresholds_is_refused(content: str, report: Report, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(content, encoding="utf-8")
    with pytest.raises(CaseError, match=r"t\.toml"):
        missed_thresholds(report, tmp_path / "t.toml")


# README ------------------------------------------------------------------------------------


def test_readme_is_written_from_the_report_and_drift_is_noticed(report: Report, tmp_path: Path) -> None:
    path = save_report(report, tmp_path)["json"]
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n", encoding="utf-8")
    assert readme(page, path, check_only=True).exit_status == 1
    assert readme(page, path).exit_status == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n")
    assert text.endswith("The rest.\n")
    assert "| Quote exactness | 1.000 (1.000–1.000) |" in text
    assert readme(page, path, check_only=True).exit_status == 0
    page.write_text(text.replace("1.000", "0.999", 1), encoding="utf-8")
    assert readme(page, path, check_only=True).exit_status == 1


def test_a_readme_without_a_place_for_figures_is_refused(report: Report, tmp_path: Path) -> None:
    path = save_report(report, tmp_path)["json"]
    (tmp_path / "README.md").write_text("# Title\n", encoding="utf-8")
    with pytest.raises(CaseError, match="has no place for the figures"):
        readme(tmp_path / "README.md", path)
