"""From question to reply: what can be represented, what is chosen, and that quotes are exact."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.encoder import Encoder
from index.errors import QuestionError, TranscriptError
from index.store import Index, make_index
from index.transcript import Transcript, fold, parse_transcript
from rag.compose import CONTENTS, Policy, compose
from rag.cross import as_read
from rag.pipeline import Interview, interview_of
from rag.question import MAX_QUESTION, Question, contextualise, follows_on
from rag.reader import NAMED, LateReader, Reading, of_speakers
from rag.replies import Abstention, Answer, Quote, Statement, quote_as_dict, reply_as_dict
from rag.retrieval import Matches, Weights, best_hits, match
from rag.vocabulary import MOST_UNSAID, corrected, never_said
from tests.conftest import DIALOGUE, HashEncoder
from ui.render import render_text

# What can be represented --------------------------------------------------------------------

ID = "0" * 64


def quote(start: int, end: int) -> Quote:
    return Quote(transcript_id=ID, start=start, end=end)


@pytest.mark.parametrize(
    "make",
    [
        lambda: quote(3, 3),
        lambda: quote(-1, 3),
        lambda: Statement(quotes=(), support=0.5),
        lambda: Statement(quotes=(quote(0, 5),), support=1.5),
        lambda: Statement(quotes=(quote(0, 5),), support=0.5, short_answer=quote(4, 6)),
        lambda: Answer(question="?", read_as="?", statements=(), hits=(), confidence=0.5),
        lambda: Abstention(
            question="?", read_as="?", reason="low_confidence", nearest=(), hits=(), confidence=float("nan")
        ),
    ],
)
def test_what_must_not_be_said_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"quote|statement|support|short answer|confidence"):
        make()


def test_a_quote_of_another_transcript_is_refused(dialogue: Transcript) -> None:
    with pytest.raises(ValueError, match="another transcript"):
        quote_as_dict(dialogue, quote(60, 70))


# Questions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "?!", "…"])
def test_a_blank_question_is_refused(text: str, dialogue: Transcript) -> None:
    with pytest.raises(QuestionError, match="blank"):
        contextualise(text, (), dialogue, HashEncoder())


def test_an_endless_question_is_refused(dialogue: Transcript) -> None:
    with pytest.raises(QuestionError, match="100,000 characters"):
        contextualise("x" * 100_000, (), dialogue, HashEncoder())
    assert contextualise("x" * MAX_QUESTION, (), dialogue, HashEncoder()).text


@pytest.mark.parametrize(
    "text",
    [
        "And why was he unhappy about it?",
        "Why?",
        "What about Poland?",
        "How many of them?",
        "Did they agree?",
        "What did their leader tell the crowd?",
    ],
)
def test_a_follow_up_is_noticed(text: str) -> None:
    assert follows_on(text)


@pytest.mark.parametrize(
    "text",
    [
        "Which countries refused the American bases on their territory?",
        "When will the summit take place?",
        "What does he think of the new rules?",
        "Why did the museum change its mind about the bronze?",
        "How many had crossed the river by this morning?",
    ],
)
def test_a_question_that_stands_alone_is_left_alone(text: str, dialogue: Transcript) -> None:
    assert not follows_on(text)
    assert contextualise(text, ["Who is Ghani?"], dialogue, HashEncoder()).earlier == ()


@pytest.mark.parametrize(
    ("text", "is_about"),
    [
        ("What did the interviewer say about bridges?", True),
        ("What does Anna Berg want to know?", True),
        ("What was he asked about last?", True),
        ("What did Tom Reed say about the county?", False),
        ("Did Britain host anything?", False),
        ("Which countries did Washington ask to host its military?", False),
    ],
)
def test_whose_words_are_asked_for(text: str, is_about: bool, dialogue: Transcript) -> None:
    assert contextualise(text, (), dialogue, HashEncoder()).is_about_interviewer is is_about


@pytest.mark.parametrize("text", ["Hello!", "hi", "Good morning", "thanks", "Why?", "What is it?"])
def test_what_asks_for_nothing_is_declined(text: str, dialogue: Transcript) -> None:
    reply = interview_of(dialogue, HashEncoder()).ask(text)
    assert isinstance(reply, Abstention)
    assert reply.confidence <= 0.05


# Spelling -----------------------------------------------------------------------------------


def test_a_misspelt_word_is_read_as_the_transcript_spells_it_and_said_so(dialogue: Transcript) -> None:
    encoder = HashEncoder()
    encoder.misspelt = {"brigde", "cuonty"}
    interview = interview_of(dialogue, encoder)
    reply = interview.ask("Who pays for the new brigde?", ["What about the cuonty?"])
    assert (reply.question, reply.read_as) == (
        "Who pays for the new brigde?",
        "Who pays for the new bridge?",
    )
    assert reply_as_dict(dialogue, reply)["read_as"] == reply.read_as
    assert "Read as: Who pays for the new bridge?" in render_text(dialogue, reply)
    assert contextualise("And it?", ["the cuonty"], dialogue, encoder).earlier == ("the county",)


def test_what_is_spelt_well_is_read_as_it_stands(dialogue: Transcript) -> None:
    interview = interview_of(dialogue, HashEncoder())
    reply = interview.ask("Who pays for the new brigde?")  # a word that the encoder knows
    assert reply.read_as == reply.question
    assert "read_as" not in reply_as_dict(dialogue, reply)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("who is invitng countrys to the sumit for democrasy", "summit for democracy"),
        ("what did the UNECSO secretariat propose", "UNESCO secretariat"),
        ("what does the interviewer ask about the deadlines of the Dutch?", None),
        ("Did Zakharova or Psaki object?", None),
        ("Who was not invited to Biden's summit?", None),
    ],
)
def test_words_are_mended_and_names_are_left(
    text: str, read: str | None, encoder: Encoder, lavrov: Transcript
) -> None:
    found = corrected(text, lavrov, encoder.knows_word)
    assert (read in found) if read else (found == text)


# Retrieval ----------------------------------------------------------------------------------


def test_hits_are_best_first_and_new_places_come_first(
    dialogue: Transcript, hash_encoder: HashEncoder
) -> None:
    index = make_index(dialogue, hash_encoder).index
    question = contextualise("Who pays for the new bridge?", (), dialogue, hash_encoder)
    hits = best_hits(index, question, match(index, question), 10)
    assert len(hits) == len(index.chunks)
    assert "county pays" in dialogue.words(hits[0].chunk.start, hits[0].chunk.end)
    middles = {c: i for i, c in enumerate(index.chunks)}
    first, second = middles[hits[0].chunk], middles[hits[1].chunk]
    assert abs(first - second) > 1 or hits[0].chunk.turn_id != hits[1].chunk.turn_id


def test_each_weight_alone_orders_by_its_own_score(dialogue: Transcript, hash_encoder: HashEncoder) -> None:
    index = make_index(dialogue, hash_encoder).index
    question = contextualise("What rusted through?", (), dialogue, hash_encoder)
    lexical = match(index, question, Weights(bm25=1, dense=0, late=0)).chunk_scores
    assert np.argmax(lexical) == np.argmax(index.lexical.scores(question.text))
    dense = match(index, question, Weights(bm25=0, dense=1, late=0)).chunk_scores
    assert np.argmax(dense) == np.argmax(index.vectors.rows() @ question.encoded.vector)


def test_a_long_transcript_is_searched_by_candidates(
    hash_encoder: HashEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(f"Tom: Fact number {i} is about thing{i} alone." for i in range(300))
    index = make_index(parse_transcript(text, "t.txt"), hash_encoder).index
    question = contextualise(
        "What about thing217 then, please tell everything?", (), index.transcript, hash_encoder
    )
    whole = best_hits(index, question, match(index, question), 1)
    monkeypatch.setattr("rag.retrieval.SCORE_ALL_UP_TO", 100)
    monkeypatch.setattr("rag.retrieval.CANDIDATES", 10)
    matches = match(index, question)
    assert len(matches.candidates) <= 60
    assert best_hits(index, question, matches, 1)[0].chunk == whole[0].chunk


@pytest.mark.parametrize(
    ("text", "history", "is_about"),
    [
        ("Summarise the interview", [], True),
        ("What is this interview about?", [], True),
        ("What were the main topics?", [], True),
        ("I'd like a summary, please", [], True),
        ("Which topics did they discuss?", [], True),
        ("Which topics did they discuss?", ["Did the governors meet?"], False),
        ("What were the main points?", ["Did the governors meet?"], False),
        ("What was the conversation about?", ["Did the governors meet?"], False),
        ("What does it cover?", [], False),
        ("What does it cover?", ["Is there an insurance on the bridge?"], False),
        ("Summarise this interview", ["Is there an insurance on the bridge?"], True),
        ("Summarise his position on the ferry", [], False),
        ("What is the insurance about?", [], False),
        ("Which topics does he refuse to discuss?", [], False),
    ],
)
def test_the_whole_interview_is_asked_for(
    text: str, history: list[str], is_about: bool, dialogue: Transcript
) -> None:
    assert contextualise(text, history, dialogue, HashEncoder()).is_about_whole is is_about


PANEL = """Host: What will the bridge cost?

