"""Train the reader's adapter: `python -m training.train --data DIR --out FILE`.

Stops and resumes: with `--checkpoint FILE` the state is kept after every epoch.
"""

import argparse
import math
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.data import Question, Scope, training_scopes, validation_scopes
from training.evaluate import (
    report,
    rows,
    show,
)
from training.export import pack, stages, unpack, write
from training.model import Batch, Reader, loss

OWN = Path(__file__).parent / "interviews"
EPOCHS_OF = {
    "interviews": 1.0,
    "squad2": 1.0,
    "friendsqa": 0.25,
    "molweni": 0.2,
    "qamr": 0.5,
    "selqa": 0.04,
    "canard": 0.3,
}
"""Which share of a set is read in one epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a run is made of."""

    sets: tuple[str, ...] = ("interviews", "squad2", "friendsqa", "molweni", "qamr", "selqa", "canard")
    epochs: int = 4
    lr: float = 5e-5
    heads_lr: float = 3e-3
    frozen: int = 2
    near_weight: float = 2.0
    dense: float = 0.2
    foreign: int = 3
    most_questions: int = 96
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
            {"params": reader.masters.weights, "lr": recipe.lr, "weight_decay": 0.01},
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
        sums = 0.0
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
            value.backward()  # type: ignore[no-untyped-call]
            reader.masters.take_gradients()
            torch.nn.utils.clip_grad_norm_(reader.masters.weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            reader.masters.refresh()
            sums += value.item()
            if not math.isfinite(sums):
                raise FloatingPointError(f"the loss is not finite at {scope.name}: lower the learning rate")
            if number % 10 == 9:
                seconds = time.monotonic() - started
                step = f"step {number + 1}/{len(epochs[epoch])}"
                log(f"epoch {epoch + 1} {step} loss {sums / 10:.3f} {seconds:.0f} s")
                sums = 0.0
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
    parser.add_argument("--start", type=Path, help="begin with this adapter")
    parser.add_argument("--rank", type=int, default=96, help="rank of the stored differences")
    parser.add_argument("--near-weight", type=float, default=Recipe().near_weight)
    args = parser.parse_args()
    recipe = Recipe(
        sets=tuple(s for s in args.sets.split(",") if s),
        epochs=args.epochs,
        lr=args.lr,
        seed=args.seed,
        dense=args.dense,
        near_weight=args.near_weight,
    )
    torch.manual_seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader = Reader(frozen=recipe.frozen, device=device)
    scopes = training_scopes(args.data, args.interviews, recipe.sets, recipe.seed)
    own = [s for s in scopes if s.source == "interviews"]
    scopes = [s for s in scopes if s.source != "interviews"] + own[: args.most_interviews]
    log(f"{recipe}, {len(scopes)} scopes, {sum(len(s.questions) for s in scopes)} questions, {device}")
    if args.start:
        reader.load_adapter(args.start)
    train(reader, scopes, recipe, args.checkpoint)
    export(reader, recipe, args)


def export(reader: Reader, recipe: Recipe, args: argparse.Namespace) -> None:
    """Pack, measure what was packed on the held-out transcripts, and write."""
    base = {k: v.float().cpu() for k, v in reader.base.items()}
    packed = pack(reader.state(), base, args.rank)
    reader.load(unpack(packed, base))
    figures = report(rows(reader, validation_scopes(args.data, args.interviews)))
    made = stages(args.start, {**asdict(recipe), "rank": args.rank})
    write(args.out, packed, {"recipe": made, "figures": figures})
    log(show(figures))


if __name__ == "__main__":
    main()
