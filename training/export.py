"""The adapter file: what training changed, as low-rank differences from the published encoder.

A weight matrix `NAME` that was changed stands as `NAME.a (out, r)` and `NAME.b (r, in)`, to be
added as `a @ b` to the published one; biases, norms and the reader's own numbers stand whole.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def pack(state: dict[str, Tensor], base: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The best rank-`rank` differences (Eckart and Young), half precision."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        published = base.get(name)
        if published is not None and value.ndim == 2:
            u, s, v = torch.linalg.svd(value.double() - published.double(), full_matrices=False)
            root = s[:rank].sqrt()
            packed[f"{name}.a"] = (u[:, :rank] * root).half().contiguous()
            packed[f"{name}.b"] = (root[:, None] * v[:rank]).half().contiguous()
        else:
            packed[name] = value.float().contiguous() if value.numel() < 4096 else value.half().contiguous()
    return packed


def unpack(packed: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `pack`, in single precision."""
    state: dict[str, Tensor] = {}
    for name, value in packed.items():
        if name.endswith(".a"):
            key = name[:-2]
            published = base.get(key)
            if published is None:
                raise ValueError(f"{key} differs from a weight that the encoder does not have")
            state[key] = published.float() + value.float() @ packed[f"{key}.b"].float()
        elif not name.endswith(".b"):
            state[name] = value.float()
    return state


def write(path: Path, packed: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write the adapter with its metadata, JSON in the header's strings."""
    meta = {k: v if isinstance(v, str) else json.dumps(v) for k, v in card.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(packed, str(path), metadata={"base_sha256": BASE_SHA256, **meta})
    path.chmod(0o644)


def stages(start: Path | None, recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe of what a run makes: its own, after those of the file that it started from."""
    if start is None:
        return recipe
    before = json.loads(read(start)[1]["recipe"])
    earlier = [*before.pop("stages", ()), *([before] if before else ())]
    return {"stages": [*earlier, recipe]}


def rewrite(path: Path, card: dict[str, Any]) -> None:
    """Change metadata of an adapter, and leave its tensors as they are."""
    tensors, meta = read(path)
    write(path, tensors, meta | card)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """An adapter's tensors and metadata."""
    with safe_open(str(path), framework="pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, dict(file.metadata())  # noqa: SIM118
