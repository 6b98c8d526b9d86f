"""Parts of a model that learn at rates of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hf_genret.errors import ConfigError
from hf_genret.training.curriculum import PARTS, stages_from
from hf_genret.training.freezing import freeze
from hf_genret.training.optimizer import parameter_groups

STAGE: dict[str, Any] = {
    "name": "s",
    "objective": "uri",
    "level": 1,
    "train": ["adapter", "decoder", "heads"],
    "batch_size": 16,
    "learning_rate": 0.01,
}


def names_of(model: nn.Module, group: dict[str, Any]) -> set[str]:
    wanted = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


def part_of(name: str) -> str:
    return next(part for part, prefixes in PARTS.items() if name.startswith(prefixes))


@pytest.fixture
def model(tiny, model_on):
    found, _ = model_on(tiny)
    freeze(found, STAGE["train"])
    return found


def groups_of(model: nn.Module, rates: dict[str, float], **more: Any) -> list[dict[str, Any]]:
    settings = {"learning_rate": 0.01, "weight_decay": 0.1, "decayed": []} | more
    return parameter_groups(model, rates, **settings)


def test_every_learning_parameter_is_in_one_group(model):
    """Each once; frozen ones in none."""
    groups = groups_of(model, {"heads": 3.0, "adapter": 0.1})
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_a_part_has_its_multiple_of_the_rate(model):
    """Parts that are not named learn at the stage's own rate."""
    rates = {"heads": 3.0, "adapter": 0.1}
    for group in groups_of(model, rates):
        for name in names_of(model, group):
            assert group["lr"] == pytest.approx(0.01 * rates.get(part_of(name), 1.0)), name


def test_equal_rates_share_a_group(model):
    """Two rates and no decay: two groups."""
    assert len(groups_of(model, {"heads": 2.0, "decoder": 2.0})) == 2
    assert len(groups_of(model, {"heads": 1.0})) == 1


def test_decay_is_for_those_that_decay(model):
    """Names that are given decay, their neighbours of the same part do not."""
    decayed = {name for name, p in model.named_parameters() if name.endswith(".weight")}
    groups = groups_of(model, {"heads": 2.0}, decayed=decayed)
    for group in groups:
        for name in names_of(model, group):
            assert group["weight_decay"] == (0.1 if name in decayed else 0.0), name
    assert len(groups) == 4  # two rates, with and without


def test_a_step_moves_each_part_by_its_rate(model):
    """Adam's first step is as long as its rate, whatever the gradient."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(groups_of(model, {"heads": 3.0, "adapter": 0.1}, weight_decay=0))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter).sign()
    optimizer.step()
    for name, parameter in model.named_parameters():
        moved = (parameter.detach() - before[name]).abs()
        wanted = {"heads": 0.03, "adapter": 0.001, "decoder": 0.01}.get(part_of(name), 0.0)
        torch.testing.assert_close(moved, torch.full_like(moved, wanted), rtol=1e-3, atol=1e-6)


def test_the_trainer_gives_its_optimizer_the_stage_s_rates(trainer_at, tmp_path):
    """Groups and decay as the stage says, for the parts that it trains alone."""
    stage = STAGE | {"rates": {"heads": 5.0, "ranker": 2.0}, "weight_decay": 0.2}
    trainer = trainer_at(tmp_path, [stage])
    trainer._begin(trainer.stages[0])
    optimizer = trainer.create_optimizer()
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in names_of(trainer.model, group)
    }
    assert {part_of(name) for name in found} == {"adapter", "decoder", "heads"}
    for name, (rate, decay) in found.items():
        assert rate == pytest.approx(0.05 if part_of(name) == "heads" else 0.01), name
        assert decay == (0.0 if name.endswith("bias") or "norm" in name else 0.2), name


def test_a_rate_of_zero_stands_still(trainer_at, tmp_path, weights):
    """Through a whole stage, schedule included; the other parts move."""
    trainer = trainer_at(tmp_path, [STAGE | {"rates": {"adapter": 0.0}, "max_steps": 3}])
    before = weights(trainer.model)
    trainer.train()
    moved = {
        part_of(name)
        for name, parameter in trainer.model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    assert moved == {"decoder", "heads"}


def test_without_rates_all_learn_alike(trainer_at, tmp_path):
    """transformers' own groups, one rate."""
    trainer = trainer_at(tmp_path, [STAGE])
    trainer._begin(trainer.stages[0])
    assert {group["lr"] for group in trainer.create_optimizer().param_groups} == {0.01}


def test_rates_of_parts_that_do_not_exist():
    """One sentence names those that do."""
    with pytest.raises(ConfigError, match=r"Stage 's' trains \['head'\]; known parts: encoder"):
        stages_from([STAGE | {"rates": {"head": 2.0}}])
