"""Sentences and chunks: what the print split is one again, and nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from index.chunks import make_chunks, make_windows
from index.sentences import MAX_SENTENCE, split_sentences
from index.transcript import Transcript, parse_transcript


def sentences(words: str) -> list[str]:
    found = parse_transcript(f"Anna: {words}", "t.txt")
    return [found.words(s.start, s.end) for s in split_sentences(found)]


def test_sentences_that_the_print_split_are_whole(lavrov: Transcript) -> None:
    whole = {lavrov.words(s.start, s.end) for s in split_sentences(lavrov)}
    for sentence in (
        "Watching who specifically gets invited and in what capacity will be quite amusing.",
        "The Chemical Weapons Convention (CWC) states that everything must be done by consensus.",
    ):
        assert sentence in whole
    for before, after in (
        ("they tend to forget its formulas, when it", "comes to geopolitics."),
        ("The hysterical", "claims made in some EU countries"),
        ("contingents of other countries", "eager to please Washington"),
        ("illegal for Ukrainian political, diplomatic and other", "officials to fulfil them."),
        ("the West is either", "helpless or is cheating."),
        ("it was persuaded to accept", "it and went along with this"),
        ("organise the Normandy format at least", "at the ministerial level."),
        ("convinced representatives of Donetsk and Lugansk", "to sign this document as well."),
    ):
        assert any(f"{before} {after}" in sentence for sentence in whole)
    assert any(s.startswith("In our exchanges") and "February 2015 Minsk agreements" in s for s in whole)
    assert any("no borders with our Central Asian allies" in s for s in whole)
    assert any("documents for immigration to Western countries" in s for s in whole)


def test_the_splits_of_the_interview_were_read_and_none_is_wrong(lavrov: Transcript) -> None:
    # All 265 sentences were read. sentencex alone makes 264: it takes "Pakistan said no. Uzbekistan has"
    # for the abbreviation of "number", which the rule added here repairs.
    found = split_sentences(lavrov)
    assert len(found) == 265
    assert max(s.end - s.start for s in found) < MAX_SENTENCE
    words = [lavrov.words(s.start, s.end) for s in found]
    assert "They came up with similar proposals to Pakistan as well, but Pakistan said no." in words
    assert all(w.rstrip('”")')[-1] in ".?!" for w in words)
    assert not any(w[0].islower() for w in words)


def test_number_is_still_abbreviated() -> None:
    assert sentences("We read no. 5 of it. He said no. Then we left.") == [
        "We read no. 5 of it.",
        "He said no.",
        "Then we left.",
    ]


def test_abbreviations_do_not_end_a_sentence() -> None:
    assert sentences("Dr. Reed met Mr. Berg of the U.S. Army. They talked.") == [
        "Dr. Reed met Mr. Berg of the U.S. Army.",
        "They talked.",
    ]


def test_a_finished_paragraph_ends_a_sentence_and_an_unfinished_one_does_not() -> None:
    assert sentences("It was quite\n\namusing. So\r\n\r\nThe End was near\n\n\n\nto us") == [
        "It was quite amusing.",
        "So The End was near to us",
    ]
    assert sentences("First:\n\n- one thing\n\n- another thing") == [
        "First:",
        "- one thing",
        "- another thing",
    ]


def test_a_stretch_without_punctuation_is_cut_into_quotable_pieces() -> None:
    pieces = sentences("and then we went on " * 200)
    assert all(len(piece) <= MAX_SENTENCE for piece in pieces)
    assert " ".join(pieces) == ("and then we went on " * 200).strip()
    assert "".join(sentences("x" * 2000)) == "x" * 2000


@given(st.text(min_size=1))
def test_sentences_hold_every_visible_character_of_any_turn(words: str) -> None:
    text = f"Anna: {words}\n\nTom: Yes."
    found = parse_transcript(text, "t.txt")
    spans = split_sentences(found)
    position = 0
    for span in spans:
        turn = found.turns[span.turn_id]
        assert turn.start <= span.start < span.end <= turn.end
        assert position <= span.start
        assert text[position : span.start].isspace() or position < turn.start or position == span.start
        position = span.end
    covered = {i for s in spans for i in range(s.start, s.end)}
    visible = {i for t in found.turns for i in range(t.start, t.end) if not text[i].isspace()}
    assert visible <= covered


@given(st.text(min_size=1, max_size=300))
def test_chunks_are_whole_sentences_of_one_turn_and_cover_it(words: str) -> None:
    found = parse_transcript(f"Anna: {words}\n\nTom: Yes. No. Perhaps. So be it.", "t.txt")
    spans = split_sentences(found)
    chunks = make_chunks(spans)
    assert len(chunks) == len(spans)
    covered = set()
    for sentence, chunk in zip(spans, chunks, strict=True):
        assert chunk.turn_id == sentence.turn_id
        assert chunk.start <= sentence.start < sentence.end <= chunk.end
        assert chunk.start in {s.start for s in spans}
        assert chunk.end in {s.end for s in spans}
        covered |= set(range(chunk.start, chunk.end))
    assert covered == {i for t in found.turns for i in range(t.start, t.end)}


def test_a_window_carries_names_and_the_question_before_an_answer(dialogue: Transcript) -> None:
    windows = make_windows(dialogue, split_sentences(dialogue))
    first_answer = windows[2]
    assert first_answer.text == (
        "Anna Berg: Why was the old bridge closed? "
        "Tom Reed: Good morning. Its northern cable had rusted through."
    )
    assert [first_answer.text[a:b] for a, b in first_answer.focus] == ["Tom Reed", "Good morning."]
    inside = windows[3]
    assert inside.text.startswith("Tom Reed: Good morning. Its northern cable")
    assert [inside.text[a:b] for a, b in inside.focus] == [
        "Tom Reed",
        "Its northern cable had rusted through.",
    ]
