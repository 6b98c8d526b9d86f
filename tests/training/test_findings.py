"""Collapse is never silent: warnings of a run, its log and its report."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from hf_genret.training import api
from hf_genret.training.curriculum import RunState
from hf_genret.training.objectives import OBJECTIVES, CrossEntropyObjective
from hf_genret.training.recipes import load_recipe

IDS: dict[str, Any] = {
    "name": "ids",
    "objective": "cross_entropy",
    "train": ["decoder", "heads"],
    "batch_size": 16,
    "max_steps": 4,
    "epochs": 2,
    "before": {"ids": "kmeans"},
}


class Collapsing(CrossEntropyObjective):
    """Says that every item's most probable code of level 1 is the same, until told otherwise."""

    even = False

    def __call__(self, model, batch):
        spread = batch["rows"] % 4
        self.count(1, spread if self.even else torch.zeros_like(spread))
        return super().__call__(model, batch)


@pytest.fixture(autouse=True)
def collapsing(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "collapsing", Collapsing)
    monkeypatch.setattr(Collapsing, "even", False)


@pytest.fixture
def said(caplog) -> Any:
    """The warnings of a run so far."""
    caplog.set_level(logging.WARNING)

    def lines() -> list[str]:
        name = "hf_genret.training.genret_trainer"
        return [record.getMessage() for record in caplog.records if record.name == name]

    return lines


def figures(stage: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(found["figure"], found["level"]) for found in stage["warnings"]]


# ---- what is found ------------------------------------------------------------------------


def test_codes_that_nobody_takes_are_a_warning(trainer_at, tmp_path, said):
    """One code of four between two logs: share and entropy, with figures and what to try."""
    trainer = trainer_at(tmp_path, [IDS | {"objective": "collapsing"}])
    trainer.train()
    assert figures(trainer.run.log[0]) == [("share_used", 1), ("entropy", 1)]
    share, entropy = said()
    assert "1/1 ids: Level 1 uses 1 of 4 possible codes (25 %, at least 50 %" in share
    assert "start the codes at clusters" in share and "0.00 of the entropy" in entropy


def test_each_figure_is_said_once_a_stage(trainer_at, tmp_path, said):
    """However many logs see it; the next stage says it again."""
    stages = [
        IDS | {"objective": "collapsing", "max_steps": 6, "epochs": 3},
        IDS | {"objective": "collapsing", "name": "again", "before": {}},
    ]
    trainer = trainer_at(tmp_path, stages)
    trainer.train()
    logs = [entry for entry in trainer.run.log[0]["history"] if "used_1" in entry]
    assert len(logs) > 2 and all(entry["used_1"] == 0.25 for entry in logs)
    assert [figures(stage) for stage in trainer.run.log] == [
        [("share_used", 1), ("entropy", 1)]
    ] * 2
    assert [line[:3] for line in said()] == ["1/2", "1/2", "2/2", "2/2"]


def test_a_healthy_run_says_nothing(trainer_at, tmp_path, said, stage_settings, monkeypatch):
    """Ids, assignment, EM and cross-entropy on them; codes counted evenly."""
    monkeypatch.setattr(Collapsing, "even", True)
    stage_settings[2]["objective"] = "collapsing"
    stage_settings[1]["learning_rate"] = 0.0  # as the heads were started
    trainer = trainer_at(tmp_path, stage_settings)
    trainer.train()
    assert [stage["warnings"] for stage in trainer.run.log] == [[], [], []] and not said()


def test_an_assignment_that_collapses(trainer_at, tmp_path, said):
    """Everything at its most probable code, which is the same for all: every figure of it."""
    stage = IDS | {"after": {"assign": "argmax"}, "learning_rate": 0.0, "before": {}}
    stage |= {"objective": "uri", "level": 1}
    trainer = trainer_at(tmp_path, [stage, {**stage, "name": "two", "level": 2}])
    with torch.no_grad():
        for level, centres in enumerate(trainer.model.heads.centres):
            centres.normal_()
            trainer.model.heads.residuals[level].bias.copy_(100 * centres[1])
    trainer.train()
    found = trainer.run.log[1]["warnings"]
    assert len(trainer.run.codes.unique(dim=0)) == 1
    expected = {
        (figure, level) for figure in ("share_used", "entropy", "balance") for level in (1, 2)
    }
    expected |= {("bucket", None)}
    # With 12 possible ids for 60 documents nobody needs an id of his own.
    assert {(f["figure"], f["level"]) for f in found} == expected
    bucket = next(f for f in found if f["figure"] == "bucket")
    assert "One id holds 60 of 60 documents" in bucket["message"] and bucket["value"] > 0.9


def test_displaced_documents_are_a_warning(trainer_at, tmp_path, said):
    """All want one code and three quarters are moved: that is said, balance is fine."""
    stage = IDS | {"after": {"assign": "exact"}, "learning_rate": 0.0, "before": {}}
    trainer = trainer_at(tmp_path, [stage | {"objective": "uri", "level": 1}])
    with torch.no_grad():
        trainer.model.heads.centres[0].normal_()
        trainer.model.heads.residuals[0].bias.copy_(100 * trainer.model.heads.centres[0][1])
    trainer.train()
    found = [f for f in trainer.run.log[0]["warnings"] if f["figure"] == "displaced"]
    assert [(f["level"], f["value"]) for f in found] == [(1, 0.75)]
    assert any("75 % of the documents did not get their most probable code" in s for s in said())


