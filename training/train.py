"""Train the reader's adapter: `python -m training.train --data DIR --out FILE`.

Stops and resumes: with `--checkpoint FILE` the state is kept after every epoch.
"""

import argparse
import json
import math
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data import ANSWERABLE, Question, Scope, training_scopes, validation_scopes
from training.evaluate import (
    calibrated,
    expected_calibration_error,
    features,
    mixed,
    probability,
    rank,
    report,
    rows,
    show,
)
from training.export import pack, unpack, write
from training.model import Batch, Reader, Upper, loss

OWN = Path(__file__).parent / "interviews"
SPAN_KINDS = frozenset(ANSWERABLE) - {"list", "compare"} | {"squad"}
SHARES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
EPOCHS_OF = {"interviews": 1.0, "squad2": 1.0, "friendsqa": 0.25, "molweni": 0.2, "qamr": 0.5, "selqa": 0.3}
"""Which share of a set is read in one epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a run is made of."""

    sets: tuple[str, ...] = ("interviews", "squad2", "friendsqa", "molweni", "qamr", "selqa")
    epochs: int = 4
    lr: float = 5e-5
    heads_lr: float = 3e-3
    frozen: int = 2
    near_weight: float = 2.0
    dense: float = 0.2
    foreign: int = 3
    most_questions: int = 96
    last_stage: float = 1.0
    last_stage_lr: float = 1.5e-4
    read_questions: int = 14
    read_sentences: int = 7
    seed: int = 0


