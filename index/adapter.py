"""Adapters: what training changed in the encoder, and the reader's own weights.

A safetensors file of 16-bit floats. A matrix `name` that was changed is stored as two factors,
`name.a (out, r)` and `name.b (r, in)`, whose product is added to the published one (low rank, after
LoRA, arXiv:2106.09685); a vector stands there whole. `encoder.` names are the encoder's own, `reader.`
the heads of late interaction (see `rag.trained`). The cross-encoder's file (`rag.cross`) is made
alike. How they were made: `training/`, and `MODEL_CARD.md` beside the file.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Tensors by name, and what belongs to them: recipe, figures, a few numbers of the reader."""

    tensors: dict[str, Array]
    metadata: dict[str, Any]

    def of(self, prefix: str) -> dict[str, Array]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def applied(self, prefix: str, published: dict[str, Array]) -> dict[str, Array]:
        """Of the `published` weights those that the tensors under `prefix` change, changed."""
        own = self.of(prefix)
        return {
            name: weight + own[f"{name}.a"] @ own[f"{name}.b"] if f"{name}.a" in own else own[name]
            for name, weight in published.items()
            if name in own or f"{name}.a" in own
        }


def adapter_path() -> Path:
    """Where the adapter lies on disk."""
    return Path(str(resources.files("index") / "data" / "adapter.safetensors"))


@cache
def shipped_adapter() -> Adapter:
    """The adapter that ships with the program, read once."""
    return read_adapter(adapter_path())


def read_adapter(path: Path) -> Adapter:
    """The adapter in a file."""
    with safe_open(path, framework="np") as stream:
        metadata = {key: _decoded(value) for key, value in stream.metadata().items()}
    return Adapter(tensors=_tensors(path), metadata=metadata)


def published_weights(folder: Path, prefix: str) -> dict[str, Array]:
    """The encoder's weights as published in `folder/model.safetensors` whose names begin with
    `prefix`, by their names without it; no others are read."""
    return _tensors(folder / "model.safetensors", prefix)


def _tensors(path: Path, prefix: str = "") -> dict[str, Array]:
    with safe_open(path, framework="np") as stream:
        names = [name for name in stream.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
        return {name.removeprefix(prefix): stream.get_tensor(name).astype(np.float32) for name in names}


def _decoded(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
