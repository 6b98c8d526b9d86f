"""Hard negatives: mined before a stage, drawn at a ratio, kept over an interruption."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_genret.data import Queries
from hf_genret.encoding import pooled_vectors
from hf_genret.errors import ConfigError
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.objectives import Context, RankerObjective
from hf_genret.training.recipes import load_recipe
from hf_genret.training.stage_actions import perform
from hf_genret.training.workshop import Workshop

STAGE: dict[str, Any] = {
    "name": "hard",
    "objective": "ranker",
    "train": ["encoder", "adapter", "ranker"],
    "batch_size": 16,
    "epochs": 3,
    "learning_rate": 5e-3,
    "before": {"mine": {"depth": 5, "skip": 1}},
    "options": {"hard": 2, "random": 2, "in_batch": False},
}


@pytest.fixture
def shop_of(model_on, pairs_of):
    """A workshop on data with an untrained encoder and some ranker."""

    def make(data: Any, **settings: Any) -> Workshop:
        model, tokenizer = model_on(data, **settings)
        with torch.no_grad():
            for parameter in model.ranker.similarity.parameters():
                parameter.normal_(std=0.5)
        stage = stages_from([STAGE])[0]
        return Workshop(model, pairs_of(data, model, tokenizer), RunState.fresh(60, 2), stage, 0)

    return make


def mined(shop: Workshop, **setting: int) -> list[list[int]]:
    perform(shop, {"mine": setting})
    return shop.state.objective["hard"].tolist()


def ranking(shop: Workshop) -> np.ndarray:
    """Every document by its score for every query, best first, one pair at a time."""
    queries = pooled_vectors(shop.model, shop.data.train)
    items = pooled_vectors(shop.model, shop.data.items)
    scores = np.zeros((len(queries), len(items)))
    with torch.no_grad():
        for i, query in enumerate(queries):
            for j, item in enumerate(items):
                scores[i, j] = float(shop.model.ranker(query[None], item[None])[0, 0])
    return np.argsort(-scores, axis=1, kind="stable")


# ---- mining -------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["dot", "cosine", "bilinear", "low_rank"])
@pytest.mark.parametrize(("depth", "skip"), [(4, 0), (7, 3)])
def test_the_highest_that_are_wrong(shop_of, tiny, similarity, depth, skip):
    """By brute force, whatever the similarity; the first ranks are passed over."""
    shop = shop_of(tiny, ranker_similarity=similarity)
    found = mined(shop, depth=depth, skip=skip)
    relevant = shop.data.train.queries.relevant
    for query, order in enumerate(ranking(shop)):
        wrong = [row for row in order.tolist() if row not in relevant[query]]
        assert found[query] == wrong[skip : skip + depth], query


def test_many_right_answers_are_all_left_out(shop_of, tiny):
    """A query with half of the corpus as answers has the other half as negatives."""
    best = ranking(shop_of(tiny))[0, :30].tolist()
    queries = tiny.splits["train"]
    wanted = [dict.fromkeys(best, 1.0), *queries.relevant[1:]]
    tiny.splits["train"] = Queries(queries.ids, wanted, queries.texts)
    shop = shop_of(tiny)
    found = mined(shop, depth=10)
    assert set(found[0]).isdisjoint(best)
    assert found[0] == ranking(shop)[0, 30:40].tolist()


@pytest.mark.parametrize("skip", [0, 30])
def test_too_few_wrong_ones_are_repeated(shop_of, tiny, skip):
    """Never a right answer, even where all wrong ones would be passed over."""
    queries = tiny.splits["train"]
    wanted = [dict.fromkeys(range(56), 1.0), *queries.relevant[1:]]
    tiny.splits["train"] = Queries(queries.ids, wanted, queries.texts)
    shop = shop_of(tiny)
    found = mined(shop, depth=10, skip=skip)
    wrong = [row for row in ranking(shop)[0].tolist() if row >= 56]
    assert found[0] == (wrong * 3)[:10]


def test_mining_twice_gives_the_same(shop_of, tiny):
    """Nothing random in it."""
    shop = shop_of(tiny)
    assert mined(shop, depth=8) == mined(shop, depth=8)


# ---- what batches hold --------------------------------------------------------------------

TABLE = torch.arange(8)[:, None] * 100 + torch.arange(6)[None, :]  # [queries, depth]


def objective(**options: Any) -> RankerObjective:
    context = Context(torch.zeros(1000, 2, dtype=torch.long), 0, [1, 1], [{}] * 8)
    found = RankerObjective(context, options)
    found.restore({"hard": TABLE})
    return found


@pytest.mark.parametrize(("hard", "random"), [(1, 0), (3, 1), (2, 6), (5, 5)])
def test_the_ratio_is_that_of_the_options(hard, random):
    """hard / (hard + random) of each query's own negatives are its own mined ones."""
    rng = np.random.default_rng(0)
    queries, rows = np.asarray([5, 0, 7]), np.asarray([1, 2, 3])
    own = objective(hard=hard, random=random).sample_for(queries, rows, rng)["own"]
    own = own.reshape(3, hard + random)
    for query, drawn in zip(queries, own, strict=True):
        assert set(drawn[random:]) <= set(TABLE[query].tolist())
    other = objective(hard=hard, random=random, shared=4).sample_for(queries, rows, rng)
    assert len(other["own"]) == 3 * (hard + random) and len(other["shared"]) == 4