Anna Berg: The bridge will cost nine million.

Tom Reed: The bridge will cost twelve million.

Host: And the ferry?

Tom Reed: We shall keep it for a year.
"""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("What will the bridge cost, according to Tom Reed?", "Tom Reed"),
        ("What does Berg say about the cost?", "Anna Berg"),
        ("What will the bridge cost?", None),
        ("Do Reed and Berg agree?", None),
    ],
)
def test_the_speaker_whom_a_question_names_is_known(text: str, named: str | None) -> None:
    assert contextualise(text, (), parse_transcript(PANEL, "panel.md"), HashEncoder()).named == named


def test_a_lone_guest_need_not_be_named(dialogue: Transcript) -> None:
    assert contextualise("What does Tom Reed say?", (), dialogue, HashEncoder()).named is None


def test_whoever_was_named_last_is_meant() -> None:
    panel, history = parse_transcript(PANEL, "panel.md"), ["What does Anna Berg say about the cost?"]
    assert contextualise("And Tom Reed?", history, panel, HashEncoder()).named == "Tom Reed"
    assert contextualise("And about the ferry?", history, panel, HashEncoder()).named == "Anna Berg"


def test_offices_and_verbs_are_no_names() -> None:
    panel = parse_transcript(PANEL.replace("Tom Reed", "Foreign Minister Will Reed"), "panel.md")
    assert contextualise("When will the minister speak?", (), panel, HashEncoder()).named is None


def test_others_than_whoever_is_named_count_less() -> None:
    encoder = HashEncoder()
    index = make_index(parse_transcript(PANEL, "panel.md"), encoder).index
    is_reed = [index.transcript.turns[s.turn_id].speaker == "Tom Reed" for s in index.sentences]
    for text, expected in (
        ("What will Tom Reed keep?", [0.0 if reed else -NAMED for reed in is_reed]),
        ("What will it cost?", [0.0] * len(is_reed)),
    ):
        question = contextualise(text, (), index.transcript, encoder)
        candidates = np.arange(len(is_reed))
        assert of_speakers(question, index, candidates).tolist() == pytest.approx(expected)


@pytest.mark.model
@pytest.mark.parametrize("speaker", ["Anna Berg", "Tom Reed"])
def test_whoever_is_named_is_quoted_first(speaker: str, encoder: Encoder) -> None:
    panel = interview_of(parse_transcript(PANEL, "panel.md"), encoder)
    for interview in (panel, Interview(panel.index, encoder, reader=LateReader())):
        first, _ = interview.rank(f"What will the bridge cost, in the view of {speaker}?")[0]
        assert interview.transcript.turn_at(first.start).speaker == speaker


def test_what_an_interview_is_about_its_questions_tell(dialogue: Transcript) -> None:
    interview = interview_of(dialogue, HashEncoder())
    reply = interview.ask("What is this interview about?")
    assert isinstance(reply, Answer)
    assert [interview.words(q) for q in reply.quotes] == [
        "Why was the old bridge closed?",
        "And who pays for the new one?",
    ]
    many = "".join(
        f"Host: What about {'very ' * n}small bridges? Well?\n\nTom Reed: No.\n\n" for n in range(22)
    )
    reply = interview_of(parse_transcript(many, "many.md"), HashEncoder()).ask("Summarise the interview")
    lengths = [q.end - q.start for q in reply.quotes]
    assert len(lengths) == CONTENTS
    assert lengths == sorted(lengths)  # the two shortest, which came first, are left out
    assert lengths[0] == len(f"What about {'very ' * 2}small bridges? Well?")
    nobody_asks = parse_transcript("Tom Reed: The county pays.\nAnn Ode: It does.\n", "t.txt")
    assert isinstance(interview_of(nobody_asks, HashEncoder()).ask("Summarise the interview"), Abstention)


def test_a_speakers_name_is_not_misspelt() -> None:
    transcript = parse_transcript("Thring: It was a good thing at the summit.", "t.txt")
    said = corrected("Did Thring like the sumit?", transcript, {"did", "like", "the"}.__contains__)
    assert said == "Did Thring like the summit?"


def test_what_a_transcript_never_says_is_known(dialogue: Transcript) -> None:
    assert never_said("Did Berg, or Reed, close the Bridges in 1999?", dialogue) == ("1999",)
    assert never_said("Why, and by whom, was it so?", dialogue) == ()
    assert never_said("THE FERRY'S CAPTAIN, the captain?", dialogue) == ("CAPTAIN",)
    assert never_said("Didn't they pay? Won’t they? We're paid.", dialogue) == ("paid",)
    assert never_said("straße", parse_transcript("Tom: Die Straße war groß.", "t.txt")) == ()
    assert len(never_said("alpha beta gamma delta epsilon zeta eta theta iota", dialogue)) == MOST_UNSAID
    assert as_read("Who pays?", ("A?", "B?", "C?"), dialogue) == "B? C? Who pays?"
    assert as_read("Which tax pays?", (), dialogue) == "Which tax pays? Never said: tax."


# Replies ------------------------------------------------------------------------------------


class WordReader:
    """Scores a sentence by four times how many of the question's words it holds; as sure as it is told."""

    def __init__(self, confidence: float) -> None:
        self.confidence = confidence

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:  # noqa: ARG002
        asked = set(question.text.casefold().strip("?").split())
        said = [index.transcript.text[s.start : s.end].casefold() for s in index.sentences]
        scores = [4 * len(asked & set(words.strip(".?!").split())) for words in said]
        return Reading(scores=np.array(scores, dtype=np.float32), confidence=self.confidence)