def test_ids_shared_without_need(trainer_at, tmp_path, said, monkeypatch):
    """Given ids are looked at too: one second code below every first one."""
    from hf_genret.training import given

    def bad(shop: Any) -> Any:
        codes = given.random_codes(60, [8, 16], seed=0)
        codes[:, 1] = 0
        return codes

    monkeypatch.setitem(given.GIVEN, "random", bad)
    stage = IDS | {"before": {"ids": "random"}}
    trainer = trainer_at(tmp_path, [stage], model={"codebook_sizes": [8, 16]})
    trainer.train()
    found = dict.fromkeys(figures(trainer.run.log[0]))
    assert ("duplicates", None) in found and ("share_used", 2) in found
    assert ("share_used", 1) not in found
    assert any("share an id without need" in line for line in said())


# ---- what is uneven by design -------------------------------------------------------------


def test_running_numbers_are_no_collapse(trainer_at, tmp_path, said):
    """The level that tells documents of a bucket apart is mostly 0."""
    stage = IDS | {"before": {"ids": "kmeans", "disambiguate": True}}
    trainer = trainer_at(tmp_path, [stage], model={"codebook_sizes": [6, 5, 30]})
    trainer.train()
    assert trainer.run.codes[:, 2].max() < 4 and not said()
    assert len(trainer.run.codes.unique(dim=0)) == 60


def test_words_of_titles_are_no_collapse(trainer_at, tmp_path, said):
    """Ids that the data decide: words are as frequent as they are; whole ids are looked at."""
    codes = torch.stack([torch.arange(60), torch.zeros(60, dtype=torch.long)], dim=1)
    trainer = trainer_at(tmp_path, [IDS | {"before": {"ids": "title"}}], given=codes)
    trainer.train()
    assert trainer.run.log[0]["warnings"] == [] and not said()
    codes = torch.zeros(60, 2, dtype=torch.long)
    trainer = trainer_at(tmp_path / "2", [IDS | {"before": {"ids": "title"}}], given=codes)
    trainer.train()
    assert figures(trainer.run.log[0]) == [("duplicates", None), ("bucket", None)]


@pytest.fixture
def trainer_at(trainer_at):
    """`trainer_at`, with ids that the data decide where `given` is set."""

    def make(folder: Any, stages: Any, *args: Any, given: Any = None, **kwargs: Any) -> Any:
        if given is not None:
            kwargs["model"] = {"codebook_sizes": [60, 60]}
        trainer = trainer_at(folder, stages, *args, **kwargs)
        if given is not None:
            trainer.data.given = trainer.run.codes = given
        return trainer

    return make


# ---- what is kept -------------------------------------------------------------------------


class Killed(RuntimeError):
    """Stands for a signal."""


class KillAt(TrainerCallback):
    """Stops the process before a step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise Killed


def test_warnings_survive_an_interruption(trainer_at, tmp_path, said):
    """Those of before the kill are in the log, and nobody hears them twice."""
    stage = IDS | {"objective": "collapsing"}
    first = trainer_at(tmp_path, [stage], save_steps=2, callbacks=[KillAt()])
    with pytest.raises(Killed):
        first.train(resume_from_checkpoint=True)
    assert len(said()) == 2
    Collapsing.even = True  # nothing more to find
    again = trainer_at(tmp_path, [stage], save_steps=2)
    again.train(resume_from_checkpoint=True)
    assert figures(again.run.log[0]) == [("share_used", 1), ("entropy", 1)] and len(said()) == 2


def test_findings_are_part_of_the_state(tmp_path):
    """Saved and loaded; a fresh state has none."""
    state = RunState.fresh(5, 2)
    assert state.findings == []
    state.findings = [{"figure": "balance", "level": 2, "value": 0.1, "message": "Uneven."}]
    state.save(tmp_path)
    assert RunState.load(tmp_path).findings == state.findings


SMALL = ["bag={vocab_size: 300, dim: 16}", "queries.pseudo=1", "search.beam_weights=[0.0]"]


def short(*settings: str) -> list[str]:
    out = [*SMALL, *settings, "model.decoder_dim=16", "model.decoder_heads=2"]
    for stage in load_recipe("fixed", settings).stages:
        for name, value in (("max_steps", 2), ("batch_size", 32), ("evaluations", 1)):
            out.append(f"stages.{stage.name}.{name}={value}")
    return out


def test_the_report_carries_them(tmp_path, small_folder, said):
    """All stages' warnings in one list, in the report and in the checkpoint's training.json."""
    file = tmp_path / "ids.tsv"
    lines = [f"d{row}\t{row % 3}-{row // 3 % 9}" for row in range(79)]  # 27 ids
    file.write_text("\n".join([*lines, "d79\t40-2"]))  # of 41 x 9
    report = api.train(small_folder, "fixed", tmp_path / "out", short(f"ids=file:{file}"))
    training = json.loads((tmp_path / "out" / "training.json").read_text())
    (found,) = training["warnings"]
    assert found == report["warnings"][0] and found["figure"] == "duplicates"
    assert [stage["warnings"] for stage in training["stages"]] == [[], [found], [], []]
    assert len(said()) == 1 and found["message"] in said()[0]


def test_a_healthy_report_has_none(tmp_path, small_folder, said):
    """k-means ids from beginning to end."""
    report = api.train(small_folder, "fixed", tmp_path / "out", short())
    assert report["warnings"] == [] and not said()
    training = json.loads((tmp_path / "out" / "training.json").read_text())
    assert training["warnings"] == []
