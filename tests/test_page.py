"""The page in a real browser: what a reader does, and what must never happen."""

import asyncio
import errno
import gc
import json
import re
import socket
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from index.errors import QuestionError, ServingError
from index.store import Index
from index.transcript import parse_transcript
from rag.pipeline import Interview, interview_of
from rag.question import Question
from rag.reader import LateReader, Reader, Reading
from rag.replies import Answer
from rag.retrieval import Matches
from tests.conftest import HashEncoder
from ui.page import build_page, launch, serve

pytestmark = [
    pytest.mark.browser,
    # The statistics that Gradio keeps of its queue use what pandas is taking away; harmless.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

CHROMIUM = Path("/usr/bin/chromium")
WHEN = "When will the summit for democracy take place?"
WHAT = "What is the Global Partnership on Artificial Intelligence?"
WHO = "And who promotes it?"
UNSAID = "Who won the football World Cup?"
BREAKS = "Break, please: is this a constructive approach?"
SECONDS = 20_000
LOCAL = frozenset(("127.0.0.1", "localhost", "::1"))
HOSTILE = (
    "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'> **bold** _em_ "
    "[x](javascript:window.pwned=1) $math$ ${window.pwned=1} {{value}} <b>tag</b>"
)


@dataclass
class Steady:
    """The interview's own reader, made predictable: sure of everything except what is asked about
    football; given `WHO`, it prefers the sentences that share words with the questions before it; and
    it breaks on `BREAKS`."""

    reader: Reader

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:
        if question.text == BREAKS:
            raise RuntimeError("a reader that breaks")
        reading = self.reader.read(question, index, matches)
        if question.text == WHO:
            before = {word for earlier in question.earlier for word in earlier.strip("?").split()}
            sentences = [index.sentences[i] for i in matches.candidates]
            shared = [len(before & set(index.transcript.text[s.start : s.end].split())) for s in sentences]
            reading = replace(reading, scores=np.array(shared, dtype=np.float32))
        return replace(reading, confidence=0.04 if "football" in question.text else 0.96)


@dataclass
class Kept:
    """Where corrections go."""

    cases: list[tuple[str, Sequence[str], Sequence[str]]]

    def __call__(self, question: str, quotes: Sequence[str], history: Sequence[str]) -> None:
        if quotes == ["never said"]:
            raise QuestionError("the quote “never said” is not in the transcript")
        self.cases.append((question, quotes, history))


@dataclass
class Site:
    """A page that is served, and everything that was asked of the network while it was."""

    url: str
    interview: Interview
    kept: Kept
    report: Path
    looked_up: set[str]
    requested: set[str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(interview: Interview, *, report: Path | None = None, kept: Kept | None = None) -> Iterator[str]:
    """The address of a page, while it is served."""
    with warnings.catch_warnings():
        # Gradio makes an event loop for each of its locks and closes none.
        warnings.simplefilter("ignore", ResourceWarning)
        page = build_page(interview, report=report, keep_case=kept)
        url = launch(page, port=free_port())
        asyncio.set_event_loop(None)
        gc.collect()
    try:
        yield url
    finally:
        page.close(verbose=False)


@pytest.fixture(scope="module")
def looked_up() -> Iterator[set[str]]:
    """Every host that this process looked up or connected to."""
    hosts: set[str] = set()
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def recording_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        hosts.add(str(host))
        return look_up(host, *args, **kwargs)

    def recording_connect(self: socket.socket, where: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            hosts.add(str(where[0]))
        connect(self, where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", recording_look_up)
        patch.setattr(socket.socket, "connect", recording_connect)
        yield hosts


@pytest.fixture(scope="module")
def site(
    interview: Interview, tmp_path_factory: pytest.TempPathFactory, looked_up: set[str]
) -> Iterator[Site]:
    steady = Interview(interview.index, interview.encoder, reader=Steady(interview.reader))
    kept, report = Kept([]), tmp_path_factory.mktemp("report") / "interview.json"
    with served(steady, report=report, kept=kept) as url:
        yield Site(url, steady, kept, report, looked_up, set())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


Open = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Open]:
    """Opens the page as a new visitor; fails afterwards if a script of the page failed."""
    contexts = []
    errors: list[str] = []

    def go(query: str = "", *, width: int = 1440, height: int = 900, url: str = "") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("request", lambda request: site.requested.add(request.url))
        page.on("websocket", lambda found: site.requested.add(found.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((url or site.url) + query)
        page.wait_for_selector("#switch", state="attached")
        return page

    yield go
    for context in contexts:
        context.close()
    assert errors == []


def ask(page: Page, question: str) -> Locator:
    """Ask, and give the exchange once it is answered."""
    exchanges = page.locator("#conversation .exchange:has(.reply)")
    before = exchanges.count()
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")
    expect(exchanges).to_have_count(before + 1, timeout=SECONDS)
    return exchanges.nth(before)


def address(citation: Locator) -> str:
    href = citation.get_attribute("href")
    assert href
    return href.removeprefix("#")


def is_in_view(page: Page, name: str) -> bool:
    """Whether the mark stands inside the part of the transcript's pane that is seen."""
    pane = page.locator("#transcript").bounding_box()
    mark = page.locator(f"#transcript mark.{name}").first.bounding_box()
    assert pane
    return bool(mark and pane["y"] <= mark["y"] and mark["y"] + mark["height"] <= pane["y"] + pane["height"])


def quotes_of(exchange: Locator) -> list[str]:
    return [text or "" for text in (q.text_content() for q in exchange.locator("blockquote").all())]


def words_of(interview: Interview, question: str, history: Sequence[str] = ()) -> list[str]:
    return [interview.words(quote) for quote in interview.ask(question, history).quotes]


# What a reader does ------------------------------------------------------------------------


def test_a_question_is_answered_in_quotes_that_are_marked_and_a_click_leads_there(
    site: Site, visit: Open
) -> None:
    page = visit()
    answer = ask(page, WHEN)
    assert quotes_of(answer) == words_of(site.interview, WHEN)
    assert "December" in "".join(quotes_of(answer))
    citation = answer.locator("a.citation").first
    expect(citation).to_contain_text("[1] Sergey Lavrov, interviewee, answer to question 1")
    name = address(citation)
    marks = page.locator(f"#transcript mark.{name}")
    assert " ".join(marks.all_text_contents()) == quotes_of(answer)[0]

    page.locator("#transcript").evaluate("pane => pane.scrollTo(0, pane.scrollHeight)")
    assert not is_in_view(page, name)
    citation.click()
    expect(marks.first).to_be_in_viewport()
    expect(marks.first).to_have_class(re.compile(r"\bhere\b"))
    assert is_in_view(page, name)
    expect(answer.locator(".confidence")).to_contain_text("96%")


def test_an_example_question_can_be_clicked(visit: Open) -> None:
    page = visit()
    example = page.locator("#examples button").first
    question = example.inner_text()
    example.click()
    expect(page.locator("#conversation .exchange .reply")).to_have_count(1, timeout=SECONDS)
    expect(page.locator("#conversation h2")).to_contain_text(question)
    expect(page.locator("#examples")).to_be_hidden()


def test_an_abstention_explains_itself_and_its_passages_lead_to_their_places(visit: Open) -> None:
    page = visit()
    no = ask(page, UNSAID)
    expect(no.locator(".abstention h3")).not_to_be_empty()
    expect(no.locator(".nearest h4")).to_contain_text("not as an answer")
    expect(no.locator(".confidence")).to_contain_text("4%")
    citations = no.locator("a.citation")
    assert citations.count() == 3
    for citation in citations.all():
        citation.click()
        expect(page.locator(f"#transcript mark.here.{address(citation)}").first).to_be_in_viewport()
        assert is_in_view(page, address(citation))


def test_a_follow_up_is_understood_by_what_was_asked_before(site: Site, visit: Open) -> None:
    page = visit()
    ask(page, WHAT)
    expected = words_of(site.interview, WHO, [WHAT])
    assert expected != words_of(site.interview, WHO)
    assert "Global Partnership on Artificial Intelligence" in expected[0]
    assert quotes_of(ask(page, WHO)) == expected


def test_an_earlier_answers_citation_still_works_after_later_questions(visit: Open) -> None:
    page = visit()
    first = ask(page, WHEN)
    ask(page, "Why was the Technical Secretariat of the OPCW criticised?")
    ask(page, UNSAID)
    citation = first.locator("a.citation").first
    citation.click()
    expect(page.locator(f"#transcript mark.here.{address(citation)}").first).to_be_in_viewport()
    assert is_in_view(page, address(citation))
    expect(page.locator("#conversation .exchange")).to_have_count(3)
    assert {n[0].inner_text() for n in _first_numbers(page)} == {"[1]"}


def _first_numbers(page: Page) -> list[list[Locator]]:
    return [e.locator(".number").all() for e in page.locator("#conversation .exchange").all()]


def test_the_contents_lead_to_every_question(visit: Open) -> None:
    page = visit()
    for entry in page.locator(".contents a").all()[::4]:
        entry.click()
        turn = page.locator((entry.get_attribute("href") or "").replace("#", "#transcript #"))
        expect(turn.locator("h2")).to_be_in_viewport()
        expect(turn.locator(".role")).to_have_text("interviewer")
    roles = set(page.locator("#transcript .turn .role").all_text_contents())
    assert roles == {"interviewer", "interviewee"}


def test_a_permanent_link_opens_the_page_at_its_quotation(site: Site, visit: Open) -> None:
    page = visit()
    answer = ask(page, WHEN)
    name = address(answer.locator("a.citation").first)
    answer.locator("a.permalink").first.click()
    expect(answer.locator("a.permalink").first).to_have_text("Link copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(site.url)
    there = visit(copied.removeprefix(site.url))
    expect(there.locator(f"#transcript mark.here.{name}").first).to_be_in_viewport()
    assert is_in_view(there, name)
    gone = visit(re.sub("of=.*", "of=0123456789ab", copied.removeprefix(site.url)))
    expect(gone.locator("#notice")).to_contain_text("another transcript")


def test_a_new_conversation_begins_without_the_old_one(site: Site, visit: Open) -> None:
    page = visit()
    ask(page, WHAT)
    page.locator("#fresh").click()
    expect(page.locator("#examples")).to_be_visible()
    expect(page.locator("#transcript mark")).to_have_count(0)
    assert quotes_of(ask(page, WHO)) == words_of(site.interview, WHO)


def test_on_a_phone_a_citation_shows_the_transcript_and_there_is_a_way_back(visit: Open) -> None:
    page = visit(width=390, height=844)
    answer = ask(page, WHEN)
    expect(page.locator("#transcript")).to_be_hidden()
    citation = answer.locator("a.citation").first
    citation.click()
    expect(page.locator("#chat")).to_be_hidden()
    assert is_in_view(page, address(citation))
    page.get_by_role("button", name="Conversation", exact=True).click()
    expect(citation).to_be_in_viewport()
    citation.press("Enter")
    expect(citation).to_be_hidden()
    page.keyboard.press("Escape")
    expect(citation).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_both_panes_fill_the_window_and_scroll_by_themselves(visit: Open) -> None:
    page = visit()
    assert page.evaluate("document.documentElement.scrollHeight") == 900
    pane = page.locator("#transcript").bounding_box()
    ask_button = page.locator("#ask").bounding_box()
    assert pane
    assert ask_button
    assert pane["y"] + pane["height"] == pytest.approx(900, abs=1)
    assert 800 < ask_button["y"] + ask_button["height"] <= 900
    assert page.locator("#transcript").evaluate("pane => pane.scrollHeight > 3 * pane.clientHeight")


# Questions that cannot be asked, replies that fail -----------------------------------------


@pytest.mark.parametrize(
    ("question", "says"), [("   ", "blank"), ("?!", "blank"), ("word " * 20_000, "100,000")]
)
def test_a_question_that_cannot_be_asked_gets_one_line_and_nothing_is_lost(
    visit: Open, question: str, says: str
) -> None:
    page = visit()
    ask(page, WHEN)
    box = page.locator("#question textarea")
    box.fill(question)
    box.press("Enter")
    expect(page.locator("#notice p")).to_contain_text(says if says == "blank" else "shorten it")
    assert box.input_value() == question
    expect(page.locator("#conversation .exchange")).to_have_count(1)
    ask(page, UNSAID)
    expect(page.locator("#notice p")).to_have_count(0)


def test_a_failure_gives_the_question_back_and_keeps_the_conversation(visit: Open) -> None:
    page = visit()
    ask(page, WHEN)
    box = page.locator("#question textarea")
    box.fill(BREAKS)
    box.press("Enter")
    expect(page.locator("#notice p")).to_contain_text("went wrong", timeout=SECONDS)
    expect(box).to_have_value(BREAKS)
    expect(page.locator("#conversation .exchange")).to_have_count(1)


# What must never happen --------------------------------------------------------------------


def test_a_hostile_question_is_shown_as_text(visit: Open) -> None:
    page = visit()
    exchange = ask(page, HOSTILE)
    assert exchange.locator("h2").text_content() == f"You asked{HOSTILE}"
    assert page.evaluate("window.pwned") is None


def test_a_hostile_transcript_is_shown_as_text(visit: Open, hash_encoder: HashEncoder) -> None:
    transcript = parse_transcript(
        f"# {HOSTILE}\n\nAnna Berg: Is {HOSTILE} closed?\n\nTom Reed: The bridge {HOSTILE} is closed.\n",
        "hostile.md",
    )
    hostile = interview_of(transcript, hash_encoder)
    hostile.reader = Steady(LateReader())
    words = [transcript.words(turn.start, turn.end) for turn in transcript.turns]
    with served(hostile) as url:
        page = visit(url=url)
        assert page.locator("#transcript .turn p").all_text_contents() == words
        assert page.locator("h1").text_content() == transcript.title
        answer = ask(page, "Is the bridge closed?")
        assert "".join(quotes_of(answer)) in words[1]
        answer.locator("a.citation").first.click()
        assert " ".join(page.locator("#transcript mark.here").all_text_contents()) == quotes_of(answer)[0]
        assert page.evaluate("window.pwned") is None
        assert page.locator("#onrecord :is(script, img, b, em)").count() == 0


def test_two_people_who_ask_at_once_see_their_own_conversations_only(site: Site, visit: Open) -> None:
    pages = [visit(), visit()]
    talks = [[WHAT, WHO], ["What is the Alliance of Multilateralists?", WHO]]
    for turn in range(2):
        for page, talk in zip(pages, talks, strict=True):
            page.locator("#question textarea").fill(talk[turn])
            page.locator("#question textarea").press("Enter")
        for page in pages:
            expect(page.locator("#conversation .reply")).to_have_count(turn + 1, timeout=SECONDS)
    for page, talk in zip(pages, talks, strict=True):
        exchanges = page.locator("#conversation .exchange").all()
        assert [e.locator("h2").text_content() for e in exchanges] == [f"You asked{q}" for q in talk]
        assert quotes_of(exchanges[1]) == words_of(site.interview, WHO, talk[:1])


def test_no_request_leaves_the_machine(site: Site, visit: Open) -> None:
    page = visit()
    ask(page, WHEN).locator("a.citation").first.click()
    page.get_by_role("tab", name="Evaluation").click()
    expect(page.locator("#evaluation h2")).to_be_visible()
    assert len(site.requested) > 10
    urls = [urlsplit(url) for url in site.requested]
    assert {url.hostname for url in urls if url.scheme not in ("data", "blob")} <= LOCAL
    assert site.looked_up <= LOCAL | {"None"}


def test_the_page_offers_one_endpoint_and_it_gives_the_object_of_the_command_line(site: Site) -> None:
    with urllib.request.urlopen(f"{site.url}gradio_api/info") as found:
        assert list(json.load(found)["named_endpoints"]) == ["/ask"]

    def call(*arguments: object) -> str:
        body = json.dumps({"data": arguments}).encode()
        request = urllib.request.Request(
            f"{site.url}gradio_api/call/ask", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{site.url}gradio_api/call/ask/{event}") as stream:
            return str(stream.read().decode())

    reply = json.loads(call(WHO, [WHAT]).split("data: ")[1])[0]
    assert reply["reply"] == "answer"
    texts = [quote["text"] for statement in reply["statements"] for quote in statement["quotes"]]
    assert texts == words_of(site.interview, WHO, [WHAT])
    assert "the question is blank" in call("  ", [])


def test_the_page_holds_no_advertisement_and_no_footer(visit: Open) -> None:
    page = visit()
    expect(page.locator("#ask")).to_be_visible()
    assert page.locator("footer:visible").count() == 0
    assert page.title().endswith("On Record")


# Corrections and the evaluation ------------------------------------------------------------


def test_an_answer_can_be_corrected_and_what_was_typed_stays_until_it_is_kept(
    site: Site, visit: Open
) -> None:
    page = visit()
    ask(page, WHAT)
    answer = ask(page, WHO)
    answer.get_by_role("button", name="Not right?").click()
    words, keep = page.locator("#expected textarea"), page.get_by_role("button", name="Keep as a case")
    keep.click()
    expect(page.locator("#notice p")).to_contain_text("Paste the words")
    words.fill("never said")
    keep.click()
    expect(page.locator("#notice p")).to_contain_text("not in the transcript")
    assert words.input_value() == "never said"
    words.fill("The Dutch and the British")
    keep.click()
    expect(page.locator("#notice p")).to_contain_text("Kept")
    expect(words).to_be_hidden()
    assert site.kept.cases == [(WHO, ["The Dutch and the British"], [WHAT])]


def test_the_evaluation_tab_shows_the_last_report(site: Site, visit: Open) -> None:
    site.report.unlink(missing_ok=True)
    page = visit()
    tab = page.get_by_role("tab", name="Evaluation")
    tab.click()
    expect(page.locator("#evaluation")).to_contain_text("onrecord eval")
    case = {"history": [], "answerable": False, "reason": None, "gold": [], "reply": None, "error": "broke"}
    report = {
        "format": 1,
        "suite": {"title": "Two questions", "about": "", "notes": []},
        "run": {"made": "", "seconds": 1},
        "digest": "",
        "figures": {"all": []},
        "plots": {},
        "ladder": [],
        "kinds": [],
        "cases": [
            {**case, "id": "1", "kind": "fact", "question": HOSTILE, "verdict": "failed"},
            {**case, "id": "2", "kind": "why", "question": "Why?", "verdict": "right"},
        ],
    }
    site.report.write_text(json.dumps(report), encoding="utf-8")
    page.get_by_role("tab", name="Interview").click()
    tab.click()
    expect(page.locator("#evaluation h2")).to_have_text("Two questions")
    expect(page.locator("details.case .asked").first).to_have_text(HOSTILE)
    page.locator("select[data-filter=kind]").select_option("why")
    expect(page.locator("details.case:visible")).to_have_count(1)
    expect(page.locator(".filters output")).to_have_text("1 cases")


# Serving -----------------------------------------------------------------------------------


def test_a_port_in_use_is_an_error_and_never_another_port(site: Site) -> None:
    port = urlsplit(site.url).port or 0
    with pytest.raises(ServingError, match=rf"^port {port} is in use: choose another one with --port$"):
        serve(site.interview, port=port)


def test_an_address_of_another_machine_is_an_error(site: Site) -> None:
    with pytest.raises(ServingError, match=r"203\.0\.113\.1 is not an address of this machine"):
        serve(site.interview, host="203.0.113.1", port=free_port())


def test_a_port_that_this_user_may_not_use_is_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ServingError, match="port 80 may not be used by this user"):
        serve(site.interview, port=80)


def test_every_answer_of_the_examples_is_an_answer_or_a_no(interview: Interview) -> None:
    from ui.page import EXAMPLES

    kinds = [isinstance(interview.ask(question), Answer) for question in EXAMPLES]
    assert True in kinds
    assert False in kinds