def log(text: str) -> None:
    """A dated line on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def marks(questions: list[Question], n: int) -> tuple[Tensor, Tensor]:
    """Which sentences are gold and near, `(q, n)` each."""
    gold = torch.zeros(len(questions), n, dtype=torch.bool)
    near = torch.zeros(len(questions), n, dtype=torch.bool)
    for row, q in enumerate(questions):
        gold[row, list(q.gold)] = True
        near[row, list(q.near)] = True
    return gold, near


def read_loss(
    reader: Reader,
    recipe: Recipe,
    draw: random.Random,
    scope: Scope,
    asked: list[Question],
    q: Upper,
    s: Upper,
    logits: Tensor,
) -> Tensor:
    """Listwise loss of the last stage over the best sentences and the gold ones, with a null of 0,
    and of its short answers."""
    chosen = [i for i in range(len(asked)) if asked[i].kind != "foreign"]
    chosen = draw.sample(chosen, min(recipe.read_questions, len(chosen)))
    k = min(recipe.read_sentences, logits.shape[1])
    best = logits.topk(k, dim=1).indices.tolist()
    lists = []
    for i in chosen:
        gold = draw.sample(asked[i].gold, min(3, len(asked[i].gold)))
        lists.append((gold + [c for c in best[i] if c not in gold])[:k])
    rows = torch.tensor([i for i in chosen for _ in range(k)], device=reader.device)
    columns = torch.tensor([c for line in lists for c in line], device=reader.device)
    answer, span = reader.read(q, s, rows, columns)
    gold_of = torch.tensor(
        [[c in asked[i].gold for c in line] for i, line in zip(chosen, lists, strict=True)]
    )
    answer = answer.view(len(chosen), k)
    nothing = torch.zeros(len(chosen), device=reader.device)
    total = loss(answer, nothing, answer, gold_of, torch.zeros_like(gold_of), near_weight=1.0, dense=0.0)
    places, targets = [], []
    for row, (i, line) in enumerate(zip(chosen, lists, strict=True)):
        if asked[i].kind in SPAN_KINDS:
            for column, c in enumerate(line):
                target = reader.span_target(scope, c, asked[i].short) if c in asked[i].gold else None
                if target:
                    places.append(row * k + column)
                    targets.append(target)
    if places:
        wanted = torch.tensor(targets, device=reader.device)
        marked = span[places]
        total = total + 0.25 * (
            torch.nn.functional.cross_entropy(marked[..., 0], wanted[:, 0])
            + torch.nn.functional.cross_entropy(marked[..., 1], wanted[:, 1])
        )
    return total


def train(reader: Reader, scopes: list[Scope], recipe: Recipe, checkpoint: Path | None) -> None:
    """Minimise `loss` over the scopes, one scope a step."""
    rng = random.Random(recipe.seed)
    epochs = []
    for _ in range(recipe.epochs):
        chosen = [s for s in scopes if rng.random() < EPOCHS_OF[s.source]]
        rng.shuffle(chosen)
        epochs.append(chosen)
    total = sum(map(len, epochs))
    optimizer = torch.optim.AdamW(
        [
            {"params": reader.masters_of("encoder."), "lr": recipe.lr, "weight_decay": 0.01},
            {
                "params": reader.masters_of("interaction."),
                "lr": recipe.last_stage_lr,
                "weight_decay": 0.01,
            },
            {"params": list(reader.heads.parameters()), "lr": recipe.heads_lr, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.06 * max(1, total)), max(0.02, 1 - step / max(1, total)))
    )
    first = 0
    if checkpoint and checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        reader.load(kept["state"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        first = kept["epoch"]
    foreign = [q for s in scopes if s.source == "interviews" for q in s.questions if not q.history]
    cache: dict[str, list[Batch]] = {}
    for epoch in range(first, recipe.epochs):
        started = time.monotonic()
        sums = {"loss": 0.0}
        for number, scope in enumerate(epochs[epoch]):
            draw = random.Random(f"{recipe.seed} {epoch} {number}")
            own = list(scope.questions)
            asked = draw.sample(own, min(recipe.most_questions, len(own)))
            if scope.source == "interviews":
                outside = draw.sample(foreign, recipe.foreign)
                asked += [
                    Question(kind="foreign", text=q.text, gold=())
                    for q in outside
                    if q not in scope.questions
                ]
            if scope.name not in cache:
                cache[scope.name] = reader.windows(scope.windows())
            q, s = reader.upper(reader.questions(asked)), reader.upper(cache[scope.name])
            logits, null, cosine = reader.score(q, s)
            gold, near = (m.to(reader.device) for m in marks(asked, len(scope.sentences)))
            value = loss(logits, null, cosine, gold, near, near_weight=recipe.near_weight, dense=recipe.dense)
            if recipe.last_stage:
                read = read_loss(reader, recipe, draw, scope, asked, q, s, logits.detach())
                sums["read"] = sums.get("read", 0.0) + read.item()
                value = value + recipe.last_stage * read
            value.backward()  # type: ignore[no-untyped-call]
            reader.take_gradients()
            torch.nn.utils.clip_grad_norm_(reader.masters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            reader.refresh()
            sums["loss"] += value.item()
            if not math.isfinite(sums["loss"]):
                raise FloatingPointError(f"the loss is not finite at {scope.name}: lower the learning rate")
            if number % 10 == 9:
                parts = " ".join(f"{name} {value / 10:.3f}" for name, value in sums.items())
                seconds = time.monotonic() - started
                log(f"epoch {epoch + 1} step {number + 1}/{len(epochs[epoch])} {parts} {seconds:.0f} s")
                sums = {"loss": 0.0}
        if checkpoint:
            kept = {
                "state": reader.state(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "epoch": epoch + 1,
            }
            torch.save(kept, checkpoint)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--interviews", type=Path, default=OWN, help="folder of the invented interviews")
    parser.add_argument("--out", type=Path, required=True, help="where the weights are written")
    parser.add_argument("--checkpoint", type=Path, help="keep the state here after every epoch, and resume")
    parser.add_argument("--sets", default=",".join(Recipe().sets))
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--lr", type=float, default=Recipe().lr)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-interviews", type=int, help="train on this many interviews only")
    parser.add_argument("--dense", type=float, default=Recipe().dense)
    parser.add_argument("--last-stage", type=float, default=Recipe().last_stage)
    parser.add_argument("--start", type=Path, help="begin with these weights")
    parser.add_argument("--rank", type=int, default=96, help="rank of the stored differences")
    parser.add_argument("--near-weight", type=float, default=Recipe().near_weight)
    args = parser.parse_args()
    recipe = Recipe(
        sets=tuple(s for s in args.sets.split(",") if s),
        epochs=args.epochs,
        lr=args.lr,
        seed=args.seed,
        dense=args.dense,
        last_stage=args.last_stage,
        near_weight=args.near_weight,
    )
    torch.manual_seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader = Reader(frozen=recipe.frozen, device=device, dtype=torch.bfloat16)
    scopes = training_scopes(args.data, args.interviews, recipe.sets, recipe.seed)
    own = [s for s in scopes if s.source == "interviews"]
    scopes = [s for s in scopes if s.source != "interviews"] + own[: args.most_interviews]
    log(f"{recipe}, {len(scopes)} scopes, {sum(len(s.questions) for s in scopes)} questions, {device}")
    if args.start:
        kept = torch.load(args.start, weights_only=True)
        reader.load(kept.get("state", kept))
    train(reader, scopes, recipe, args.checkpoint)
    export(reader, recipe, args)


def export(reader: Reader, recipe: Recipe, args: argparse.Namespace) -> None:
    """Pack, measure what was packed on the held-out transcripts, calibrate, and write."""
    base = {k: v.float().cpu() for k, v in reader.base.items()}
    packed = pack(reader.state(), base, args.rank)
    reader.load(unpack(packed, base))
    table = rows(reader, validation_scopes(args.data, args.interviews))
    own = [r for r in table if r.source == "interviews"]
    share = max(
        SHARES, key=lambda s: sum(rank(mixed(r, s), r.question.gold) == 0 for r in own if r.question.gold)
    )
    sure, weights = calibrated(own)
    everyone = probability(np.asarray([features(r) for r in table], dtype=np.float32), weights)
    everyone[[r.source == "interviews" for r in table]] = sure
    answered = np.asarray([bool(r.question.gold) for r in own], dtype=np.float32)
    figures = report(table, share, everyone.tolist())
    figures["interviews"]["ece"] = expected_calibration_error(sure, answered)
    card = {
        "recipe": {**asdict(recipe), "rank": args.rank},
        "share": share,
        "confidence": weights.tolist(),
        "figures": figures,
    }
    write(args.out, packed, card)
    args.out.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    log(
        show(figures)
        + f"\nshare {share}, ECE {figures['interviews']['ece']:.3f}, confidence {weights.tolist()}"
    )


if __name__ == "__main__":
    main()
