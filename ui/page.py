"""The page: a conversation on the left, the transcript on the right. The only file that knows Gradio.

What is shown is made by `ui.render`; this module holds the events. A session's conversation is a
tuple of exchanges in its own state, so that people who ask at the same time never meet. Nothing is
fetched from elsewhere and nothing is sent anywhere: no analytics, no shared link, no history kept in
the browser, no font that the machine does not have.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

# Gradio reads these when it is imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from gradio.events import api

from index.errors import OnRecordError, ServingError
from index.transcript import INTERVIEW
from rag.pipeline import Interview
from rag.question import check_question
from rag.replies import reply_as_dict
from ui.evaluation import render_evaluation
from ui.render import (
    Exchange,
    Layout,
    quote_from_link,
    render_contents,
    render_conversation,
    render_header,
    render_notice,
    render_transcript,
)

KeepCase = Callable[[str, Sequence[str], Sequence[str]], object]
"""Keeps a case: a question, what it should have quoted (nothing: it is not said), and the questions
before it. Raises `OnRecordError` where that cannot be done."""

ASKING_AT_ONCE = 2
"""Questions answered at the same time; the others wait their turn."""
WAITING = 64

EXAMPLES = (
    "When will the summit for democracy take place?",
    "Who put forward the Global Partnership on Artificial Intelligence?",
    "What did he say about the White Helmets?",
    "Who won the football World Cup?",
)
_EXAMPLES = 4
_HIDDEN = "private"


def build_page(
    interview: Interview, *, report: Path | None = None, keep_case: KeepCase | None = None
) -> gr.Blocks:
    """The page for one interview.

    `report` is the JSON file of an evaluation, read whenever its tab is opened, so that it may be
    written later. With `keep_case` an answer can be corrected.
    """
    transcript = interview.transcript
    layout = Layout(transcript, interview.index.sentences)
    session = _Session(interview, layout, keep_case)

    page: gr.Blocks
    with gr.Blocks(title=f"{transcript.title} · On Record", fill_width=True, fill_height=True) as page:
        exchanges = gr.State(())
        draft = gr.State("")
        to_correct = gr.State(-1)
        with gr.Column(elem_id="onrecord"):
            gr.HTML(render_header(transcript), elem_id="header", apply_default_css=False, js_on_load=None)
            with gr.Tabs(elem_id="tabs", elem_classes=[] if report else ["single"]):
                with gr.Tab("Interview", elem_id="interview-tab"), gr.Row(elem_id="panes"):
                    with gr.Column(elem_id="chat"):
                        with gr.Column(elem_id="talk"):
                            conversation = gr.HTML(
                                session.conversation(()),
                                elem_id="conversation",
                                apply_default_css=False,
                                js_on_load=_CORRECT,
                            )
                            with gr.Column(elem_id="examples") as examples:
                                buttons = [
                                    gr.Button(words, elem_classes=["example"], size="sm")
                                    for words in example_questions(layout)
                                ]
                        with gr.Column(elem_id="correction", visible=False) as correction:
                            gr.HTML(
                                "<h3>What should it have quoted?</h3>",
                                apply_default_css=False,
                                js_on_load=None,
                            )
                            expected = gr.Textbox(
                                label="The words, copied from the transcript",
                                lines=2,
                                max_lines=4,
                                elem_id="expected",
                            )
                            unsaid = gr.Checkbox(label="Nothing: the interview does not say")
                            with gr.Row(elem_id="correction-buttons"):
                                cancel = gr.Button("Cancel", size="sm")
                                keep = gr.Button("Keep as a case", size="sm", variant="primary")
                        notice = gr.HTML("", elem_id="notice", apply_default_css=False, js_on_load=None)
                        with gr.Row(elem_id="composer"):
                            question = gr.Textbox(
                                label="Your question",
                                show_label=False,
                                container=False,
                                placeholder="Ask a question",
                                lines=1,
                                max_lines=5,
                                elem_id="question",
                            )
                            ask = gr.Button("Ask", variant="primary", elem_id="ask")
                        fresh = gr.Button("New conversation", elem_id="fresh", visible=False)
                    with gr.Row(elem_id="record"):
                        gr.HTML(
                            render_contents(layout),
                            elem_id="contents",
                            apply_default_css=False,
                            js_on_load=None,
                        )
                        shown = gr.HTML(
                            render_transcript(layout),
                            elem_id="transcript",
                            apply_default_css=False,
                            js_on_load=None,
                        )
                if report:
                    with gr.Tab("Evaluation", elem_id="evaluation-tab") as tab:
                        evaluation = gr.HTML(
                            "", elem_id="evaluation", apply_default_css=False, js_on_load=None
                        )
                    path = report
                    tab.select(
                        lambda: render_evaluation(path), None, evaluation, api_visibility=_HIDDEN, queue=False
                    )

        asked = [exchanges, draft, conversation, shown, notice, question, examples, fresh]
        triggers = [
            gr.on(
                [question.submit, ask.click],
                session.converse,
                [question, exchanges],
                asked,
                api_visibility=_HIDDEN,
                show_progress="hidden",
                concurrency_id="ask",
                concurrency_limit=ASKING_AT_ONCE,
            )
        ]
        triggers += [
            button.click(
                session.converse,
                [button, exchanges],
                asked,
                api_visibility=_HIDDEN,
                show_progress="hidden",
                concurrency_id="ask",
            )
            for button in buttons
        ]
        for trigger in triggers:
            trigger.failure(
                session.recover,
                [exchanges, draft],
                [conversation, notice, question],
                api_visibility=_HIDDEN,
                queue=False,
            )
        fresh.click(
            session.start_again,
            None,
            [exchanges, conversation, shown, notice, examples, fresh, correction],
            api_visibility=_HIDDEN,
            show_progress="hidden",
            queue=False,
        )
        page.load(session.arrive, None, [shown, notice], api_visibility=_HIDDEN, show_progress="hidden")
        if keep_case:
            conversation.correct(
                session.begin_correction,
                None,
                [to_correct, correction, expected, unsaid, notice],
                api_visibility=_HIDDEN,
                queue=False,
            )
            keep.click(
                session.keep_correction,
                [to_correct, expected, unsaid, exchanges],
                [correction, notice],
                api_visibility=_HIDDEN,
            )
        cancel.click(
            lambda: (gr.update(visible=False), ""),
            None,
            [correction, notice],
            api_visibility=_HIDDEN,
            queue=False,
        )
        api(session.ask_once, api_name="ask", concurrency_id="ask", concurrency_limit=ASKING_AT_ONCE)
    page.queue(max_size=WAITING)
    return page


def example_questions(layout: Layout) -> tuple[str, ...]:
    """Questions to begin with: ours for the interview that ships, for any other its own, since an
    interviewer's questions are those that the guest is likeliest to have answered."""
    if layout.transcript.source == INTERVIEW:
        return EXAMPLES
    asked = (layout.heading(turn) for turn in layout.entries())
    fitting = [words for words in dict.fromkeys(asked) if words.endswith("?") and 20 <= len(words) <= 120]
    return tuple(fitting[:_EXAMPLES])


