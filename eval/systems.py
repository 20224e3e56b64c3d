"""What is measured, behind the one protocol of `eval.runner`: the program itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.cache import RememberingEncoder
from eval.spans import Span
from index.store import Index
from index.transcript import Transcript
from rag.pipeline import Interview
from rag.question import Question, contextualise
from rag.reader import Reader, Reading
from rag.replies import reply_as_dict
from rag.retrieval import WEIGHTS, Matches, Weights, match

RETRIEVAL: dict[str, Weights] = {
    "BM25": Weights(bm25=1, dense=0, late=0),
    "dense": Weights(bm25=0, dense=1, late=0),
    "hybrid": Weights(bm25=1, dense=1, late=0),
    "late interaction": WEIGHTS,
}
"""The rungs below the reader. The last one is retrieval as the program does it."""


class _RememberingReader:
    """Another reader; its last reading is kept, so that an answered question is ranked at no cost."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._last: tuple[tuple[str, tuple[str, ...]], Reading] | None = None

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:
        """The other reader's."""
        key = (question.text, question.earlier)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._reader.read(question, index, matches))
        return self._last[1]


class InterviewSystem:
    """An interview that can be asked, as the `System` that cases are run through."""

    def __init__(self, interview: Interview) -> None:
        # Rankings embed each question once for all rungs, and read as the answer before them did;
        # answers are timed as a user gets them.
        reader = _RememberingReader(interview.reader)
        encoder = RememberingEncoder(interview.encoder)
        self._interview = Interview(
            interview.index, interview.encoder, reader=reader, policy=interview.policy
        )
        self._ranking = Interview(interview.index, encoder, reader=reader, policy=interview.policy)
        self._place = {(s.start, s.end): i for i, s in enumerate(interview.index.sentences)}
        self.sentences = tuple(Span(s.start, s.end) for s in interview.index.sentences)
        self.windows = tuple(Span(c.start, c.end) for c in interview.index.chunks)

    @property
    def transcript(self) -> Transcript:
        """The transcript that is asked."""
        return self._interview.transcript

    def answer(self, question: str, history: Sequence[str]) -> dict[str, Any]:
        """The object that `onrecord ask --json` prints."""
        return reply_as_dict(self.transcript, self._interview.ask(question, history))

    def rank(self, rung: str, question: str, history: Sequence[str]) -> list[int]:
        """Positions of sentences, best first, by one rung of the ladder."""
        if rung == "reader":
            return [self._place[s.start, s.end] for s, *_ in self._ranking.rank(question, history)]
        asked = contextualise(question, history, self.transcript, self._ranking.encoder)
        matches = match(self._ranking.index, asked, RETRIEVAL[rung])
        order = np.argsort(-matches.chunk_scores, kind="stable")
        return [int(i) for i in matches.candidates[order]]
