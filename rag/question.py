"""What a question asks for: with the conversation before it, of whom, and how much.

A follow-up is read in three ways: after the questions before it, whose words count for less; alone;
and near the place that answers the question before it. Over the dialogues of one transcript a
rewritten question finds less than the question itself, because every answer shares the topic; what
the earlier questions add is whom a pronoun stands for, and where the talk is.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.encoder import EncodedQuestion, Encoder
from index.errors import QuestionError
from index.lexical import stems
from index.transcript import Role, Transcript
from rag.vocabulary import corrected

MAX_QUESTION = 2_000
"""Longest question, in characters."""
MAX_HISTORY = 3
"""How many earlier questions are read."""

_FOLLOWS = re.compile(
    r"^(and|but|so|or|then|also|what about|how about|by (what|how much)|has that)\b"
    r"|^(which ones?|what else|who else)\b"
    r"|^\W*(\w+\W+){0,3}\w*\W*$"
    r"|\b(it|them|theirs|those|these|there|else|others?|another|instead|former|latter|the same|one of)\b"
    r"|\b(in that case|in the meantime|that one|this one|the other one)\b"
    r"|\b(this|that)\s*(\?|$)"
    r"|\b(about|of|for|with|to|by|after|before|than|like|do|did|does|is|was|were) (this|that)\W*(\?|,|$)",
    re.IGNORECASE,
)
_STANDS_FOR = re.compile(r"\b(they|their|its)\b", re.IGNORECASE)
"""Stands for something said before, unless the question itself has named it by then."""
_INTERVIEWER = re.compile(
    r"\b(interviewer|journalist|presenter|anchor|moderator|correspondent|questioner)\b"
    r"|\b(person|one|man|woman) (who asks|asking) (the )?questions\b"
    r"|\b(the|his|her|their|tv|show'?s?|programme'?s?) (host|reporter)\b(?! (its|their|a|an|the)\b)"
    r"|\b(was|is|were|been|being|gets?|got) ((he|she|the guest|the minister) )?asked "
    r"(about|first|last|next|whether|if|by)\b"
    r"|\bquestions? (does|did|is|was|were|are|do) (the )?(he|she|they|interviewer|put|asked|posed)\b"
    r"|\bwhat (is|was) (he|she) asked\b"
    r"|\bwho (asks|asked|is asking|is interviewing|interviews|interviewed)\b",
    re.IGNORECASE,
)
_SUMMARY = frozenset(("gist", "overview", "recap", "sum", "summarise", "summarize", "summary", "tldr"))
_TEXT = frozenset(("conversation", "interview", "transcript"))
_TOPICS = frozenset(("subject", "subjects", "takeaways", "theme", "themes", "topic", "topics"))
_POINTS = frozenset(("issues", "points", "questions"))
_MAIN = frozenset(("important", "key", "main", "major"))
_SPOKEN = frozenset(
    """
    about asked cover covered covers discuss discussed discusses raised talk talked touched treated
    """.split()  # noqa: SIM905 (as in lexical)
)
_AROUND = frozenset(
    """
    a all an are been being brief briefly can could d did do does entire few five for from give has
    have hello here hi i in is it like lines list m me name of ok on one please provide quick s
    sentence sentences short show so tell that the they this three two up want was well were what
    which whole words would write you
    """.split()  # noqa: SIM905 (as in lexical)
)
"""Words that may stand around those, and add nothing to what is wanted."""
_SMALL = r"(?!(does|is|was|has|his|this|its|us|as|always|perhaps|besides)\b)"
_LIST = re.compile(
    r"^\W*(list|name|enumerate)\b|\b(he|she|they|guest|minister) (list|name|mention|enumerate|give)s? "
    r"|^\s*(which|what)( (of (the|these|those)|the|other|\w+))? "
    + _SMALL
    + r"\w+[^\Wsu]s\b(?! (say|mean|think))"
    r"|^\s*(which|what) " + _SMALL + r"\w+[^\Wsu]s\b"
    r"|\bexamples\b|\ball (the|of|those|who|that)\b"
    r"|\bhow many (times|examples|different)\b|\bwho (all|else|took part|attended|signed)\b"
    r"|\bwhat (things|steps|reasons|measures|conditions|kinds?|else)\b"
    r"|, and (what|who|why|how|which|where|when)\b",
    re.IGNORECASE,
)
_MANNERS = frozenset(
    stems("hello hi hey thanks thank please good morning afternoon evening day bye goodbye ok okay test")
)
_NO_NAMES = frozenset(
    """
    all anchor and answer audience both caller correspondent director doctor female first foreign
    general guest host interviewee interviewer journalist male member minister moderator mrs news
    presenter president prime professor public question radio reporter second secretary speaker the
    third translator unidentified unknown voice
    """.split()  # noqa: SIM905 (as in lexical)
)
"""What stands in a speaker's label and is nobody's name."""
_COMPARISON = re.compile(r"\b(both|each|disagree|differ\w*|compare\w*|versus|respectively)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and, where it leans on them, the questions before it.

    `asked` is the question as it was put, `text` as it is read: with misspelt words mended.
    `encoded` is all of that together, of which `is_earlier (q,)` says what belongs to the earlier
    questions; `alone` is the question by itself and `previous` the one before it, where there is one.
    `is_about_whole` says that it asks for the interview's topics, or for a summary; `named` is the
    speaker whom it names, where it names one of several who answer.
    """

    asked: str
    text: str
    earlier: tuple[str, ...]
    encoded: EncodedQuestion
    alone: EncodedQuestion | None = None
    previous: EncodedQuestion | None = None
    is_about_whole: bool
    is_about_interviewer: bool
    is_comparison: bool
    asks_for_list: bool
    named: str | None = None

    def may_be_answered_by(self, role: Role) -> bool:
        """The interviewer's words answer what is asked about the interviewer, and nothing else."""
        if self.is_about_interviewer:
            return role == "interviewer" or self.is_comparison
        return role != "interviewer"

    @property
    def asks_for_something(self) -> bool:
        """Whether any word says what is wanted to know."""
        return bool(set(stems(self.text_in_context)) - _MANNERS)

    @property
    def text_in_context(self) -> str:
        """The words that were embedded."""
        return " ".join((*self.earlier, self.text))

    @property
    def is_earlier(self) -> NDArray[np.bool_]:
        """Which tokens belong to earlier questions, `(q,)`."""
        begins = len(self.text_in_context) - len(self.text)
        return np.array([start < begins for start, _ in self.encoded.spans])


