"""Ask an interview.

    >>> from rag.pipeline import open_interview
    >>> interview = open_interview()
    >>> reply = interview.ask("When will the summit for democracy take place?")

A question is contextualised, matched against every passage, read, and answered with quotes or
declined. Nothing found is a value as well: an `Abstention` with its reason.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from index.encoder import DEFAULT_ENCODER, Encoder, Progress
from index.errors import IndexStoreError
from index.sentences import Sentence
from index.store import Index, build_index, index_directory, make_index, open_index
from index.transcript import Transcript, interview_path, read_transcript
from rag.compose import POLICY, Policy, compose
from rag.question import contextualise
from rag.reader import LateReader, Reader
from rag.replies import Hit, Quote, Reply, Timings
from rag.retrieval import WEIGHTS, Weights, best_hits, match
from rag.trained import TrainedReader

HITS = 10


class Interview:
    """A transcript that can be asked: its index, the encoder that made it, and a reader."""

    def __init__(
        self, index: Index, encoder: Encoder, *, reader: Reader | None = None, policy: Policy = POLICY
    ) -> None:
        self.index = index
        self.encoder = encoder
        trained = index.encoder_name == DEFAULT_ENCODER
        self.reader: Reader = reader or (TrainedReader() if trained else LateReader())
        self.policy = policy

    @property
    def transcript(self) -> Transcript:
        """The transcript that is asked."""
        return self.index.transcript

    def ask(self, question: str, history: Sequence[str] = (), *, k: int = HITS) -> Reply:
        """Answer a question, after the earlier questions of the conversation, oldest first.

        `k` is the number of hits returned beside the answer, as the reader orders them.
        `QuestionError` for a blank question or an endless one.
        """
        started = perf_counter()
        asked = contextualise(question, history, self.transcript, self.encoder)
        matches = match(self.index, asked)
        retrieved = perf_counter()
        reading = self.reader.read(asked, self.index, matches)
        hits = best_hits(self.index, asked, matches, k, reading.scores)
        reply = compose(asked, self.index, matches, reading, hits, self.policy)
        ended = perf_counter()
        timings = Timings(
            retrieve=(retrieved - started) * 1000,
            read=(ended - retrieved) * 1000,
            total=(ended - started) * 1000,
        )
        return replace(reply, timings_ms=timings)

    def search(
        self, question: str, history: Sequence[str] = (), *, k: int = HITS, weights: Weights = WEIGHTS
    ) -> tuple[Hit, ...]:
        """The `k` best passages, best first, without reading them."""
        asked = contextualise(question, history, self.transcript, self.encoder)
        return best_hits(self.index, asked, match(self.index, asked, weights), k)

    def rank(self, question: str, history: Sequence[str] = ()) -> tuple[tuple[Sentence, float], ...]:
        """The candidate sentences that may answer, with the reader's scores, best first, ties by
        position."""
        asked = contextualise(question, history, self.transcript, self.encoder)
        matches = match(self.index, asked)
        scores = self.reader.read(asked, self.index, matches).scores
        ordered = [int(i) for i in np.argsort(-scores, kind="stable")]
        sentences = [(self.index.sentences[int(matches.candidates[i])], float(scores[i])) for i in ordered]
        turns = self.transcript.turns
        return tuple(
            (sentence, score)
            for sentence, score in sentences
            if asked.may_be_answered_by(turns[sentence.turn_id].role)
        )

    def words(self, quote: Quote) -> str:
        """A quote's words, as they are shown."""
        return self.transcript.words(quote.start, quote.end)


def open_interview(
    path: Path | None = None,
    *,
    home: Path | None = None,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
) -> Interview:
    """Open a transcript to ask it, by default the interview that ships with the program.

    Its index is kept in `home` (default: see `index.store.default_home`), built the first time and
    brought up to date when the transcript has changed.
    """
    path = path or interview_path()
    encoder = encoder or Encoder()
    built = build_index(read_transcript(path), index_directory(path, home), encoder, progress)
    return Interview(built.index, encoder)


def open_directory(directory: Path, *, encoder: Encoder | None = None) -> Interview:
    """Open an index directory as it is; `IndexStoreError` where another encoder made it."""
    index = open_index(directory)
    encoder = encoder or Encoder(index.encoder_name)
    if encoder.fingerprint != index.fingerprint:
        raise IndexStoreError(
            f"the index in {directory} was made by the encoder {index.encoder_name!r}, "
            f"not by {encoder.name!r}: name that one, or rebuild the index"
        )
    return Interview(index, encoder)


def interview_of(transcript: Transcript, encoder: Encoder | None = None) -> Interview:
    """A transcript indexed in memory; nothing is written."""
    encoder = encoder or Encoder()
    return Interview(make_index(transcript, encoder).index, encoder)