class _Session:
    """What happens on the page. Holds nothing of a session: that comes in and goes out."""

    def __init__(self, interview: Interview, layout: Layout, keep_case: KeepCase | None) -> None:
        self.interview = interview
        self.layout = layout
        self.keep_case = keep_case

    def conversation(self, exchanges: Sequence[Exchange]) -> str:
        return render_conversation(
            self.interview.transcript, exchanges, can_be_corrected=self.keep_case is not None
        )

    def converse(
        self, question: str, exchanges: tuple[Exchange, ...]
    ) -> Iterator[dict[Any, Any] | tuple[Any, ...]]:
        """Show the question at once, then its reply; or say why it cannot be asked, and lose nothing."""
        # The order is that of `asked` in `build_page`.
        unchanged = gr.skip()
        question = question.encode("utf-8", "replace").decode("utf-8")
        try:
            words = check_question(question)
        except OnRecordError as exc:
            notice = render_notice(str(exc))
            yield (*[unchanged] * 4, notice, *[unchanged] * 3)
            return
        pending = (*exchanges, Exchange(question=words, reply=None))
        hidden, visible = gr.update(visible=False), gr.update(visible=True)
        yield unchanged, words, self.conversation(pending), unchanged, "", "", hidden, visible
        reply = self.interview.ask(words, [earlier.question for earlier in exchanges])
        exchanges = (*exchanges, Exchange(question=words, reply=reply))
        yield (
            exchanges,
            "",
            self.conversation(exchanges),
            self._marked(exchanges),
            *[unchanged] * 4,
        )

    def _marked(self, exchanges: Sequence[Exchange]) -> str:
        quotes = [exchange.reply.quotes if exchange.reply else () for exchange in exchanges]
        earlier = tuple(dict.fromkeys(quote for group in quotes[:-1] for quote in group))
        return render_transcript(self.layout, quotes[-1] if quotes else (), earlier)

    def recover(self, exchanges: tuple[Exchange, ...], draft: str) -> tuple[str, str, str]:
        """After a failure that nobody foresaw: the conversation as it was, the question given back."""
        notice = render_notice("Something went wrong and the question was not answered: ask it again.")
        return self.conversation(exchanges), notice, draft

    def start_again(self) -> tuple[Any, ...]:
        hidden, visible = gr.update(visible=False), gr.update(visible=True)
        return (), self.conversation(()), render_transcript(self.layout), "", visible, hidden, hidden

    def arrive(self, request: gr.Request) -> tuple[Any, Any]:
        """Follow a permanent link, where the page was opened by one."""
        span = request.query_params.get("quote")
        if not span:
            return gr.skip(), gr.skip()
        quote = quote_from_link(self.interview.transcript, span, request.query_params.get("of", ""))
        if quote is None:
            return gr.skip(), render_notice(
                "The link leads to a quotation of another transcript, or of another version of this one."
            )
        return render_transcript(self.layout, (quote,), show=quote), ""

    def begin_correction(self, event: gr.EventData) -> tuple[Any, ...]:
        return int(event.exchange), gr.update(visible=True), "", False, ""

    def keep_correction(
        self, number: int, expected: str, is_unsaid: bool, exchanges: tuple[Exchange, ...]
    ) -> tuple[Any, str]:
        """Hand the case on; the form stays open, with what was typed, until it is kept."""
        assert self.keep_case is not None
        if not 0 <= number < len(exchanges):
            return gr.update(visible=False), ""
        if is_unsaid == bool(expected.strip()):
            return gr.skip(), render_notice(
                "Paste the words that it should have quoted, or tick that the interview does not say."
            )
        quotes = [] if is_unsaid else [expected.strip()]
        history = [exchange.question for exchange in exchanges[:number]]
        try:
            self.keep_case(exchanges[number].question, quotes, history)
        except OnRecordError as exc:
            return gr.skip(), render_notice(str(exc))
        return gr.update(visible=False), render_notice("Kept as a case of your own.")

    def ask_once(self, question: str, history: list[str]) -> dict[str, Any]:
        """Ask one question, after the earlier questions of a conversation (oldest first; an empty
        list for none). Gives the object that `onrecord ask --json` prints."""
        try:
            reply = self.interview.ask(question, history)
        except OnRecordError as exc:
            raise gr.Error(str(exc), print_exception=False) from exc
        return reply_as_dict(self.interview.transcript, reply)


