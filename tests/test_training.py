"""The reader's recipe: what it learns from, and that it learns, and stops and resumes."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from training.calibrate import chosen_share
from training.cross import (
    Dropout,
    Recipe,
    Trainer,
    chosen_blocks,
    export,
    late_scores,
    sentence_logits,
    train,
)
from training.data import Question, Scope, canard, make_scope, training_scopes
from training.train import EPOCHS_OF

SHIPPED = Path(str(resources.files("index"))) / "data" / "adapter.safetensors"


def scope(name: str, words: str, *questions: Question) -> Scope:
    return make_scope(
        name, "interviews", [("Ida Holm", "interviewee", s) for s in words.split("|")], questions
    )


BRIDGE = scope(
    "bridge",
    "We closed the bridge in March.|The cable had rusted.|The county pays, says Tom Reed.",
    Question(kind="why", text="Why was the bridge closed?", gold=(1,), near=(0,), short="rusted"),
    Question(kind="fact", text="Who pays?", gold=(2,), short="The county"),
    Question(kind="fact", text="What does Tom Reed say?", gold=(2,)),
    Question(kind="absent", text="Who built the bridge?", gold=(), near=(0,)),
)


def test_dropout_keeps_the_mean_and_rests_without_gradients() -> None:
    torch.manual_seed(0)
    drop, ones = Dropout(0.25), torch.ones(400, 500)
    first, second = drop(ones), drop(ones)
    assert sorted(set(first.flatten().tolist())) == pytest.approx([0.0, 1 / 0.75])
    assert float(first.mean()) == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(first, second)
    with torch.no_grad():
        assert torch.equal(drop(ones), ones)
    assert torch.equal(Dropout(0.0)(ones), ones)


def test_the_cross_encoder_learns_and_resumes_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = late_scores(SHIPPED, [BRIDGE], "cpu", None)
    assert late["bridge"].shape == (4, 3)
    recipe = Recipe(
        shares={"interviews": 1.0}, epochs=6, lr=3e-4, questions=4, blocks=1, frozen=4, dropout=0.1
    )

    def new() -> Trainer:
        torch.manual_seed(0)
        return Trainer(frozen=recipe.frozen, dropout=recipe.dropout, start=SHIPPED, device="cpu")

    whole = new()
    course = train(whole, [BRIDGE], late, recipe, None)
    assert len(course) == 6
    assert course[-1] < 0.7 * course[0]

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.cross.KEEP", 3)
    begun, resumed = new(), new()
    kept = tmp_path / "state"
    monkeypatch.setattr(begun.masters, "refresh", _after(4, begun.masters.refresh, stop))
    with pytest.raises(KeyboardInterrupt):
        train(begun, [BRIDGE], late, recipe, kept)
    assert train(resumed, [BRIDGE], late, recipe, kept) == pytest.approx(course[3:], abs=1e-4)
    for name, weight in whole.state().items():
        torch.testing.assert_close(resumed.state()[name], weight, atol=1e-5, rtol=0)


def test_a_student_becomes_like_its_teacher(tmp_path: Path) -> None:
    late = late_scores(SHIPPED, [BRIDGE], "cpu", None)
    recipe = Recipe(
        shares={"interviews": 1.0}, epochs=6, lr=3e-4, questions=4, blocks=1, frozen=4, dropout=0.0
    )
    teacher = Trainer(frozen=4, dropout=0.0, start=SHIPPED, device="cpu")
    train(teacher, [BRIDGE], late, recipe, None)
    taught = tmp_path / "teacher.safetensors"
    export(teacher.state(), teacher.base, 384, {}, taught)

    def apart(student: Trainer) -> float:
        asked = [
            (q, chosen_blocks(BRIDGE, scores, q.gold, 1, None))
            for q, scores in zip(BRIDGE.questions, late["bridge"], strict=True)
        ]
        with torch.no_grad():
            evidence, _, (wanted,), reads = student.read(BRIDGE, asked)
            both = [(sentence_logits(evidence, r), sentence_logits(wanted, r)) for r in reads]
        return float(torch.stack([(a - b).abs().mean() for a, b in both]).mean())

    student = Trainer(frozen=4, dropout=0.0, start=SHIPPED, device="cpu", teachers=[taught])
    before = apart(student)
    train(student, [BRIDGE], late, replace(recipe, taught=1.0), None)
    assert apart(student) < 0.6 * before


def test_a_file_without_heads_cannot_teach() -> None:
    with pytest.raises(ValueError, match="cannot teach: it has no heads"):
        Trainer(frozen=4, dropout=0.0, start=SHIPPED, device="cpu", teachers=[SHIPPED])


def test_the_least_share_is_chosen_that_is_not_clearly_worse() -> None:
    best = np.array([0.0] * 60 + [1.0] * 40, dtype=np.float32)
    noise, worse = best.copy(), best.copy()
    noise[[0, 60]] = 1.0, 0.0
    worse[:20] = 5.0
    assert chosen_share({0.5: worse, 1.0: noise, 2.0: best}) == 1.0
    assert chosen_share({0.5: worse, 2.0: best}) == 2.0


def test_every_set_that_may_be_named_has_its_share_of_an_epoch(tmp_path: Path) -> None:
    assert training_scopes(tmp_path, tmp_path, tuple(EPOCHS_OF), 0) == []
    with pytest.raises(ValueError, match="choose from") as refused:
        training_scopes(tmp_path, tmp_path, ("nothing",), 0)
    assert set(str(refused.value).partition("choose from ")[2].split(", ")) == set(EPOCHS_OF)


def test_canard_gives_answers_as_sentences_and_every_second_question_in_its_own_words(
    tmp_path: Path,
) -> None:
    history = ["Zappa", "Bands", "Which band?", "The Mothers. They met in 1964.", "When did it end?"]
    rows = [
        {"History": history[:2], "Question": "Which band?", "Rewrite": "Which band had Zappa?"},
        {"History": history[:4], "Question": "When did it end?", "Rewrite": "When did the band end?"},
        {"History": [*history, "CANNOTANSWER"], "Question": "Why?", "Rewrite": "Why did it end?"},
    ]
    for number, row in enumerate(rows):
        row |= {"QuAC_dialog_id": "C_1", "Question_no": number + 1}
    (tmp_path / "canard").mkdir()
    (tmp_path / "canard" / "dev.json").write_text(json.dumps(rows), encoding="utf-8")
    scopes = [*canard(tmp_path, held=False), *canard(tmp_path, held=True)]
    assert [(q.kind, q.text, q.gold, q.history) for scope in scopes for q in scope.questions] == [
        ("canard", "Which band had Zappa?", (0, 1), ()),
        ("canard-no", "When did it end?", (), ("Which band?",)),
    ]
    assert [scopes[0].words(i) for i in (0, 1)] == ["The Mothers.", "They met in 1964."]


def _after(times: int, call: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    left = iter(range(times))
    return lambda: call() if next(left, None) is not None else then()
