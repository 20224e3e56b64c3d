"""An index of one transcript, in memory and on disk.

On disk an index is one directory of plain files:

    manifest.json       written last, so it commits the build: format, transcript, encoder,
                        parameters, and size and SHA-256 of every file, itself included
    <build>/            transcript.txt, structure.json (turns and sentences), vectors.faiss,
                        tokens.npy, token_starts.npy, token_spots.npy, bm25/

A build writes a new `<build>` folder beside the one in use and then replaces the manifest, so a
build that is killed leaves the old index whole; a lock keeps two builds apart.
"""

import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from index import chunks as chunking
from index import lexical, sentences
from index.chunks import Chunk, Window, make_chunks, make_windows
from index.encoder import EncodedWindows, Encoder, Progress, file_sha256
from index.errors import IndexStoreError
from index.late import TokenIndex
from index.lexical import LexicalIndex
from index.sentences import Sentence, split_sentences
from index.transcript import Transcript, Turn
from index.vectors import VectorIndex

FORMAT = 1
MANIFEST = "manifest.json"
PARAMETERS: dict[str, float] = {
    "max_sentence": sentences.MAX_SENTENCE,
    "max_neighbour": chunking.MAX_NEIGHBOUR,
    "bm25_k1": lexical.K1,
    "bm25_b": lexical.B,
}
"""What an index depends on besides its transcript and its encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Everything that a question is asked of. Sentence `i`, chunk `i`, vector `i` and tokens `i`
    belong together; `fingerprint` is the encoder's."""

    transcript: Transcript
    sentences: tuple[Sentence, ...]
    chunks: tuple[Chunk, ...]
    vectors: VectorIndex
    lexical: LexicalIndex
    tokens: TokenIndex
    encoder_name: str
    fingerprint: str

    def __post_init__(self) -> None:
        n = len(self.sentences)
        if not n == len(self.chunks) == len(self.vectors) == len(self.tokens):
            raise ValueError("an index needs one chunk, one vector and some tokens for each sentence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An index, and how many of its windows had to be encoded (0: nothing had changed)."""

    index: Index
    encoded: int


def make_index(
    transcript: Transcript,
    encoder: Encoder,
    sentences: Sequence[Sentence] | None = None,
    *,
    previous: Index | None = None,
    progress: Progress | None = None,
) -> Built:
    """Index a transcript in memory, taking from `previous` the embeddings of unchanged windows."""
    found = tuple(sentences) if sentences is not None else split_sentences(transcript)
    windows = make_windows(transcript, found)
    known: dict[Window, int] = {}
    if previous and previous.fingerprint == encoder.fingerprint:
        known = {w: i for i, w in enumerate(make_windows(previous.transcript, previous.sentences))}
    fresh = [i for i, window in enumerate(windows) if window not in known]
    encoded = encoder.encode_windows([windows[i] for i in fresh], progress)
    if previous and len(fresh) < len(windows):
        encoded = _merge(windows, fresh, encoded, known, previous)
    index = Index(
        transcript=transcript,
        sentences=found,
        chunks=make_chunks(found),
        vectors=VectorIndex.build(encoded.vectors),
        lexical=LexicalIndex.build([window.text for window in windows]),
        tokens=TokenIndex(encoded.tokens.astype(np.float16), encoded.token_starts, encoded.spots),
        encoder_name=encoder.name,
        fingerprint=encoder.fingerprint,
    )
    return Built(index=index, encoded=len(fresh))


def _merge(
    windows: Sequence[Window],
    fresh: Sequence[int],
    encoded: EncodedWindows,
    known: dict[Window, int],
    previous: Index,
) -> EncodedWindows:
    rows = previous.vectors.rows()
    place = {i: k for k, i in enumerate(fresh)}
    vectors, tokens, spots = [], [], []
    for i, window in enumerate(windows):
        if i in place:
            k = place[i]
            vectors.append(encoded.vectors[k])
            reach = slice(encoded.token_starts[k], encoded.token_starts[k + 1])
            tokens.append(encoded.tokens[reach])
            spots.append(encoded.spots[reach])
        else:
            k = known[window]
            vectors.append(rows[k])
            tokens.append(previous.tokens.of(k))
            spots.append(previous.tokens.spots_of(k))
    return EncodedWindows(
        vectors=np.stack(vectors),
        tokens=np.concatenate(tokens),
        token_starts=np.cumsum([0, *map(len, tokens)], dtype=np.int64),
        spots=np.concatenate(spots),
    )


# On disk -----------------------------------------------------------------------------------


def default_home() -> Path:
    """Where indexes are kept: `$ONRECORD_HOME`, else `onrecord` in the user's cache folder."""
    if home := os.environ.get("ONRECORD_HOME"):
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onrecord"


def index_directory(path: Path, home: Path | None = None) -> Path:
    """The directory of the index of the transcript file at `path`: one for each file."""
    place = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return (home or default_home()) / f"{path.stem[:60]}-{place[:8]}"


def build_index(
    transcript: Transcript, directory: Path, encoder: Encoder, progress: Progress | None = None
) -> Built:
    """Bring the index in `directory` up to date, and open it.

    Nothing is written where nothing has changed; a damaged index is replaced. `IndexStoreError`
    where the directory belongs to somebody else or cannot be written; the old index is then whole.
    """
    if directory.exists() and (not directory.is_dir() or _is_foreign(directory)):
        raise IndexStoreError(f"{directory} exists and is not an index: choose another directory")
    try:
        previous = _if_whole(directory)
        if previous and _is_current(previous, transcript, encoder):
            return Built(index=previous, encoded=0)
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            previous = _if_whole(directory)
            if previous and _is_current(previous, transcript, encoder):
                return Built(index=previous, encoded=0)  # another build has just made it
            built = make_index(transcript, encoder, previous=previous, progress=progress)
            _write(built.index, directory)
            return built
    except OSError as exc:
        raise IndexStoreError(
            f"the index cannot be written to {directory} ({exc.strerror or exc}): free space or permit it, "
            "or set ONRECORD_HOME to another folder"
        ) from exc


def _if_whole(directory: Path) -> Index | None:
    try:
        return open_index(directory)
    except IndexStoreError:
        return None


def _is_current(index: Index, transcript: Transcript, encoder: Encoder) -> bool:
    """Whether an index is of this transcript, as it is parsed today, and by this encoder."""
    return (
        index.transcript == transcript
        and index.sentences == split_sentences(transcript)
        and index.fingerprint == encoder.fingerprint
    )


def _is_foreign(directory: Path) -> bool:
    names = {entry.name for entry in directory.iterdir()}
    return (
        bool(names - {".lock"}) and MANIFEST not in names and not any(n.startswith("build-") for n in names)
    )


def _write(index: Index, directory: Path) -> None:
    build = directory / f"build-{uuid.uuid4().hex[:12]}"
    try:
        build.mkdir()
        structure = {
            "title": index.transcript.title,
            "source": index.transcript.source,
            "turns": [asdict(turn) for turn in index.transcript.turns],
            "sentences": [(s.start, s.end, s.turn_id) for s in index.sentences],
        }
        text = index.transcript.text.encode("utf-8", "surrogatepass")
        _put(build / "transcript.txt", text)
        _put(
            build / "structure.json",
            json.dumps(structure, ensure_ascii=False).encode("utf-8", "surrogatepass"),
        )
        _put(build / "vectors.faiss", index.vectors.to_bytes())
        _put(build / "tokens.npy", _array_bytes(index.tokens.tokens))
        _put(build / "token_starts.npy", _array_bytes(index.tokens.starts))
        _put(build / "token_spots.npy", _array_bytes(index.tokens.spots))
        index.lexical.save(build / "bm25")
        files = sorted(p for p in build.rglob("*") if p.is_file())
        manifest = {
            "format": FORMAT,
            "build": build.name,
            "transcript_id": index.transcript.transcript_id,
            "encoder": index.encoder_name,
            "fingerprint": index.fingerprint,
            "parameters": PARAMETERS,
            "sentences": len(index.sentences),
            "files": {
                p.relative_to(build).as_posix(): {"bytes": p.stat().st_size, "sha256": file_sha256(p)}
                for p in files
            },
        }
        manifest["sha256"] = _manifest_sha256(manifest)
        draft = build / MANIFEST
        _put(draft, json.dumps(manifest, indent=1).encode())
        draft.replace(directory / MANIFEST)
    except BaseException:
        shutil.rmtree(build, ignore_errors=True)
        raise
    for old in directory.glob("build-*"):
        if old != build:
            shutil.rmtree(old, ignore_errors=True)


def open_index(directory: Path) -> Index:
    """Open the index in `directory`; every file of it is checked first.

    `IndexStoreError` says which file is missing or damaged, or that the index was made by another
    version of the program.
    """
    try:
        manifest = _read_manifest(directory)
        build = directory / manifest["build"]
        for name, expected in manifest["files"].items():
            if not (build / name).is_file():
                raise IndexStoreError(_damaged(directory, f"{name} is missing"))
            if (build / name).stat().st_size != expected["bytes"] or file_sha256(build / name) != expected[
                "sha256"
            ]:
                raise IndexStoreError(_damaged(directory, f"{name} has changed"))
        text = (build / "transcript.txt").read_bytes().decode("utf-8", "surrogatepass")
        structure = json.loads((build / "structure.json").read_bytes().decode("utf-8", "surrogatepass"))
        found = tuple(Sentence(start=a, end=b, turn_id=t) for a, b, t in structure["sentences"])
        return Index(
            transcript=Transcript(
                transcript_id=manifest["transcript_id"],
                title=structure["title"],
                source=structure["source"],
                text=text,
                turns=tuple(Turn(**turn) for turn in structure["turns"]),
            ),
            sentences=found,
            chunks=make_chunks(found),
            vectors=VectorIndex.from_bytes((build / "vectors.faiss").read_bytes()),
            lexical=LexicalIndex.load(build / "bm25", len(found)),
            tokens=TokenIndex(
                np.load(build / "tokens.npy", mmap_mode="r", allow_pickle=False),
                np.load(build / "token_starts.npy", allow_pickle=False),
                np.load(build / "token_spots.npy", allow_pickle=False),
            ),
            encoder_name=manifest["encoder"],
            fingerprint=manifest["fingerprint"],
        )
    except OSError as exc:
        raise IndexStoreError(f"the index in {directory} cannot be read ({exc.strerror or exc})") from exc


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise IndexStoreError(f"there is no index in {directory}: build it with 'onrecord index'")
    try:
        manifest = json.loads(path.read_bytes())
        intact = manifest.pop("sha256") == _manifest_sha256(manifest)
    except (ValueError, KeyError, AttributeError, TypeError):
        intact = False
    if not intact:
        raise IndexStoreError(_damaged(directory, f"{MANIFEST} has changed"))
    if manifest["format"] != FORMAT or manifest["parameters"] != PARAMETERS:
        raise IndexStoreError(
            f"the index in {directory} was made by another version of the program: "
            "rebuild it with 'onrecord index'"
        )
    return dict(manifest)


def _damaged(directory: Path, fact: str) -> str:
    return f"the index in {directory} is damaged ({fact}): rebuild it with 'onrecord index'"


def _put(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _array_bytes(array: "np.ndarray[Any, Any]") -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