def check_question(text: str) -> str:
    """The question without the white space around it; `QuestionError` for a blank or endless one."""
    words = text.strip()
    try:
        words.encode("utf-8")
    except UnicodeEncodeError:
        raise QuestionError("the question is not UTF-8 text: type it anew") from None
    if not any(c.isalnum() for c in words):
        raise QuestionError("the question is blank: ask something in words, such as 'Who was not invited?'")
    if len(words) > MAX_QUESTION:
        raise QuestionError(
            f"the question has {len(words):,} characters, more than the {MAX_QUESTION:,} that are read: "
            "shorten it"
        )
    return words


def follows_on(text: str) -> bool:
    """Whether a question leans on the ones before it: a pronoun, an ellipsis, "and ...?".

    "He" and "she" are no sign of it: they mostly stand for the guest.

    >>> follows_on("And why was he unhappy about it?"), follows_on("What did Poland do to its refugees?")
    (True, False)
    """
    pronoun = _STANDS_FOR.search(text)
    is_open = pronoun is not None and not stems(text[: pronoun.start()])
    return is_open or _FOLLOWS.search(text) is not None


def asks_for_whole(text: str, history: Sequence[str] = ()) -> bool:
    """Whether a question asks what the interview is about, its topics, or a summary, and for nothing
    more special: all its words are such as say that. After other questions "the main points" may be
    those of what was talked about last, so there it has to name the interview, or a summary.

    >>> asks_for_whole("What is this interview about?"), asks_for_whole("Summarise his position.")
    (True, False)
    """
    words = set(re.findall(r"[^\W\d_]+", text.casefold().replace("tl;dr", "tldr")))
    if words - _SUMMARY - _TEXT - _TOPICS - _POINTS - _MAIN - _SPOKEN - _AROUND:
        return False
    if history:
        return bool(words & _SUMMARY or (words & {"interview", "transcript"} and words & (_SPOKEN | _TOPICS)))
    topics = words & _TOPICS or (words & _POINTS and words & (_MAIN | _TEXT))
    return bool(words & _SUMMARY or topics or (words & _TEXT and words & _SPOKEN))


def contextualise(text: str, history: Sequence[str], transcript: Transcript, encoder: Encoder) -> Question:
    """Understand a question; `QuestionError` where there is nothing to understand."""
    words = check_question(text)
    asked = _plain(words)

    def read_as(question: str) -> str:
        return corrected(_plain(question), transcript, encoder.knows_word)

    words = read_as(words)
    earlier = tuple(read_as(check_question(h)) for h in history if h.strip())[-MAX_HISTORY:]
    earlier = earlier if follows_on(words) else ()
    texts = [" ".join((*earlier, words)), words, earlier[-1]] if earlier else [words]
    encoded, *others = encoder.encode_questions(texts)
    return Question(
        asked=asked,
        text=words,
        earlier=earlier,
        encoded=encoded,
        alone=others[0] if others else None,
        previous=others[1] if others else None,
        is_about_whole=asks_for_whole(asked, history) or asks_for_whole(words, history),
        is_about_interviewer=_names_interviewer(words, transcript),
        is_comparison=_COMPARISON.search(words) is not None,
        named=next(filter(None, (_named(text, transcript) for text in (words, *reversed(earlier)))), None),
        asks_for_list=(_LIST.search(words) or _COMPARISON.search(words)) is not None,
    )


def _plain(text: str) -> str:
    """A question without HTML tags, which say nothing; all of it where nothing else is left."""
    return " ".join(re.sub(r"<[^<>]{0,500}>", " ", text).split()) or text


def _named(text: str, transcript: Transcript) -> str | None:
    """Of several speakers who are not the interviewer the one that is named, by a word of the name that
    none of the others has; `None` where it is nobody, or more than one."""
    speakers = sorted({turn.speaker for turn in transcript.turns if turn.role != "interviewer"})
    if len(speakers) < 2:
        return None
    words = Counter(word for speaker in speakers for word in _name_words(speaker))
    asked = set(re.findall(r"\w+", text.casefold()))
    named = [s for s in speakers if any(words[w] == 1 and w in asked for w in _name_words(s))]
    return named[0] if len(named) == 1 else None


def _name_words(speaker: str) -> set[str]:
    """The words of a speaker's label that are a name: not its offices, nor "will" and "may"."""
    words = set(re.findall(r"[^\W\d_]{3,}", speaker.casefold()))
    return {word for word in words - _NO_NAMES if stems(word)}


def _names_interviewer(text: str, transcript: Transcript) -> bool:
    if _INTERVIEWER.search(text):
        return True
    names = {word for speaker in transcript.speakers("interviewer") for word in _name_words(speaker)}
    return bool(names & set(re.findall(r"\w+", text.casefold())))
