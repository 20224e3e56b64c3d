"""What the tests share: the interview, the encoder, and small real classes that stand in for it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from index.chunks import Window
from index.encoder import EncodedQuestion, EncodedWindows, Encoder, Progress
from index.transcript import Transcript, interview_path, parse_transcript, read_transcript
from rag.pipeline import Interview, open_interview

DIALOGUE = """# A talk about bridges

Anna Berg: Good morning. Why was the old bridge closed?

Tom Reed: Good morning. Its northern cable had rusted through. We closed it on the third of March.

Anna Berg: And who pays for the new one?

Tom Reed: The county pays two thirds. The ferry company pays the rest, and it complains every week.
"""


class HashEncoder(Encoder):
    """A real encoder without a model: a word's embedding is drawn from its hash, a text's is the
    mean of its words'. Texts that share words are similar, which is all that most tests need."""

    def __init__(self, dimension: int = 32) -> None:
        super().__init__("hash")
        self._dimension = dimension
        self.encoded: list[str] = []
        self.misspelt: set[str] = set()

    @property
    def dimension(self) -> int:
        return self._dimension

    def knows_word(self, word: str) -> bool:
        return word not in self.misspelt

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return f"hash-{self._dimension}"

    def encode_windows(self, windows: Sequence[Window], progress: Progress | None = None) -> EncodedWindows:
        vectors, tokens = [], []
        for number, window in enumerate(windows, 1):
            self.encoded.append(window.text)
            focus = " ".join(window.text[a:b] for a, b in window.focus)
            tokens.append(self._rows(focus))
            vectors.append(_unit(self._rows(window.text).mean(axis=0)))
            if progress:
                progress(number, len(windows))
        empty = np.empty((0, self._dimension), dtype=np.float32)
        return EncodedWindows(
            vectors=np.stack(vectors) if vectors else empty,
            tokens=np.concatenate(tokens) if tokens else empty,
            token_starts=np.cumsum([0, *map(len, tokens)], dtype=np.int64),
            spots=np.full((sum(map(len, tokens)), 2), -1, dtype=np.int32),
        )

    def encode_questions(self, texts: Sequence[str]) -> tuple[EncodedQuestion, ...]:
        return tuple(self._question(text) for text in texts)

    def _question(self, text: str) -> EncodedQuestion:
        rows = self._rows(text)
        ends = np.cumsum([len(word) + 1 for word in text.split()] or [1]).tolist()
        spans = tuple((end - 1, end) for end in ends)
        return EncodedQuestion(vector=_unit(rows.mean(axis=0)), tokens=rows, spans=spans)

    def _rows(self, text: str) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
        words = [word.strip(".,?!:;\"'“”()").casefold() for word in text.split()] or [""]
        seeds = [int.from_bytes(hashlib.sha256(w.encode("utf-8", "replace")).digest()[:4]) for w in words]
        return np.stack([_unit(np.random.default_rng(s).standard_normal(self._dimension)) for s in seeds])


def _unit(
    row: "np.ndarray[tuple[int], np.dtype[np.float64]]",
) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.asarray(row / np.linalg.norm(row), dtype=np.float32)


@pytest.fixture(scope="session")
def lavrov() -> Transcript:
    """The interview that ships with the program."""
    return read_transcript(interview_path())


@pytest.fixture
def dialogue() -> Transcript:
    """Four turns about bridges."""
    return parse_transcript(DIALOGUE, "bridges.md")


@pytest.fixture
def hash_encoder() -> HashEncoder:
    return HashEncoder()


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The encoder that ships with the program, loaded once."""
    return Encoder()


@pytest.fixture(scope="session")
def interview(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Interview:
    """The shipped interview, indexed once for all tests."""
    home: Path = tmp_path_factory.mktemp("home")
    return open_interview(home=home, encoder=encoder)
