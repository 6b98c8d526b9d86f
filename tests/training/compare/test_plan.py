"""Which settings concern which systems, and who can share a start."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data import Queries
from hf_genret.errors import ConfigError
from hf_genret.training.compare.names import parse_systems
from hf_genret.training.compare.plan import Plan, needed_systems


def plan_of(systems, settings=(), task="text"):
    """A plan and its systems by name."""
    found = parse_systems(systems)
    return Plan(found, list(settings), task), {system.name: system for system in found}


def test_a_stages_setting_goes_to_those_who_have_the_stage():
    """Others are left as they are, and the report says so."""
    plan, systems = plan_of("uri,fixed:kmeans", ["stages.level-1.epochs=7", "bag.dim=8"])
    epochs = {stage.name: stage.epochs for stage in plan.recipe(systems["uri"]).stages}
    assert epochs["level-1"] == 7
    assert plan.recipe(systems["fixed:kmeans"]).bag.dim == 8
    assert plan.notes == ["stages.level-1.epochs=7 does not concern fixed:kmeans."]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stages.lvl.epochs=1", "Unknown stage 'lvl'"),
        ("bagg.dim=8", "did you mean 'bag'"),
        ("start_from=x", "a comparison decides 'start_from' itself"),
        ("index_from=x", "a comparison decides 'index_from' itself"),
        ("controls=[rq]", "a comparison decides 'controls' itself"),
    ],
)
def test_a_setting_that_nobody_knows_is_refused(setting, message):
    """Before anything is trained, in one sentence."""
    with pytest.raises(ConfigError, match=message):
        plan_of("uri,fixed:kmeans", [setting])


def test_a_system_that_cannot_take_ids_is_refused():
    """Before anything is trained; the recipe says why."""
    with pytest.raises(ConfigError, match="'uri' takes none"):
        plan_of("uri:index_from=fixed:rq")


def test_ids_of_another_have_their_sizes():
    """Sizes are the other's, and commands name it."""
    (system,) = parse_systems("fixed:index_from=uri@4x4")
    plan = Plan(needed_systems([system]), [], "text")
    assert plan.settings_of(system) == ["index_from=uri@4x4"]
    assert plan.recipe(system, index_from="/place").index_from == "/place"
    assert "codebook_sizes" not in plan.recipe(system).model
    assert plan.recipe(system.index_from).model["codebook_sizes"] == [4, 4]


def test_own_settings_come_last():
    """Sizes and ids of a system's name win over those for all; there are no controls."""
    plan, systems = plan_of("fixed:rq@4x4,uri", ["model.codebook_sizes=[9,9]"])
    recipe = plan.recipe(systems["fixed:rq@4x4"])
    assert recipe.model["codebook_sizes"] == [4, 4] and recipe.ids == "rq"
    assert plan.recipe(systems["uri"]).model["codebook_sizes"] == [9, 9]
    assert plan.recipe(systems["uri"]).controls == []


def test_who_starts_from_the_shared_start():
    """Those whose encoder and ranker would be trained alike; then the first stages are gone."""
    plan, systems = plan_of("uri,fixed:kmeans,dense,dense:cosine,quickstart")
    shared = {name for name, system in systems.items() if plan.shares_start(system)}
    assert shared == {"uri", "fixed:kmeans"}
    stages = [stage.name for stage in plan.recipe(systems["uri"], "somewhere").stages]
    assert "encoder" not in stages and stages[-1] == "ranker"


def test_low_rank_adapters_are_not_shared():
    """They are merged when training ends, so a start cannot be taken over."""
    plan, systems = plan_of("uri,fixed:kmeans", ["lora.r=4"])
    assert not any(plan.shares_start(system) for system in systems.values())


def test_histories_leave_out_what_was_taken():
    """As evaluate does by default; texts have no histories."""
    assert plan_of("bm25")[0].exclude_history({}) is False
    sequential = plan_of("popularity", task="sequential")[0]
    assert sequential.exclude_history({}) is True
    again = Queries(["u"], [{0: 1.0}], histories=[np.array([0])])
    assert sequential.exclude_history({"train": again}) is False
    asked = plan_of("popularity,uri-sequential", ["search.exclude_history=true"], "sequential")[0]
    assert asked.exclude_history({"train": again}) is True


def test_fusions_need_their_parts_once():
    """Parts are made whether they are listed or not."""
    systems = parse_systems("uri,uri+bm25,dense+bm25")
    assert [system.name for system in needed_systems(systems)] == ["uri", "bm25", "dense"]
    taking = parse_systems("fixed:index_from=uri+bm25,uri")
    assert [s.name for s in needed_systems(taking)] == ["uri", "fixed:index_from=uri", "bm25"]
