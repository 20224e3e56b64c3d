"""A cross-encoder as the last stage: question and passage read together by the whole encoder.

A *block* is up to five sentences of the transcript in order, with the speakers' names, read as
`[CLS] question [SEP] block [SEP]`, the question as `rag.cross.as_read` gives it. Every token of the
block gets a logit `e_t`, and a sentence the sum `log sum_t exp(e_t)` over its tokens, against 0 for
"the transcript does not say"; a span head marks the short answer in the sentence (after SQuAD 2.0's
readers, arXiv:1806.03822). It is trained listwise over all sentences of the blocks that late
interaction finds best, gold ones included; with `--teachers`, also to think of each sentence what
cross-encoders think that were trained before.

    python -m training.cross --data DIR --first ADAPTER --out FILE --checkpoint FILE

It starts from the encoder as late interaction trained it, and stops and resumes: with `--checkpoint`
the state is kept every 200 steps. `training.calibrate` comes after it.
"""

import argparse
import hashlib
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from index.chunks import Block, blocks_around, make_block
from index.encoder import PUBLISHED, Encoder, file_sha256
from index.transcript import Transcript
from rag.cross import MAX_TOKENS, as_read
from rag.vocabulary import corrected
from training.data import SPAN_KINDS, Question, Scope, training_scopes
from training.export import pack, stages, unpack, write
from training.export import read as read_adapter
from training.model import Masters, Reader, loss, published_encoder, working_dtype
from training.train import OWN, log


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a run is made of. `shares` says which share of each set's questions is read in one epoch,
    `steps` ends the training early, unless it is 0; the first `frozen` layers stay as they are, and the
    segment embeddings with them. Where there are teachers, `taught` says how much their opinion counts
    beside the gold, at which `temperature` (see `distillation`)."""

    shares: dict[str, float] = field(
        default_factory=lambda: {
            "interviews": 0.85,
            "squad2": 0.5,
            "friendsqa": 0.5,
            "qamr": 0.2,
            "selqa": 0.5,
            "canard": 1.0,
        }
    )
    epochs: int = 1
    steps: int = 0
    lr: float = 1e-4
    heads_lr: float = 1e-3
    questions: int = 8
    blocks: int = 3
    frozen: int = 0
    dropout: float = 0.1
    taught: float = 0.7
    temperature: float = 2.0
    seed: int = 0


class Dropout(nn.Module):
    """Dropout whose masks are slices, at random places, of one mask that is drawn once: to draw each
    anew takes one thread of a processor most of a step. At work wherever gradients are wanted."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        drawn = torch.rand(1 << 24, generator=torch.Generator().manual_seed(0)) >= p
        self.register_buffer("masks", drawn / (1 - p), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` with a share of `p` of its numbers zero, the others larger for it."""
        if not (self.p and torch.is_grad_enabled()):
            return hidden
        size = hidden.numel()
        masks: Tensor = self.masks  # type: ignore[assignment]
        start = int(torch.randint(len(masks) - size, ()))
        return hidden * masks[start : start + size].view_as(hidden)


KEEP = 200
"""After how many steps the state is kept."""


class CrossEncoder(nn.Module):
    """The encoder with two heads: `evidence (b, l)` of every token, and `span (b, l, 2)`."""

    def __init__(self, encoder: nn.Module, dimension: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.evidence = nn.Linear(dimension, 1)
        self.span = nn.Linear(dimension, 2)
        nn.init.normal_(self.evidence.weight, std=0.02)
        nn.init.constant_(self.evidence.bias, -5.0)

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the tokens of `ids (b, l)`, in single precision."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        return self.evidence(hidden).float().squeeze(-1), self.span(hidden).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One question's blocks as read: for each sentence its tokens' places `(row, first, last)`, and
    where each of those tokens stands in its block, `(t, 2)`."""

    question: Question
    sentences: tuple[int, ...]
    places: tuple[tuple[int, int, int], ...]
    spots: tuple[NDArray[np.int64], ...]


class Trainer:
    """The cross-encoder in training, with float32 masters of its working weights."""

    def __init__(
        self, *, frozen: int, dropout: float, start: Path, device: str, teachers: Sequence[Path] = ()
    ) -> None:
        encoder, self.tokenizer = published_encoder()
        self._knows_word = Encoder(PUBLISHED).knows_word
        drop = Dropout(dropout)
        for layer in encoder.encoder.layer[frozen:]:
            layer.attention.output.dropout = drop
            layer.output.dropout = drop
        self.base = {k: v.clone() for k, v in encoder.state_dict().items()}
        self.device = device
        self.model = CrossEncoder(encoder, encoder.config.hidden_size)
        load(self.model, start, self.base)
        self._start = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        self.model.to(device, working_dtype(device)).eval()
        encoder.embeddings.requires_grad_(False)
        encoder.embeddings.token_type_embeddings.requires_grad_(not frozen)
        encoder.encoder.layer[:frozen].requires_grad_(False)
        if encoder.pooler is not None:
            encoder.pooler.requires_grad_(False)
        self.masters = Masters((n, p) for n, p in self.model.named_parameters() if p.requires_grad)
        self.masters.load(self._start)
        self.teachers = [self._teacher(path) for path in teachers]

    def _teacher(self, path: Path) -> CrossEncoder:
        encoder, _ = published_encoder()
        teacher = CrossEncoder(encoder, encoder.config.hidden_size)
        if "evidence.weight" in load(teacher, path, self.base):
            raise ValueError(f"{path} cannot teach: it has no heads, as a cross-encoder's file does")
        return teacher.to(self.device, working_dtype(self.device)).eval()

    def as_read(self, question: Question, transcript: Transcript) -> str:
        """A question as the program's cross-encoder reads it, misspelt words mended."""
        text, *history = (
            corrected(words, transcript, self._knows_word) for words in (question.text, *question.history)
        )
        return as_read(text, history, transcript)

    def state(self) -> dict[str, Tensor]:
        """Every weight, the ones that stayed as they were included."""
        return self._start | self.masters.state()

    def read(
        self, scope: Scope, asked: Sequence[tuple[Question, Sequence[Block]]]
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Read]]:
        """Token logits `(b, l)` and `(b, l, 2)` of all blocks, the teachers' `(b, l)`, and where the
        sentences stand."""
        words = [self.as_read(q, scope.transcript) for q, _ in asked]
        pairs = [(w, b.text) for w, (_, blocks) in zip(words, asked, strict=True) for b in blocks]
        encoded = self.tokenizer(
            [a for a, _ in pairs],
            [b for _, b in pairs],
            truncation="only_second",
            max_length=MAX_TOKENS,
            padding=True,
            pad_to_multiple_of=8,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        offsets = encoded["offset_mapping"].numpy()
        types = encoded["token_type_ids"].numpy()
        evidence, span = self._logits(self.model, encoded)
        with torch.no_grad():
            taught = [self._logits(teacher, encoded)[0] for teacher in self.teachers]
        reads, row = [], 0
        for q, blocks in asked:
            sentences, places = [], []
            for b in blocks:
                own = np.flatnonzero(types[row] == 1)
                for sentence, (start, end) in zip(b.sentences, b.spans, strict=True):
                    inside = own[(offsets[row, own, 0] < end) & (offsets[row, own, 1] > start)]
                    if len(inside):
                        sentences.append(sentence)
                        places.append((row, int(inside[0]), int(inside[-1]) + 1))
                row += 1
            spots = tuple(offsets[r, a:b] for r, a, b in places)
            reads.append(Read(question=q, sentences=tuple(sentences), places=tuple(places), spots=spots))
        return evidence, span, taught, reads

    def _logits(self, model: nn.Module, encoded: Any) -> tuple[Tensor, Tensor]:
        """What a model gives for the tokens of all blocks, read in batches of like length."""
        lengths = encoded["attention_mask"].sum(1)
        order = lengths.argsort().tolist()
        parts_e, parts_s, rows = [], [], []
        while order:
            size = 1
            while size < len(order) and (size + 1) * int(lengths[order[size]]) <= 3072:
                size += 1
            part, order = order[:size], order[size:]
            length = -(-int(lengths[part[-1]]) // 8) * 8
            e, s = model(
                *(
                    encoded[k][part, :length].to(self.device)
                    for k in ("input_ids", "attention_mask", "token_type_ids")
                )
            )
            more = encoded["input_ids"].shape[1] - length
            parts_e.append(nn.functional.pad(e, (0, more)))
            parts_s.append(nn.functional.pad(s, (0, 0, 0, more)))
            rows += part
        back = torch.empty(len(rows), dtype=torch.long)
        back[torch.tensor(rows)] = torch.arange(len(rows))
        return torch.cat(parts_e)[back], torch.cat(parts_s)[back]


def sentence_logits(evidence: Tensor, read: Read) -> Tensor:
    """`(n,)`: how well each of the read sentences answers, against 0."""
    return torch.stack([evidence[r, a:b].logsumexp(0) for r, a, b in read.places])


def chosen_blocks(
    scope: Scope, late: NDArray[np.float32], gold: Sequence[int], count: int, draw: random.Random | None
) -> list[Block]:
    """The blocks around the sentences that late interaction scores best, gold ones among them."""
    best = [int(i) for i in np.argsort(-late, kind="stable")[: 3 * count]]
    wanted = list(dict.fromkeys([*gold, *best]))
    n = len(scope.sentences)
    runs = blocks_around(wanted, n, count, draw.choice((-1, 0, 1)) if draw else 0)
    return [make_block(scope.transcript, scope.sentences, first, last) for first, last in runs]


def distillation(taught: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """How far a student's sentence logits `(n,)` are from its teachers': the Kullback-Leibler divergence
    of their distributions over the sentences and the null of 0, softened by `temperature`, times its
    square (arXiv:1503.02531)."""
    both = nn.functional.pad(torch.stack([taught, logits]), (1, 0)) / temperature
    wanted, given = both.log_softmax(1)
    return temperature**2 * nn.functional.kl_div(given, wanted, log_target=True, reduction="sum")


def span_loss(scope: Scope, span: Tensor, read: Read) -> list[Tensor]:
    """Cross-entropy of the short answer's first and last token in its sentence."""
    short = read.question.short
    if not short or read.question.kind not in SPAN_KINDS:
        return []
    out = []
    for sentence, (row, first, last), spots in zip(read.sentences, read.places, read.spots, strict=True):
        at = scope.words(sentence).find(short)
        if sentence not in read.question.gold or at < 0:
            continue
        begin = int(spots[0, 0]) + at
        hits = [k for k, (a, b) in enumerate(spots) if a < begin + len(short) and b > begin]
        if hits:
            wanted = torch.tensor([hits[0], hits[-1]], device=span.device)
            out.append(nn.functional.cross_entropy(span[row, first:last].T, wanted))
    return out


def late_scores(
    adapter: Path, scopes: Sequence[Scope], device: str, checkpoint: Path | None
) -> dict[str, NDArray[np.float32]]:
    """For each scope late interaction's logits less the null's, `(questions, sentences)`; kept beside
    the checkpoint, if there is one, so that a resumed run has them at once."""
    kept = checkpoint.with_suffix(".late.npz") if checkpoint else None
    known = dict(np.load(kept)) if kept and kept.is_file() else {}
    reader = None
    source = file_sha256(adapter)
    keys = [_key(source, scope) for scope in scopes]
    for key, scope in zip(keys, scopes, strict=True):
        if key in known:
            continue
        if reader is None:
            reader = Reader(frozen=2, device=device)
            reader.load_adapter(adapter)
        with torch.inference_mode():
            windows = reader.upper(reader.windows(scope.windows()))
            logits, null, _ = reader.score(reader.upper(reader.questions(scope.questions)), windows)
            known[key] = (logits - null[:, None]).cpu().numpy()
    if kept and reader:
        np.savez(kept, **known)
    return {scope.name: known[key] for key, scope in zip(keys, scopes, strict=True)}


def _key(source: str, scope: Scope) -> str:
    """A hash of everything that late interaction's scores of a scope come from."""
    windows = [window.text for window in scope.windows()]
    questions = [" ".join((*q.history, q.text)) for q in scope.questions]
    return hashlib.sha256("\0".join((source, *windows, "", *questions)).encode()).hexdigest()


def train(
    trainer: Trainer,
    scopes: list[Scope],
    late: dict[str, NDArray[np.float32]],
    recipe: Recipe,
    checkpoint: Path | None,
) -> list[float]:
    """Minimise the listwise loss, a few questions of one scope a step; the losses of the steps."""
    rng = random.Random(recipe.seed)
    epochs: list[list[tuple[Scope, list[int]]]] = []
    for _ in range(recipe.epochs):
        steps = []
        for scope in scopes:
            share = recipe.shares[scope.source]
            asked = [i for i in range(len(scope.questions)) if rng.random() < share]
            rng.shuffle(asked)
            steps += [
                (scope, asked[k : k + recipe.questions]) for k in range(0, len(asked), recipe.questions)
            ]
        rng.shuffle(steps)
        epochs.append(steps)
    every = [step for epoch in epochs for step in epoch][: recipe.steps or None]
    total = len(every)
    named = list(zip(trainer.masters.names, trainer.masters.weights, strict=True))
    optimizer = torch.optim.AdamW(
        [
            {"params": [m for n, m in named if n.startswith("encoder.")], "lr": recipe.lr},
            {"params": [m for n, m in named if not n.startswith("encoder.")], "lr": recipe.heads_lr},
        ],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.06 * total), max(0.02, 1 - step / total))
    )
    done = 0
    if checkpoint and checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        trainer.masters.load(kept["state"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        done = kept["step"]
    started, course, marks = time.monotonic(), [], []
    for number, (scope, rows) in enumerate(every):
        if number < done:
            continue
        draw = random.Random(f"{recipe.seed} {number}")
        torch.manual_seed(draw.getrandbits(63))
        asked = []
        for i in rows:
            q = scope.questions[i]
            gold = draw.sample(q.gold, min(2, len(q.gold)))
            asked.append((q, chosen_blocks(scope, late[scope.name][i], gold, recipe.blocks, draw)))
        evidence, span, taught, reads = trainer.read(scope, asked)
        losses, spans = [], []
        for read in reads:
            scores = sentence_logits(evidence, read)[None]
            gold_of = torch.tensor([[s in read.question.gold for s in read.sentences]], device=scores.device)
            near_of = torch.tensor([[s in read.question.near for s in read.sentences]], device=scores.device)
            nothing = torch.zeros(1, device=scores.device)
            own = loss(scores, nothing, scores, gold_of, near_of, near_weight=1.5, dense=0.0)
            if taught:
                wanted = torch.stack([sentence_logits(t, read) for t in taught]).mean(0)
                soft = distillation(wanted, scores[0], recipe.temperature)
                own = (1 - recipe.taught) * own + recipe.taught * soft
            losses.append(own)
            spans += span_loss(scope, span, read)
        value = torch.stack(losses).mean()
        course.append(value.item())
        if not math.isfinite(course[-1]):
            raise FloatingPointError(f"the loss is not finite at {scope.name}: lower the learning rate")
        if spans:
            marked = torch.stack(spans).mean()
            marks.append(marked.item())
            value = value + 0.25 * marked
        value.backward()  # type: ignore[no-untyped-call]
        trainer.masters.take_gradients()
        torch.nn.utils.clip_grad_norm_(trainer.masters.weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        trainer.masters.refresh()
        if (number + 1) % 20 == 0:
            seconds = time.monotonic() - started
            last = f"loss {np.mean(course[-20:]):.3f} span {np.mean(marks[-20:] or [0]):.3f}"
            log(f"step {number + 1}/{total} {last} {seconds:.0f} s")
        if checkpoint and (number + 1) % KEEP == 0:
            kept = {
                "state": trainer.masters.state(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": number + 1,
            }
            torch.save(kept, checkpoint)
    return course


def export(
    state: dict[str, Tensor], base: dict[str, Tensor], rank: int, recipe: dict[str, Any], path: Path
) -> None:
    """Write the changed weights for the program: the encoder's under their own names, the heads as
    `head.weight (3, d)` and `head.bias (3,)`: evidence, first and last token of the short answer."""
    changed = {
        name: weight
        for name, published in base.items()
        if not torch.equal(weight := state[f"encoder.{name}"], published.float())
    }
    packed = pack(changed, {k: v.float() for k, v in base.items()}, rank)
    for part in ("weight", "bias"):
        packed[f"head.{part}"] = torch.cat([state[f"evidence.{part}"], state[f"span.{part}"]])
    write(path, packed, {"recipe": recipe})


def started_from(path: Path, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in a file: those of a cross-encoder, or of the encoder that late interaction trained."""
    packed, _ = read_adapter(path)
    state = unpack(packed, {k: v.float() for k, v in base.items()})
    heads = {}
    for part in ("weight", "bias"):
        if (both := state.pop(f"head.{part}", None)) is not None:
            heads |= {f"evidence.{part}": both[:1], f"span.{part}": both[1:]}
    return {f"encoder.{k}": v for k, v in state.items() if not k.startswith("reader.")} | heads


def load(model: CrossEncoder, path: Path, base: dict[str, Tensor]) -> list[str]:
    """Fill a model with the weights in a file, and name those that the file lacks; `ValueError` where it
    has others."""
    missing, unknown = model.load_state_dict(started_from(path, base), strict=False)
    if unknown:
        raise ValueError(f"{path} has the weights {unknown[0]!r}, which the encoder lacks")
    return missing


def main() -> None:
    """The command."""
    usual = Recipe()
    shares = ",".join(f"{name}={share}" for name, share in usual.shares.items())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--interviews", type=Path, default=OWN, help="folder of the invented interviews")
    parser.add_argument("--since", type=int, default=0, help="leave out interviews of smaller numbers")
    parser.add_argument("--first", type=Path, required=True, help="late interaction's adapter")
    parser.add_argument("--start", type=Path, help="begin with this cross-encoder, not with that adapter")
    parser.add_argument("--teachers", type=Path, nargs="*", default=[], help="learn from these as well")
    parser.add_argument("--out", type=Path, required=True, help="where the weights are written")
    parser.add_argument("--checkpoint", type=Path, help="keep the state here, and resume")
    parser.add_argument("--shares", default=shares, help="of each set's questions, read in an epoch")
    parser.add_argument("--epochs", type=int, default=usual.epochs)
    parser.add_argument("--steps", type=int, default=usual.steps, help="stop after so many, 0: do not")
    parser.add_argument("--lr", type=float, default=usual.lr)
    parser.add_argument("--blocks", type=int, default=usual.blocks)
    parser.add_argument("--frozen", type=int, default=usual.frozen, help="layers that stay as they are")
    parser.add_argument("--dropout", type=float, default=usual.dropout)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--rank", type=int, default=64, help="rank of the stored differences")
    args = parser.parse_args()
    recipe = Recipe(
        shares={k: float(v) for k, v in (part.split("=") for part in args.shares.split(","))},
        epochs=args.epochs,
        steps=args.steps,
        lr=args.lr,
        blocks=args.blocks,
        frozen=args.frozen,
        dropout=args.dropout,
        seed=args.seed,
    )
    torch.manual_seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scopes = [
        s
        for s in training_scopes(args.data, args.interviews, tuple(recipe.shares), recipe.seed)
        if s.source != "interviews" or not s.name.isdigit() or int(s.name) >= args.since
    ]
    log(f"{recipe}, {len(scopes)} scopes, {sum(len(s.questions) for s in scopes)} questions, {device}")
    late = late_scores(args.first, scopes, device, args.checkpoint)
    log("late interaction scored")
    trainer = Trainer(
        frozen=recipe.frozen,
        dropout=recipe.dropout,
        start=args.start or args.first,
        device=device,
        teachers=args.teachers,
    )
    train(trainer, scopes, late, recipe, args.checkpoint)
    made = stages(
        args.start,
        {
            **asdict(recipe),
            "since": args.since,
            "first": file_sha256(args.first),
            "teachers": [file_sha256(teacher) for teacher in args.teachers],
            "rank": args.rank,
        },
    )
    export(trainer.state(), trainer.base, args.rank, made, args.out)


if __name__ == "__main__":
    main()