def asked(question: str, confidence: float, text: str = DIALOGUE) -> tuple[Interview, Answer | Abstention]:
    encoder = HashEncoder()
    index = make_index(parse_transcript(text, "bridges.md"), encoder).index
    interview = Interview(index, encoder, reader=WordReader(confidence))
    return interview, interview.ask(question)


def test_an_answer_quotes_the_sentence_in_its_place() -> None:
    interview, reply = asked("Who in the county pays two thirds?", 0.9)
    assert isinstance(reply, Answer)
    said = reply_as_dict(interview.transcript, reply)
    quoted = said["statements"][0]["quotes"][0]
    assert quoted["text"] == said["statements"][0]["text"] == "The county pays two thirds."
    assert (quoted["speaker"], quoted["role"], quoted["turn_id"]) == ("Tom Reed", "interviewee", 3)
    assert interview.transcript.text[quoted["start"] : quoted["end"]] == quoted["text"]
    assert len(said["hits"]) == 8


def test_a_sentence_that_leans_on_the_one_before_is_quoted_with_it() -> None:
    interview, reply = asked(
        "Who closed on third of March?", 0.9, DIALOGUE.replace("We closed", "They closed")
    )
    assert [interview.words(q) for q in reply.quotes] == [
        "Its northern cable had rusted through. They closed it on the third of March."
    ]