# `trigger` is how a click inside the HTML becomes an event; the name must stand in quotes.
_CORRECT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-exchange]');
  if (button) trigger('correct', {exchange: Number(button.dataset.exchange)});
});
"""


# Serving -----------------------------------------------------------------------------------


def launch(page: gr.Blocks, *, host: str = "127.0.0.1", port: int = 7860, open_browser: bool = False) -> str:
    """Begin to serve a page in the background, and give its address.

    `ServingError` where the address cannot be had; another port is never taken instead.
    """
    _check_address(host, port)
    _reach_ourselves_without_a_proxy(host)
    assets = resources.files("ui") / "assets"
    sans = (
        "ui-sans-serif",
        "system-ui",
        "-apple-system",
        "Segoe UI",
        "Roboto",
        "Helvetica Neue",
        "sans-serif",
    )
    mono = ("ui-monospace", "Menlo", "Consolas", "monospace")
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            footer_links=[],
            favicon_path=str(assets / "icon.svg"),
            theme=gr.themes.Base(font=sans, font_mono=mono),
            css=(assets / "page.css").read_text(encoding="utf-8"),
            js=(assets / "page.js").read_text(encoding="utf-8"),
        )
    except OSError as exc:
        raise ServingError(
            f"the page cannot be served on {host}:{port} ({exc}): choose another port"
        ) from exc
    return url


def serve(
    interview: Interview,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    open_browser: bool = False,
    report: Path | None = None,
    keep_case: KeepCase | None = None,
) -> None:
    """Serve the page until interrupted; `ServingError` where the address cannot be had."""
    _check_address(host, port)
    page = build_page(interview, report=report, keep_case=keep_case)
    url = launch(page, host=host, port=port, open_browser=open_browser)
    print(f"On Record is at {url} (stop with Ctrl+C)", flush=True)
    page.block_thread()


def _check_address(host: str, port: int) -> None:
    """Try the address before anything is built on it, for the reason that Gradio does not tell."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as exc:
        raise ServingError(f"{host} is not an address of this machine: use --host 127.0.0.1") from exc
    except OSError as exc:
        match exc.errno:
            case errno.EADDRINUSE:
                fact = f"port {port} is in use: choose another one with --port"
            case errno.EACCES | errno.EPERM:
                fact = f"port {port} may not be used by this user: choose one from 1024 up with --port"
            case errno.EADDRNOTAVAIL:
                fact = f"{host} is not an address of this machine: use --host 127.0.0.1"
            case _:
                fact = f"the page cannot be served on {host}:{port} ({exc.strerror}): choose another --port"
        raise ServingError(fact) from exc


def _reach_ourselves_without_a_proxy(host: str) -> None:
    """Gradio calls its own page once; a proxy set for the internet must not stand between."""
    for name in ("NO_PROXY", "no_proxy"):
        exempt = [entry for entry in os.environ.get(name, "").split(",") if entry]
        os.environ[name] = ",".join(dict.fromkeys([*exempt, "127.0.0.1", "localhost", "::1", host]))