def test_all_mined_ones_take_their_turn():
    """Drawn evenly from the whole depth."""
    rng = np.random.default_rng(0)
    queries = np.full(600, 3)
    drawn = objective(hard=1).sample_for(queries, queries, rng)["own"]
    counts = np.bincount(drawn - 300, minlength=6)
    assert len(counts) == 6 and counts.min() > 70


def test_without_the_option_mined_ones_are_left_alone():
    """Asked for none, none come."""
    rng = np.random.default_rng(0)
    rows = np.arange(4)
    assert objective().sample_for(rows, rows, rng) == {}
    assert (objective(random=2).sample_for(rows, rows, rng)["own"] < 1000).all()


def test_not_mined_is_said_at_the_start(trainer_at, tmp_path):
    """One sentence says what to put before the stage."""
    with pytest.raises(ConfigError, match=r"Hard negatives have to be mined first \(before"):
        trainer_at(tmp_path, [{**STAGE, "before": {}}]).train()


def test_the_recipe_s_hard_stage_is_half_hard():
    """`dense:hard`: as many mined as random ones, found after the first stage."""
    names = [stage.name for stage in load_recipe("dense").stages]
    stage = load_recipe("dense:hard").stages[1]
    assert names == ["encoder"] and stage.name == "hard"
    assert stage.options["hard"] == stage.options["random"] > 0
    assert stage.before["mine"]["depth"] >= stage.options["hard"]


# ---- through a training -------------------------------------------------------------------


def test_a_stage_draws_from_what_it_mined(trainer_at, tmp_path, monkeypatch):
    """Every batch: two random and two of the query's own five, none of them relevant."""
    trainer = trainer_at(tmp_path, [STAGE])
    seen: list[SimpleNamespace] = []
    real = trainer.compute_loss

    def note(model, inputs, *args, **kwargs):
        own = inputs["sampled_rows"]["own"].view(-1, 4)[:, 2:]
        table = trainer.objective.state()["hard"]
        seen.append(SimpleNamespace(own=own, table=table[inputs["queries"]], rows=inputs["rows"]))
        return real(model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "compute_loss", note)
    trainer.train()
    assert len(seen) == 9
    for batch in seen:
        assert (batch.own[:, :, None] == batch.table[:, None, :]).any(-1).all()
        assert (batch.own != batch.rows[:, None]).all()


def test_the_table_does_not_outlive_its_stage(trainer_at, tmp_path):
    """The next stage would draw from what an older encoder found."""
    later = {**STAGE, "name": "later", "before": {}, "options": {"random": 1}}
    trainer = trainer_at(tmp_path, [{**STAGE, "max_steps": 1}, {**later, "max_steps": 1}])
    trainer.train()
    assert trainer.run.objective == {} and trainer.objective.state() == {}


class Killed(RuntimeError):
    """Stands for a signal."""


class KillAt(TrainerCallback):
    """Stops the process before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Killed


@pytest.mark.parametrize(("step", "save_steps"), [(1, 500), (4, 3), (7, 2)])
def test_killed_with_hard_negatives(trainer_at, tmp_path, step, save_steps):
    """Resumed from before the stage or from inside it: bit-equal weights, the table as it was.

    Inside, the encoder has moved since the mining, so that mining again would find others.
    """
    whole = trainer_at(tmp_path / "whole", [STAGE], save_steps=save_steps)
    whole.train()
    first = trainer_at(tmp_path / "run", [STAGE], save_steps=save_steps, callbacks=[KillAt(step)])
    with pytest.raises(Killed):
        first.train(resume_from_checkpoint=True)
    again = trainer_at(tmp_path / "run", [STAGE], save_steps=save_steps)
    again.train(resume_from_checkpoint=True)
    assert torch.equal(again.objective.state()["hard"], whole.objective.state()["hard"])
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def test_state_of_an_objective_is_in_its_checkpoint(tmp_path):
    """Tensors by name, beside the ids; a state without any has none."""
    state = RunState.fresh(5, 2)
    state.objective = {"hard": TABLE, "mean": torch.tensor([0.25, 0.75])}
    state.save(tmp_path)
    found = RunState.load(tmp_path)
    assert set(found.objective) == {"hard", "mean"}
    assert all(torch.equal(found.objective[name], v) for name, v in state.objective.items())
    state.objective = {}
    state.save(tmp_path)
    assert RunState.load(tmp_path).objective == {}