def test_the_interviewers_words_are_never_the_guests() -> None:
    interview, reply = asked("Why was the old bridge closed?", 0.9)
    assert {interview.transcript.turn_at(q.start).role for q in reply.quotes} == {"interviewee"}
    _, about = asked("What did the interviewer say: why was the old bridge closed?", 0.9)
    assert {interview.transcript.turn_at(q.start).role for q in about.quotes} == {"interviewer"}


@pytest.mark.parametrize(
    ("question", "confidence", "reason"),
    [
        ("Why was the old bridge closed?", 0.05, "not_answered"),
        ("Which zebra lives in Zanzibar?", 0.05, "never_mentioned"),
        ("Which zebra lives in Zanzibar?", 0.4, "low_confidence"),
        (
            "Which county pays the ferry company two thirds for the new bridge each week, gladly?",
            0.05,
            "low_confidence",
        ),
    ],
)
def test_there_are_three_kinds_of_no(question: str, confidence: float, reason: str) -> None:
    _, reply = asked(question, confidence)
    assert isinstance(reply, Abstention)
    assert reply.reason == reason
    assert reply.nearest


@pytest.mark.parametrize(
    ("within", "quotes"),
    [
        (12.0, ["A ferry sank last week. Old ferry crews swam."]),
        (11.0, ["A ferry sank last week."]),
    ],
)
def test_a_second_sentence_is_quoted_where_it_is_nearly_as_good(within: float, quotes: list[str]) -> None:
    text = "Tom: Ships wait. A ferry sank last week. Old ferry crews swam."
    index = make_index(parse_transcript(text, "ferry.txt"), HashEncoder()).index
    policy = Policy(within=within)
    interview = Interview(index, HashEncoder(), reader=WordReader(0.9), policy=policy)
    reply = interview.ask("Which ferry sank last week?")
    assert [interview.words(q) for q in reply.quotes] == quotes


