"""A run killed anywhere goes on to the weights, ids and log of an unbroken one, bit by bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from hf_genret.errors import CheckpointError
from hf_genret.training import stage_actions
from hf_genret.training.curriculum import RunState


class Killed(RuntimeError):
    """Stands for a signal."""


class KillAt(TrainerCallback):
    """Stops the process after a step of a stage, when that step's checkpoint is written."""

    def __init__(self, trainer_of: list[Any], stage: int, step: int) -> None:
        self.trainer_of, self.stage, self.step = trainer_of, stage, step

    def on_step_begin(self, args, state, control, **kwargs):
        if self.trainer_of[0].run.stage == self.stage and state.global_step == self.step:
            raise Killed


@pytest.fixture(scope="module")
def unbroken():
    """Filled by the first test that asks for the outcome of an undisturbed run."""
    return {}


def outcome(trainer: Any) -> dict[str, Any]:
    state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state |= {"codes": trainer.run.codes.clone(), "start": trainer.run.start_codes.clone()}
    log = [{k: v for k, v in entry.items() if k != "history"} for entry in trainer.run.log]
    return {"state": state, "log": log}


@pytest.fixture
def expected(unbroken, trainer_at, tmp_path):
    """The outcome of an unbroken run; computed once."""
    if not unbroken:
        trainer = trainer_at(tmp_path / "whole", save_steps=2)
        trainer.train(resume_from_checkpoint=True)
        unbroken.update(outcome(trainer))
    return unbroken


def assert_same(trainer: Any, expected: dict[str, Any]) -> None:
    found = outcome(trainer)
    assert found["log"] == expected["log"]
    assert found["state"].keys() == expected["state"].keys()
    for name, value in expected["state"].items():
        assert torch.equal(found["state"][name], value), name


def run_and_die(trainer: Any) -> None:
    with pytest.raises(Killed):
        trainer.train(resume_from_checkpoint=True)


def test_the_run_moves(expected):
    """The unbroken run trains every stage, and early stopping ends the last one before its time."""
    assert [entry["stage"] for entry in expected["log"]] == ["encoder", "level-1", "final"]
    steps = [entry["steps"] for entry in expected["log"]]
    assert steps[:2] == [4, 4] and 0 < steps[2] < 18
    assert expected["state"]["codes"].min() >= 0
    assert expected["log"][1]["leaves_changed"] > 0


@pytest.mark.parametrize(
    ("stage", "step", "save_steps"),
    [(0, 1, 1), (0, 3, 2), (1, 1, 500), (1, 3, 3), (2, 4, 3), (2, 5, 5)],
)
def test_killed_inside_a_stage(trainer_at, tmp_path, expected, stage, step, save_steps):
    """Killed between two steps, inside an epoch or at its end, with any distance of checkpoints."""
    box: list[Any] = []
    callback = KillAt(box, stage, step)
    box.append(trainer_at(tmp_path, save_steps=save_steps, callbacks=[callback]))
    run_and_die(box[0])
    trainer = trainer_at(tmp_path, save_steps=save_steps)
    trainer.train(resume_from_checkpoint=True)
    assert_same(trainer, expected)


@pytest.mark.parametrize(("action", "save_steps"), [("ids", 2), ("assign", 500), ("reassign", 3)])
def test_killed_inside_an_assignment(
    trainer_at, tmp_path, expected, monkeypatch, action, save_steps
):
    """Ids half given: the action raises after it has changed codes and heads."""
    real = stage_actions.ACTIONS[action]

    def half(shop, setting):
        real(shop, setting)
        shop.state.codes[:7] = 0
        raise Killed

    with monkeypatch.context() as patch:
        patch.setitem(stage_actions.ACTIONS, action, half)
        run_and_die(trainer_at(tmp_path, save_steps=save_steps))
    trainer = trainer_at(tmp_path, save_steps=save_steps)
    trainer.train(resume_from_checkpoint=True)
    assert_same(trainer, expected)


@pytest.mark.parametrize(
    ("border", "moment"),
    [(1, "after"), (2, "before"), (2, "between the renames"), (3, "after"), (3, "before")],
)
def test_killed_at_a_border(trainer_at, tmp_path, expected, monkeypatch, border, moment):
    """Killed when a stage is over: before, in the middle of, or after saving the border."""
    first = trainer_at(tmp_path, save_steps=2)
    real = first._save_border

    def save() -> None:
        if first.run.stage != border:
            return real()
        if moment == "after":
            real()
        elif moment == "between the renames" and border > 1:
            (tmp_path / "border").rename(tmp_path / "border.old")
        raise Killed

    monkeypatch.setattr(first, "_save_border", save)
    run_and_die(first)
    trainer = trainer_at(tmp_path, save_steps=2)
    trainer.train(resume_from_checkpoint=True)
    assert_same(trainer, expected)


