"""Embeddings kept by their text, and judgements of blocks, so that nothing is read twice.

The public suites hold tens of thousands of passages. What was embedded once lies in one SQLite file
for each encoder, as half floats, which is how an index keeps its tokens as well; the first run goes
through the same rounding as the second, so both give the same figures.
"""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eval.cases import CaseError
from index.chunks import Block, Window
from index.encoder import EncodedQuestion, EncodedWindows, Encoder, Floats, Progress, file_sha256
from rag.cross import CrossEncoder, Judged

_BLOCK = 512
"""How many windows are embedded before they are written."""


class RememberingEncoder(Encoder):
    """Another encoder's embeddings; the last question's are kept, and what is asked again costs nothing."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.name = encoder.name
        self._questions: dict[str, EncodedQuestion] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the weights."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return self._encoder.dimension

    def encode_windows(self, windows: Sequence[Window], progress: Progress | None = None) -> EncodedWindows:
        """The other encoder's."""
        return self._encoder.encode_windows(windows, progress)

    def encode_questions(self, texts: Sequence[str]) -> tuple[EncodedQuestion, ...]:
        """The other encoder's, remembered for a few questions."""
        if len(self._questions) >= 16:
            self._questions.clear()
        for text in texts:
            if text not in self._questions:
                self._questions[text] = self._fresh_question(text)
        return tuple(self._questions[text] for text in texts)

    def knows_word(self, word: str) -> bool:
        """The other encoder's."""
        return self._encoder.knows_word(word)

    def _fresh_question(self, text: str) -> EncodedQuestion:
        (found,) = self._encoder.encode_questions([text])
        return found


class CachedEncoder(RememberingEncoder):
    """Another encoder's embeddings, kept in a file of `folder`."""

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        super().__init__(encoder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._store = sqlite3.connect(folder / f"{encoder.fingerprint[:16]}.sqlite", isolation_level=None)
            self._store.execute("PRAGMA journal_mode=WAL")
            self._store.execute("PRAGMA synchronous=OFF")  # what is lost is embedded again
            self._store.execute(
                "CREATE TABLE IF NOT EXISTS kept (text BLOB PRIMARY KEY, d INTEGER, places TEXT, rows BLOB)"
            )
        except (OSError, sqlite3.Error) as exc:
            raise CaseError(f"embeddings cannot be kept in {folder} ({exc}): choose another folder") from exc

    def encode_windows(self, windows: Sequence[Window], progress: Progress | None = None) -> EncodedWindows:
        """Embed the windows that were never seen, in blocks, and read the others."""
        keys = [_key("window", w.text, w.focus) for w in windows]
        fresh = [i for i, key in enumerate(keys) if self._read(key) is None]
        for first in range(0, len(fresh), _BLOCK):
            block = fresh[first : first + _BLOCK]
            found = self._encoder.encode_windows([windows[i] for i in block])
            entries = []
            for k, i in enumerate(block):
                reach = slice(found.token_starts[k], found.token_starts[k + 1])
                rows = np.vstack([found.vectors[k], found.tokens[reach]])
                entries.append((keys[i], rows, found.spots[reach].tolist()))
            self._write(entries)
            if progress:
                progress(first + len(block), len(fresh))
        kept = [row for key in keys if (row := self._read(key))]
        return EncodedWindows(
            vectors=np.stack([rows[0] for rows, _ in kept]),
            tokens=np.concatenate([rows[1:] for rows, _ in kept]),
            token_starts=np.cumsum([0, *(len(rows) - 1 for rows, _ in kept)], dtype=np.int64),
            spots=np.array([spot for _, spots in kept for spot in spots], dtype=np.int32),
        )

    def _fresh_question(self, text: str) -> EncodedQuestion:
        key = _key("question", text, ())
        kept = self._read(key)
        if kept is None:
            (found,) = self._encoder.encode_questions([text])
            self._write([(key, np.vstack([found.vector, found.tokens]), found.spans)])
            kept = self._read(key)
        if kept is None:
            raise CaseError("the file of kept embeddings cannot be read back: delete it and run again")
        rows, spans = kept
        return EncodedQuestion(vector=rows[0], tokens=rows[1:], spans=spans)

    def note(self, key: bytes) -> Any:
        """What was kept under a key, if anything was."""
        row = self._store.execute("SELECT places FROM kept WHERE text = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def keep_note(self, key: bytes, value: Any) -> None:
        """Keep something that is not an embedding."""
        self._store.execute("INSERT OR REPLACE INTO kept VALUES (?, 0, ?, ?)", (key, json.dumps(value), b""))

    def _read(self, key: bytes) -> tuple[Any, tuple[tuple[int, int], ...]] | None:
        row = self._store.execute("SELECT d, places, rows FROM kept WHERE text = ?", (key,)).fetchone()
        if row is None:
            return None
        rows = np.frombuffer(row[2], dtype=np.float16).reshape(-1, row[0]).astype(np.float32)
        return rows, tuple((a, b) for a, b in json.loads(row[1]))

    def _write(self, entries: Sequence[tuple[bytes, Floats, Any]]) -> None:
        self._store.execute("BEGIN")
        self._store.executemany(
            "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)",
            (
                (key, rows.shape[1], json.dumps(places), rows.astype(np.float16).tobytes())
                for key, rows, places in entries
            ),
        )
        self._store.execute("COMMIT")


class CachedCrossEncoder(CrossEncoder):
    """The cross-encoder that ships; what it thought of a block is kept beside the embeddings."""

    def __init__(self, kept: CachedEncoder) -> None:
        super().__init__()
        self._kept = kept
        self._fingerprint = file_sha256(self.path)

    def judge(self, question: str, blocks: Sequence[Block]) -> list[list[Judged | None]]:
        """Read the blocks that this question never met, and look up the others."""
        keys = [_key("judged", self._fingerprint, question, block.text, block.spans) for block in blocks]
        found = [self._kept.note(key) for key in keys]
        fresh = [i for i, kept in enumerate(found) if kept is None]
        if fresh:
            judged = super().judge(question, [blocks[i] for i in fresh])
            for i, judgements in zip(fresh, judged, strict=True):
                found[i] = [asdict(j) if j else None for j in judgements]
                self._kept.keep_note(keys[i], found[i])
        return [[Judged(**j) if j else None for j in kept or ()] for kept in found]


def _key(*parts: object) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()