def test_the_surest_short_answer_of_what_is_quoted_is_marked() -> None:
    encoder = HashEncoder()
    text = "Tom: A ferry sank last week. It sank at noon. Crews swam."
    index = make_index(parse_transcript(text, "ferry.txt"), encoder).index
    question = contextualise("When did the ferry sink?", (), index.transcript, encoder)
    whole = [
        Quote(transcript_id=index.transcript.transcript_id, start=s.start, end=s.end) for s in index.sentences
    ]
    reading = Reading(
        scores=np.array([9.0, 8.5, 0.0], dtype=np.float32),
        confidence=0.9,
        short_answers={2: whole[2], 1: whole[1], 0: whole[0]},
    )
    reply = compose(question, index, match(index, question), reading, ())
    assert isinstance(reply, Answer)
    assert [s.short_answer for s in reply.statements] == [whole[1]]


def test_a_list_question_gets_its_items_in_order_of_the_transcript() -> None:
    text = "Anna: What then?\n\nTom: Steel bridges rust. Wood burns. Stone bridges sink. Rope bridges swing."
    interview, reply = asked("List all bridges", 0.9, text)
    quotes = [interview.words(q) for q in reply.quotes]
    assert quotes == sorted(quotes, key=text.index)
    assert {"Stone bridges sink. Rope bridges swing."} <= set(quotes) or len(quotes) >= 2


pieces = st.lists(
    st.tuples(st.sampled_from(["Anna", "Tom"]), st.text(min_size=1, max_size=120)), min_size=1, max_size=5
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pieces,
    st.sampled_from(["Who pays?", "Why *so*?", "list all things", "李?", "What did the host say"]),
    st.floats(0, 1),
)
def test_every_quote_of_every_reply_is_exact_for_any_transcript(
    said: list[tuple[str, str]], question: str, confidence: float
) -> None:
    text = "\n\n".join(f"{name}: {words}" for name, words in said)
    try:
        transcript = parse_transcript(text, "t.txt")
    except TranscriptError:
        return
    encoder = HashEncoder()
    index = make_index(transcript, encoder).index
    reply = Interview(index, encoder, reader=WordReader(confidence)).ask(question, k=20)
    entry = reply_as_dict(transcript, reply)
    quotes = (
        [q for s in entry.get("statements", []) for q in s["quotes"]]
        + entry.get("nearest", [])
        + entry["hits"]
    )
    assert quotes
    for found in quotes:
        assert found["text"] == fold(text[found["start"] : found["end"]])
        turn = transcript.turns[found["turn_id"]]
        assert turn.start <= found["start"] < found["end"] <= turn.end
        assert found.get("speaker", turn.speaker) == turn.speaker


def test_a_question_that_asks_for_nothing_is_not_answered() -> None:
    for question in ("Why?", "And then?", "What was it that he said to you?"):
        _, reply = asked(question, 0.99)
        assert isinstance(reply, Abstention)
        assert reply.confidence < 0.5
