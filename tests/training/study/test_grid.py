"""The grid: every cell has a recipe that loads, and equal trainings are shared."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from hf_genret.errors import ConfigError
from hf_genret.training.compare.plan import START, Plan
from hf_genret.training.study.grid import (
    DENSE,
    FACTORS,
    GENERATIVE,
    make_cells,
    make_grid,
    shared_settings,
)
from hf_genret.training.study.values import FULL, QUICK

ALL = tuple(FACTORS)


@cache
def cells_of(values=QUICK, factors=ALL, settings=(), recipe="uri", seeds=1):
    """Cells for 1,400 documents, and the plan of their trainings."""
    grid = make_grid(recipe, values, settings, 1400)
    cells = make_cells(grid, factors, seeds, settings)
    systems = list({cell.trained.name: cell.trained for cell in cells}.values())
    return cells, Plan(systems, shared_settings(values, settings), "text")


@pytest.mark.parametrize("values", [FULL, QUICK])
def test_every_cell_has_a_recipe(values):
    """With the budget's steps in each stage that has one, and without pseudo-queries of its own."""
    cells, plan = cells_of(values)
    assert len({cell.slug for cell in cells}) == len(cells)
    assert {cell.factor for cell in cells} == set(FACTORS)
    for cell in cells:
        recipe = plan.recipe(cell.trained)
        assert recipe.queries.pseudo == 0 and recipe.stages
        for stage in recipe.stages:
            assert f"stages.{stage.name}.max_steps={stage.max_steps}" in values.settings


def test_what_dense_training_alone_changes_needs_no_other_generative_one():
    """A line of reference shares the training of the whole corpus."""
    cells, _ = cells_of()
    trained = {cell.training for cell in cells if cell.line == GENERATIVE}
    names = Counter(name for _, _, name in trained)
    assert names == {"uri": 3, "uri-32x1": 1}  # three sizes of the corpus, one other decoder
    for factor in ("dim", "negatives", "hardness", "similarity"):
        (own,) = [c for c in cells if c.factor == factor and c.line == GENERATIVE]
        assert own.label == "reference" and own.value is None
        assert own.training == (1.0, 0, "uri")


def test_generative_cells_start_from_dense_training():
    """So do hard negatives, which are a stage after it; other negatives are that training."""
    cells, plan = cells_of()
    shared = {cell.trained.name for cell in cells if plan.shares_start(cell.trained)}
    assert shared == {"uri", "uri-32x1", "ids-rq", *(f"dense-hard{n}of8" for n in (0, 4, 8))}


def test_numbers_of_negatives_and_their_hardness():
    """K random ones; a share of eight."""
    cells, plan = cells_of(FULL)
    options = {
        (cell.factor, cell.label): plan.recipe(cell.trained).stages[-1].options
        for cell in cells
        if cell.line == DENSE and cell.factor in ("negatives", "hardness")
    }
    assert options["negatives", "31"] == {"in_batch": False, "random": 31}
    assert options["negatives", "in-batch"] == {"in_batch": True}
    assert options["hardness", "0.25"] == {"in_batch": False, "random": 6, "hard": 2}
    values = {cell.label: cell.value for cell in cells if cell.factor == "negatives"}
    assert values["127"] == 127 and values["in-batch"] == 255


def test_the_default_is_marked_once_a_line():
    """Where a factor has it."""
    cells, _ = cells_of(FULL)
    found = Counter((cell.factor, cell.line) for cell in cells if cell.baseline)
    lines = {(cell.factor, cell.line) for cell in cells}
    without = {("hardness", DENSE), *(("ids", n) for n in ("atomic", "title", "rq", "kmeans"))}
    without |= {("zero_shot", DENSE), ("zero_shot", GENERATIVE)}
    assert set(found) == lines - without and set(found.values()) == {1}
    (own,) = [cell for cell in cells if cell.factor == "beams" and cell.baseline and cell.beams]
    assert own.label == str(own.beams) == "42"


def test_the_users_settings_win():
    """Over the budget; a decoder's default is what they say, and seeds repeat all."""
    settings = ("stages.final.max_steps=7", "model.decoder_dim=32", "model.decoder_layers=1")
    cells, plan = cells_of(factors=("decoder",), settings=settings, seeds=2)
    steps = {s.name: s.max_steps for s in plan.recipe(cells[0].trained).stages}
    assert steps["final"] == 7 and steps["level-1"] == 50
    assert [cell.label for cell in cells if cell.baseline] == ["32 x 1", "1 map"] * 2
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4


def test_another_generative_system():
    """Its ids are the learned ones."""
    cells, plan = cells_of(factors=("ids", "corpus"), recipe="asi++")
    learned = next(cell for cell in cells if cell.label == "learned")
    assert plan.recipe(learned.trained).name == "asi++"
    assert not any(cell.trained.name.startswith("uri") for cell in cells)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factors": ("negativs",)}, "did you mean 'negatives'"),
        ({"recipe": "dense"}, "a recipe with ids was expected"),
        ({"recipe": "bm25"}, "a recipe with ids was expected"),
        ({"recipe": "urii"}, "did you mean 'uri'"),
        ({"settings": ("stages.finall.max_steps=1",)}, "Unknown stage 'finall'"),
        ({"settings": ("controls=[rq]",)}, "decides 'controls' itself"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments, message):
    """Before anything is trained."""
    with pytest.raises(ConfigError, match=message):
        cells_of(**{"factors": ("corpus",), **arguments})


def test_the_start_is_the_dense_system():
    """The name by which comparisons share it."""
    cells, _ = cells_of(factors=("corpus",))
    assert {cell.trained for cell in cells if cell.line == DENSE} == {START}
