"""The cross-encoder that ships: the whole encoder reads the question together with the transcript.

A block of up to five sentences is read as `[CLS] question [SEP] block [SEP]`, the question followed by
those of its words that the transcript never says. Every token of the block gets a logit `e_t`, and a
sentence `log sum_t exp(e_t)` over its tokens, against 0 for "not here"; a span head marks the short
answer in a sentence (after SQuAD 2.0's readers, arXiv:1806.03822). The weights are those of
all-MiniLM-L6-v2 with low-rank differences; `training/cross.py` made them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.adapter import Adapter, published_weights, read_adapter
from index.chunks import Block
from index.encoder import PUBLISHED, Encoder, Floats
from index.transcript import Transcript
from rag.reader import best_span
from rag.vocabulary import never_said

MAX_TOKENS = 320
"""Longest question and block together."""


def as_read(text: str, earlier: Sequence[str], transcript: Transcript) -> str:
    """The question as the cross-encoder reads it: after the two before it, with what the transcript
    never says, since a few places of it cannot tell."""
    question = " ".join((*earlier[-2:], text))
    unsaid = never_said(text, transcript)
    return f"{question} Never said: {', '.join(unsaid)}." if unsaid else question


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is thought of one sentence: the logit that it answers; and the likeliest short answer in
    it, `[start, end)` in its folded words, with its probability among all spans of the sentence."""

    logit: float
    start: int
    end: int
    probability: float


class CrossEncoder:
    """Reads questions and blocks together. Loading waits until the first use."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(str(resources.files("rag") / "data" / "cross_encoder.safetensors"))
        self._lock = Lock()

    @cached_property
    def adapter(self) -> Adapter:
        """The weights that training changed, and the figures that belong to them."""
        return read_adapter(self.path)

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        import torch
        from transformers import AutoConfig, AutoTokenizer, BertModel

        folder = Encoder(PUBLISHED).folder
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        model: Any = BertModel(config, add_pooling_layer=False)
        weights = published_weights(folder, "")
        weights |= self.adapter.applied("", weights)
        state = {name: torch.from_numpy(weights[name]) for name in model.state_dict()}
        model.load_state_dict(state)
        own = {name: torch.from_numpy(w) for name, w in self.adapter.of("head.").items()}
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return tokenizer, model.eval(), own

    def read(self, question: str, blocks: Sequence[Block]) -> dict[int, Judged]:
        """What is thought of the sentences of the blocks, by their positions; the better judgement of a
        sentence that stands in two. A sentence that is cut off in a long block is left out."""
        found: dict[int, Judged] = {}
        for block, judgements in zip(blocks, self.judge(question, blocks), strict=True):
            for sentence, judged in zip(block.sentences, judgements, strict=True):
                if judged and (sentence not in found or judged.logit > found[sentence].logit):
                    found[sentence] = judged
        return found

    def judge(self, question: str, blocks: Sequence[Block]) -> list[list[Judged | None]]:
        """For each block what is thought of each of its sentences; `None` where it is cut off."""
        import torch

        tokenizer, model, own = self._loaded
        with self._lock, torch.inference_mode():
            features = tokenizer(
                [question] * len(blocks),
                [block.text for block in blocks],
                truncation="longest_first",
                max_length=MAX_TOKENS,
                padding=True,
                return_offsets_mapping=True,
                return_tensors="pt",
            )
            offsets = features.pop("offset_mapping").numpy()
            hidden = model(**features).last_hidden_state
            logits = torch.nn.functional.linear(hidden, own["weight"], own["bias"]).numpy()
        of_block = features["token_type_ids"].numpy() == 1
        judgements: list[list[Judged | None]] = []
        for row, block in enumerate(blocks):
            judgements.append([])
            for start, end in block.spans:
                inside = of_block[row] & (offsets[row, :, 0] < end) & (offsets[row, :, 1] > start)
                places = np.flatnonzero(inside)
                spots = offsets[row, places] - start
                judgements[-1].append(
                    _judged(logits[row, places], spots, end - start) if len(places) else None
                )
        return judgements


def _judged(logits: Floats, offsets: NDArray[np.integer[Any]], length: int) -> Judged:
    """One sentence's tokens' logits `(t, 3)`: evidence, first and last of the short answer; `offsets
    (t, 2)` of the tokens in the `length` characters of the sentence."""
    first, last = (side - np.logaddexp.reduce(side) for side in (logits[:, 1], logits[:, 2]))
    score, span = best_span(first, last, offsets, np.ones(len(offsets), dtype=bool), (0, length))
    start, end = span or (0, length)
    return Judged(
        logit=float(np.logaddexp.reduce(logits[:, 0].astype(np.float64))),
        start=start,
        end=end,
        probability=float(np.exp(score)),
    )
