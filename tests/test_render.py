import json
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.sentences import split_sentences
from index.transcript import Transcript, parse_transcript
from rag.replies import EXPLANATIONS, Abstention, Answer, Quote, Reason, Statement
from ui.evaluation import render_evaluation
from ui.render import (
    Exchange,
    Layout,
    address,
    link,
    percent,
    place,
    quote_from_link,
    render_contents,
    render_conversation,
    render_header,
    render_notice,
    render_text,
    render_transcript,
)

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> **bold** [x](javascript:alert(3)) $math$ "
    "&lt;b&gt; ${value} {{value}} <a href='javascript:alert(4)'>"
)
TAGS = frozenset(
    (
        *("a", "article", "blockquote", "button", "details", "div", "figcaption", "figure", "h1", "h2", "h3"),
        *("h4", "li", "mark", "nav", "ol", "p", "section", "span", "strong", "summary"),
    )
)


@dataclass
class Node:
    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Every element of a piece of HTML with the text inside it."""

    html: str
    nodes: list[Node] = field(default_factory=list)
    open: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()
        assert not self.open, "an element is left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.nodes.append(node)
        self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for node in self.open:
            node.text += data

    def of(self, tag: str, name: str = "") -> list[Node]:
        return [
            n
            for n in self.nodes
            if n.tag == tag and (not name or name in n.attributes.get("class", "").split())
        ]


def quote_of(transcript: Transcript, words: str) -> Quote:
    start = transcript.text.index(words)
    return Quote(transcript_id=transcript.transcript_id, start=start, end=start + len(words))


def answer(*quotes: Quote, confidence: float = 0.9, short: Quote | None = None) -> Answer:
    statements = tuple(
        Statement(quotes=(q,), support=confidence, short_answer=short if q is quotes[0] else None)
        for q in quotes
    )
    return Answer(question="?", read_as="?", statements=statements, hits=(), confidence=confidence)


def declined(reason: Reason, *nearest: Quote) -> Abstention:
    return Abstention(question="?", read_as="?", reason=reason, nearest=nearest, hits=(), confidence=0.1)


def layout_of(transcript: Transcript) -> Layout:
    return Layout(transcript, split_sentences(transcript))


def marked(html: str, quote: Quote) -> str:
    return " ".join(n.text for n in Page(html).of("mark", address(quote)))


# Quotes ------------------------------------------------------------------------------------

words_of_a_turn = st.text(
    st.characters(codec="utf-8", exclude_characters="*_\0"), min_size=1, max_size=200
).filter(str.strip)


@given(st.lists(words_of_a_turn, min_size=1, max_size=4), st.data())
def test_a_quote_reads_the_same_in_the_answer_and_in_the_transcript(
    turns: list[str], data: st.DataObject
) -> None:
    text = "\n\n".join(f"**Anna {'BC'[i % 2]}:** {words}" for i, words in enumerate(turns))
    transcript = parse_transcript(text, "any.md")
    sentences = split_sentences(transcript)
    first = data.draw(st.integers(0, len(sentences) - 1))
    last = data.draw(st.integers(first, len(sentences) - 1))
    while sentences[last].turn_id != sentences[first].turn_id:
        last -= 1
    quote = Quote(
        transcript_id=transcript.transcript_id, start=sentences[first].start, end=sentences[last].end
    )
    words = transcript.words(quote.start, quote.end)
    conversation = render_conversation(transcript, [Exchange(question="Why?", reply=answer(quote))])
    assert [n.text for n in Page(conversation).of("blockquote")] == [words]
    shown = render_transcript(Layout(transcript, sentences), (quote,))
    assert " ".join(marked(shown, quote).split()) == words


def test_a_sentence_that_the_print_split_stands_in_one_paragraph_and_is_marked_whole(
    lavrov: Transcript,
) -> None:
    start = lavrov.text.index("Watching who specifically")
    quote = Quote(
        transcript_id=lavrov.transcript_id, start=start, end=lavrov.text.index("amusing.", start) + 8
    )
    html = render_transcript(layout_of(lavrov), (quote,))
    whole = "Watching who specifically gets invited and in what capacity will be quite amusing."
    assert marked(html, quote) == whole
    assert len(Page(html).of("mark")) == 1
    assert len([p for p in Page(html).of("p") if "I am certain" in p.text and whole in p.text]) == 1


def test_every_word_of_the_transcript_is_shown_once_and_in_order(lavrov: Transcript) -> None:
    page = Page(render_transcript(layout_of(lavrov)))
    shown = " ".join(p.text for p in page.of("p"))
    assert shown == " ".join(lavrov.words(turn.start, turn.end) for turn in lavrov.turns)


def test_overlapping_quotes_are_both_marked_whole(dialogue: Transcript) -> None:
    long = quote_of(dialogue, "Its northern cable had rusted through. We closed it on the third of March.")
    short = quote_of(dialogue, "We closed it on the third of March.")
    html = render_transcript(layout_of(dialogue), (long, short))
    for quote in (long, short):
        assert marked(html, quote).split() == dialogue.words(quote.start, quote.end).split()


def test_the_short_answer_stands_out_inside_its_quote(dialogue: Transcript) -> None:
    quote = quote_of(dialogue, "We closed it on the third of March.")
    short = quote_of(dialogue, "the third of March")
    page = Page(render_conversation(dialogue, [Exchange(question="When?", reply=answer(quote, short=short))]))
    assert [n.text for n in page.of("strong")] == ["the third of March"]
    assert [n.text for n in page.of("blockquote")] == ["We closed it on the third of March."]


def test_a_quote_of_another_transcript_is_not_shown(dialogue: Transcript, lavrov: Transcript) -> None:
    exchange = Exchange(question="Why?", reply=answer(quote_of(lavrov, "Of course, not!")))
    with pytest.raises(ValueError, match="another transcript"):
        render_conversation(dialogue, [exchange])


# Citations ---------------------------------------------------------------------------------


def test_citations_count_from_one_in_every_answer_and_each_has_its_place(dialogue: Transcript) -> None:
    a = quote_of(dialogue, "Its northern cable had rusted through.")
    b = quote_of(dialogue, "The county pays two thirds.")
    exchanges = [
        Exchange(question="Why?", reply=answer(b, a)),
        Exchange(question="Who?", reply=declined("not_answered", a)),
        Exchange(question="Who?", reply=answer(b)),
    ]
    page = Page(render_conversation(dialogue, exchanges))
    assert [n.text for n in page.of("span", "number")] == ["[1]", "[2]", "[1]", "[1]"]
    pane = Page(render_transcript(layout_of(dialogue), (b,), (b, a)))
    for citation in page.of("a", "citation"):
        assert pane.of("mark", citation.attributes["href"].removeprefix("#"))
    assert [n.attributes.get("data-numbers") for n in pane.of("mark", "current")] == ["[1]"]
    assert [n.text for n in pane.of("mark", "earlier")] == ["Its northern cable had rusted through."]


def test_a_citation_says_who_speaks_in_which_role_and_where(dialogue: Transcript) -> None:
    quotes = quote_of(dialogue, "We closed it"), quote_of(dialogue, "And who pays for the new one?")
    page = Page(render_conversation(dialogue, [Exchange(question="Why?", reply=answer(*quotes))]))
    assert [n.text for n in page.of("a", "citation")] == [
        "[1] Tom Reed, interviewee, answer to question 1",
        "[2] Anna Berg, interviewer, question 2",
    ]
    assert len(page.of("figure", "interviewee")) == len(page.of("figure", "interviewer")) == 1


def test_a_place_has_its_time_where_the_transcript_has_times() -> None:
    transcript = parse_transcript(
        "[00:00:05] Host: Why?\n\n[01:02:03] Ann Lee: Because it rained.\n", "times.txt"
    )
    assert place(transcript, quote_of(transcript, "it rained")) == "answer to question 1, from 1:02:03"


def test_a_permanent_link_leads_to_its_quote_and_only_in_its_own_transcript(
    dialogue: Transcript, lavrov: Transcript
) -> None:
    quote = quote_of(dialogue, "We closed it on the third of March.")
    assert link(quote) == f"?quote={quote.start}-{quote.end}&of={dialogue.transcript_id[:12]}"
    assert quote_from_link(dialogue, f"{quote.start}-{quote.end}", dialogue.transcript_id[:12]) == quote
    turn = lavrov.turns[0]
    assert quote_from_link(lavrov, f"{turn.start}-{turn.end}", lavrov.transcript_id[:12])
    assert quote_from_link(lavrov, f"{turn.start}-{turn.end}", dialogue.transcript_id[:12]) is None
    assert quote_from_link(lavrov, f"{turn.start}-{turn.end}", "") is None


@pytest.mark.parametrize(
    "span", ["", "x", "5", "9-5", "0-5", "1-99999999", "-1-5", "1-2-3", "٣-٩", "1" * 99 + "-" + "2" * 99]
)
def test_a_broken_permanent_link_leads_nowhere(dialogue: Transcript, span: str) -> None:
    assert quote_from_link(dialogue, span, dialogue.transcript_id) is None


# What a reader is told ---------------------------------------------------------------------


@pytest.mark.parametrize("reason", EXPLANATIONS)
def test_each_kind_of_no_is_explained_and_offers_what_is_near(dialogue: Transcript, reason: Reason) -> None:
    near = quote_of(dialogue, "The county pays two thirds.")
    page = Page(render_conversation(dialogue, [Exchange(question="Who?", reply=declined(reason, near))]))
    assert EXPLANATIONS[reason] in {n.text for n in page.of("p")}
    assert "not as an answer" in page.of("section", "nearest")[0].text
    assert len(page.of("a", "citation")) == 1
    assert "10%" in page.of("p", "confidence")[0].text


def test_an_abstention_without_anything_near_offers_nothing(dialogue: Transcript) -> None:
    page = Page(render_conversation(dialogue, [Exchange(question="Who?", reply=declined("never_mentioned"))]))
    assert not page.of("section", "nearest")


def test_the_contents_list_every_question(lavrov: Transcript) -> None:
    page = Page(render_contents(layout_of(lavrov)))
    asked = [turn for turn in lavrov.turns if turn.role == "interviewer"]
    assert [a.attributes["href"] for a in page.of("a")] == [f"#turn-{turn.turn_id}" for turn in asked]
    assert "Russia was not invited to attend, was it?" in [n.text for n in page.of("span", "item")]


def test_the_header_names_the_interview_and_its_source(lavrov: Transcript) -> None:
    page = Page(render_header(lavrov))
    assert page.of("h1")[0].text == lavrov.title
    assert "Sergey Lavrov" in page.of("p", "source")[0].text
    assert [a.attributes["href"] for a in page.of("a")] == ["https://www.mid.ru"]


def test_nobody_can_write_html_into_the_page() -> None:
    transcript = parse_transcript(
        f"# {HOSTILE}\n\nAnna Berg: {HOSTILE}?\n\nTom Reed: {HOSTILE}. {HOSTILE}\n\nAnna Berg: So?", HOSTILE
    )
    transcript = replace(transcript, turns=tuple(replace(t, speaker=HOSTILE) for t in transcript.turns))
    layout = layout_of(transcript)
    turn = transcript.turns[1]
    quote = Quote(transcript_id=transcript.transcript_id, start=turn.start, end=turn.end)
    exchanges = [
        Exchange(question=HOSTILE, reply=answer(quote)),
        Exchange(question=HOSTILE, reply=declined("not_answered", quote)),
        Exchange(question=HOSTILE, reply=None),
    ]
    pieces = [
        render_header(transcript),
        render_contents(layout),
        render_transcript(layout, (quote,), show=quote),
        render_conversation(transcript, exchanges, can_be_corrected=True),
        render_conversation(transcript, ()),
        render_notice(HOSTILE),
    ]
    for node in (n for piece in pieces for n in Page(piece).nodes):
        assert node.tag in TAGS
        assert not any(name.startswith("on") for name in node.attributes)
        assert node.attributes.get("href", "#").startswith(("#", "?", "https://"))
    assert Page(pieces[3]).of("h2")[0].text == f"You asked{HOSTILE}"
    assert Page(pieces[3]).of("blockquote")[0].text == transcript.words(turn.start, turn.end)


# The terminal ------------------------------------------------------------------------------


def test_the_terminal_shows_numbered_quotes_with_speaker_and_place(dialogue: Transcript) -> None:
    text = render_text(dialogue, answer(quote_of(dialogue, "We closed it on the third of March.")))
    assert text == (
        "[1] Tom Reed, interviewee, answer to question 1:\n    We closed it on the third of March.\n\n"
        "High confidence that the interview answers this: 90%"
    )


def test_no_confidence_is_shown_as_a_certainty() -> None:
    assert [percent(p) for p in (0.0, 0.004, 0.016, 0.834, 0.994, 0.998, 1.0)] == [
        "1%",
        "1%",
        "2%",
        "83%",
        "99%",
        "99%",
        "99%",
    ]


def test_the_terminal_says_which_kind_of_no(dialogue: Transcript) -> None:
    text = render_text(dialogue, declined("not_answered", quote_of(dialogue, "Good morning. Why")))
    assert text.startswith(EXPLANATIONS["not_answered"])
    assert "not as an answer" in text


def test_a_transcript_cannot_steer_the_terminal() -> None:
    transcript = parse_transcript("Host: Why?\n\nAnn Lee: \x1b[2J\x9b31mred\x07 words", "any.txt")
    text = render_text(transcript, answer(quote_of(transcript, "\x1b[2J\x9b31mred\x07 words")))
    assert not {"\x1b", "\x9b", "\x07"} & set(text)
    assert "red" in text


# The evaluation ----------------------------------------------------------------------------

FIGURE = {"name": "a", "label": "Right", "group": "Overall", "better": "higher", "n": 2}
REPORT = {
    "format": 1,
    "suite": {"title": "T <b>", "about": "Two.", "notes": ["A note."]},
    "run": {"made": "2026-01-01", "seconds": 1.5},
    "digest": "abcdef0123456789",
    "figures": {
        "all": [
            {**FIGURE, "value": 0.5, "low": 0.25, "high": 0.75},
            {**FIGURE, "label": "Undefined", "value": None, "low": None, "high": None},
        ]
    },
    "plots": {
        "recall": '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>',
        "latency": '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"></svg>',
        "reliability": '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "risk_coverage": '<svg xmlns="http://www.w3.org/2000/svg"><style>p{color:red}</style></svg>',
    },
    "ladder": [],
    "kinds": [{"kind": "fact", "n": 2, "verdicts": {"wrong quote": 1, "right": 1}}],
    "cases": [
        {
            "id": "1",
            "kind": "fact",
            "question": HOSTILE,
            "history": [HOSTILE],
            "answerable": True,
            "reason": None,
            "gold": [[{"text": HOSTILE, "speaker": HOSTILE}]],
            "reply": {
                "reply": "answer",
                "confidence": 0.5,
                "statements": [{"quotes": [{"text": HOSTILE, "speaker": HOSTILE}]}],
            },
            "error": None,
            "verdict": "wrong quote",
        },
        {
            "id": "2",
            "kind": "fact",
            "question": "?",
            "history": [],
            "answerable": False,
            "reason": "never_mentioned",
            "gold": [],
            "reply": {"reply": "abstention", "reason": "never_mentioned", "confidence": 0.1},
            "error": None,
            "verdict": "right",
        },
    ],
}


def test_a_report_is_shown_with_its_figures_plots_and_every_case(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(REPORT), encoding="utf-8")
    html = render_evaluation(file)
    assert "0.500<small>0.250–0.750</small>" in html
    assert "Undefined" not in html
    assert html.count('<details class="case"') == 2
    assert "T &lt;b&gt;" in html


def test_nothing_in_a_report_runs(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(REPORT), encoding="utf-8")
    html = render_evaluation(file)
    assert html.count("<svg") == 1
    for forbidden in ("<script", "<img", "<style", "onload=", "<a "):
        assert forbidden not in html


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (None, "no report yet"),
        ("", "cannot be read"),
        ("[1]", "not a report of this version"),
        ('{"format": 2}', "not a report of this version"),
        ('{"format": 1}', "is damaged"),
        (json.dumps({**REPORT, "cases": [1]}), "is damaged"),
    ],
)
def test_a_report_that_cannot_be_shown_says_what_to_do(
    tmp_path: Path, content: str | None, fact: str
) -> None:
    file = tmp_path / "report.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    html = render_evaluation(file)
    assert fact in html
    assert "onrecord eval" in html