@pytest.mark.parametrize("stage", [0, 2])
def test_killed_while_a_checkpoint_is_written(trainer_at, tmp_path, expected, monkeypatch, stage):
    """A folder without the run's state is no checkpoint; the one before it is still there."""
    first = trainer_at(tmp_path, save_steps=1)
    real = RunState.save

    def save(self, folder):
        if self.stage == stage and Path(folder).name == "checkpoint-3":
            raise Killed
        real(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(RunState, "save", save)
        run_and_die(first)
    names = sorted(path.name for path in (tmp_path / f"stage-{stage:02d}").iterdir())
    assert names == ["checkpoint-2", "checkpoint-3"]
    trainer = trainer_at(tmp_path, save_steps=1)
    assert Path(trainer._newest()).name == "checkpoint-2"
    trainer.train(resume_from_checkpoint=True)
    assert_same(trainer, expected)


def test_killed_again_and_again(trainer_at, tmp_path, expected):
    """Every process lives for one step."""
    for stage, step in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 3), (2, 1), (2, 3), (2, 5)]:
        box: list[Any] = []
        box.append(trainer_at(tmp_path, save_steps=1, callbacks=[KillAt(box, stage, step)]))
        run_and_die(box[0])
    trainer = trainer_at(tmp_path, save_steps=1)
    trainer.train(resume_from_checkpoint=True)
    assert_same(trainer, expected)


def test_resumed_after_the_end(trainer_at, tmp_path, expected):
    """A finished run has nothing left to do and gives the same again."""
    trainer_at(tmp_path).train(resume_from_checkpoint=True)
    trainer = trainer_at(tmp_path)
    trainer.train(resume_from_checkpoint=True)
    assert_same(trainer, expected)


def test_seconds_before_count(trainer_at, tmp_path):
    """A run that goes on knows how long it took so far."""
    box: list[Any] = []
    box.append(trainer_at(tmp_path, save_steps=1, callbacks=[KillAt(box, 1, 2)]))
    run_and_die(box[0])
    before = RunState.load(next(tmp_path.rglob("stage-01/checkpoint-2"))).earlier
    assert before > 0
    trainer = trainer_at(tmp_path, save_steps=1)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.run.earlier == before


def test_best_weights_travel(trainer_at, tmp_path, monkeypatch):
    """The best weights of before the kill win over worse ones after it."""
    from hf_genret.training import genret_trainer

    # Dev likes the weights of step 1 and nothing later.
    values = iter([0.1, 0.9, *[0.2] * 50])
    monkeypatch.setattr(genret_trainer, "dev_metrics", lambda *a, **k: {"ndcg@10": next(values)})
    box: list[Any] = []
    settings = [dict(STAGE, evaluations=6)]
    box.append(trainer_at(tmp_path, settings, save_steps=1, callbacks=[KillAt(box, 0, 3)]))
    kept: dict[str, Any] = {}

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                kept.update({n: v.clone() for n, v in kwargs["model"].named_parameters()})

    box[0].add_callback(Watch())
    run_and_die(box[0])
    trainer = trainer_at(tmp_path, settings, save_steps=1)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.run.log[0]["best_step"] == 1
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, kept[name]), name


STAGE: dict[str, Any] = {
    "name": "encoder",
    "objective": "ranker",
    "train": ["encoder", "ranker"],
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "keep_best": "ndcg@10",
}


def test_true_without_a_checkpoint_begins_anew(trainer_at, tmp_path):
    """`resume_from_checkpoint=True` in an empty folder is a fresh run."""
    trainer = trainer_at(tmp_path, [dict(STAGE, max_steps=1)])
    trainer.train(resume_from_checkpoint=True)
    assert trainer.run.stage == 1


def test_a_named_folder_without_a_state(trainer_at, tmp_path):
    """A folder that is no checkpoint of a run is one sentence."""
    with pytest.raises(CheckpointError, match="no state to resume from"):
        trainer_at(tmp_path).train(resume_from_checkpoint=str(tmp_path))


def test_finished_stages_leave_nothing_behind(trainer_at, tmp_path):
    """Only the last border stays of a finished run."""
    trainer_at(tmp_path, save_steps=1).train(resume_from_checkpoint=True)
    assert [path.name for path in tmp_path.iterdir()] == ["border"]
    shutil.rmtree(tmp_path / "border")
