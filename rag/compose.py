"""From ordered sentences to a reply: choose, attribute, complete, or abstain."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.lexical import stems
from index.store import Index
from index.transcript import Role
from rag.question import Question
from rag.reader import Reading
from rag.replies import Abstention, Answer, Hit, Quote, Reason, Reply, Statement
from rag.retrieval import Matches
from rag.vocabulary import stems_said

NEAREST = 3
"""How many near passages an abstention offers."""
UNFOUNDED = 0.05
"""The most that can be thought of an answer to a question that asks for nothing or nobody."""
NEVER_MENTIONED = 0.3
"""The most that can be thought of an answer to what is said to be never mentioned: above it, unsaid words
mostly have others in their stead."""
CONTENTS = 20
"""How many of the interviewer's questions tell what a transcript is about."""
OVERVIEW = 0.9
"""The confidence that those questions are what is wanted; set by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How much to say. `answer_from` is the probability below which the reply is an abstention; a
    further sentence is quoted when its score, a logit, is `within` so much of the best one's, up to
    `most` sentences (`most_in_list` where the question asks for several things)."""

    answer_from: float = 0.5
    within: float = 2.0
    most: int = 2
    most_in_list: int = 6


POLICY = Policy()

# A sentence that begins like this cannot be understood without the one before it.
_LEANS = re.compile(
    r"^\W*(this|that|these|those|it|its|they|them|their|he|she|his|her|such|both|neither|"
    r"the latter|the former|otherwise|probably|no|yes|of course|"
    r"and|but|or|so|because|then|only after|after all|thankfully)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    sentence: int
    score: float


def compose(
    question: Question,
    index: Index,
    matches: Matches,
    reading: Reading,
    hits: Sequence[Hit],
    policy: Policy = POLICY,
) -> Reply:
    """The answer where the reader is sure enough, else the fitting kind of no. What the interview is
    about, its interviewer's questions tell: nothing is summarised."""
    if question.is_about_whole and (contents := _contents(index)):
        return Answer(
            question=question.asked,
            read_as=question.text,
            statements=tuple(Statement(quotes=(quote,), support=OVERVIEW) for quote in contents),
            hits=tuple(hits),
            confidence=OVERVIEW,
        )
    ranked = [
        _Scored(sentence=int(matches.candidates[place]), score=float(reading.scores[place]))
        for place in np.argsort(-reading.scores, kind="stable")
    ]
    eligible = [s for s in ranked if question.may_be_answered_by(_role(index, s.sentence))]
    sure = reading.confidence
    if not eligible or not question.asks_for_something:
        # Nobody who is asked about speaks, or nothing is asked for: "Hello!", or "Why?" before all else.
        sure = min(sure, UNFOUNDED)
    if not eligible or sure < policy.answer_from:
        nearest = (eligible or ranked)[:NEAREST]
        return Abstention(
            question=question.asked,
            read_as=question.text,
            reason=_reason(question, index, sure),
            nearest=tuple(_quote(index, s.sentence, s.sentence) for s in nearest),
            hits=tuple(hits),
            confidence=sure,
        )
    chosen = _choose(question, eligible, policy)
    if question.asks_for_list:
        chosen.sort(key=lambda s: s.sentence)
    statements: list[Statement] = []
    for first, last in _runs(index, chosen):
        own = {s.sentence for s in chosen if first <= s.sentence <= last}
        quote = _quote(index, first, last)
        if any(quote == earlier.quotes[0] for earlier in statements):
            continue
        statements.append(
            Statement(
                quotes=(quote,),
                support=reading.confidence,
                short_answer=next((q for s, q in reading.short_answers.items() if s in own), None),
            )
        )
    return Answer(
        question=question.asked,
        read_as=question.text,
        statements=tuple(statements),
        hits=tuple(hits),
        confidence=reading.confidence,
    )


def _contents(index: Index) -> list[Quote]:
    """What the interviewer asks, in order: of each turn the sentences from its first question to its
    last, and the one before, which says what it is about, unless that is a greeting; the longest
    `CONTENTS` where there are more."""
    asked: dict[int, list[int]] = {}
    words = [index.transcript.text[s.start : s.end] for s in index.sentences]
    for i, sentence in enumerate(index.sentences):
        if _role(index, i) == "interviewer" and re.search("[?？؟]", words[i]):
            asked.setdefault(sentence.turn_id, []).append(i)
    quotes = []
    for first, *others in asked.values():
        leads = first > 0 and _same_turn(index, first - 1, first) and len(words[first - 1].split()) > 3
        quotes.append(_quote(index, first - leads, [first, *others][-1]))
    longest = sorted(quotes, key=lambda q: q.start - q.end)[:CONTENTS]
    return sorted(longest, key=lambda q: q.start)


def _role(index: Index, sentence: int) -> Role:
    return index.transcript.turns[index.sentences[sentence].turn_id].role


def _choose(question: Question, eligible: Sequence[_Scored], policy: Policy) -> list[_Scored]:
    most = policy.most_in_list if question.asks_for_list else policy.most
    return [s for s in eligible[:most] if s.score >= eligible[0].score - policy.within]


def _runs(index: Index, chosen: Sequence[_Scored]) -> list[tuple[int, int]]:
    """Spans of sentences to quote, in the order of `chosen`: each with the sentence before it where
    it leans on that one, neighbours joined."""
    runs: list[tuple[int, int]] = []
    for scored in chosen:
        first = last = scored.sentence
        words = index.transcript.text[index.sentences[first].start : index.sentences[first].end]
        if _LEANS.match(words) and first > 0 and _same_turn(index, first - 1, first):
            first -= 1
        for k, (a, b) in enumerate(runs):
            if first <= b + 1 and last >= a - 1 and _same_turn(index, a, last):
                runs[k] = (min(a, first), max(b, last))
                break
        else:
            runs.append((first, last))
    return runs


def _same_turn(index: Index, a: int, b: int) -> bool:
    return index.sentences[a].turn_id == index.sentences[b].turn_id


def _quote(index: Index, first: int, last: int) -> Quote:
    return Quote(
        transcript_id=index.transcript.transcript_id,
        start=index.sentences[first].start,
        end=index.sentences[last].end,
    )


def _reason(question: Question, index: Index, sure: float) -> Reason:
    """Which kind of no. A name that is never said, or a fifth of the question's words, and hardly a
    chance of an answer: never mentioned. Every word is said: raised, but not answered. Else something
    near is said."""
    asked = set(stems(question.text))
    said = stems_said(index.transcript)
    names = {s for word in re.findall(r"(?<=\w )[A-Z]\w+", question.text) for s in stems(word)}
    unsaid = asked - said
    if sure < NEVER_MENTIONED and (names & unsaid or len(unsaid) > len(asked) / 5):
        return "never_mentioned"
    return "low_confidence" if unsaid else "not_answered"
