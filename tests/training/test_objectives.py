"""Loss terms against their formulas in plain NumPy, and what their gradients reach."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.errors import ConfigError
from hf_genret.modeling import EncoderOutput
from hf_genret.training.objectives import (
    OBJECTIVES,
    Clock,
    Context,
    CrossEntropyObjective,
    RankerObjective,
    UriObjective,
)
from hf_genret.training.objectives.ranker import Siblings

SIZES = [3, 4]
CODES = torch.tensor([[0, 1], [0, 2], [1, 0], [1, 3], [2, 2], [2, 2]])
ROWS = torch.tensor([0, 2, 5])


class Tables(torch.nn.Module):
    """Stands for a model: the logits of every query and item are given numbers."""

    def __init__(self, queries: int = 3, items: int = 6) -> None:
        super().__init__()
        make = torch.Generator().manual_seed(4)
        self.queries = torch.nn.ParameterList(
            torch.randn(queries, size, generator=make) for size in SIZES
        )
        self.items = torch.nn.ParameterList(
            torch.randn(items, size, generator=make) for size in SIZES
        )

    def encode_query(self, queries):
        return EncoderOutput(None, queries, ("queries", queries))

    def encode_items(self, items):
        return EncoderOutput(None, items, ("items", items))

    def _table(self, encoded, level):
        side, numbers = encoded.attention_mask
        return getattr(self, side)[level][numbers]

    def path_logits(self, encoded, codes):
        return [self._table(encoded, i) for i in range(min(codes.shape[1] + 1, len(SIZES)))]

    def level_logits(self, encoded, codes):
        return self._table(encoded, codes.shape[1])


def batch_of(random: list[int] | None = None) -> dict[str, Any]:
    batch: dict[str, Any] = {
        "query": {"queries": torch.arange(3)},
        "item": {"items": ROWS},
        "queries": torch.arange(3),
        "rows": ROWS,
        "sampled": {},
        "sampled_rows": {},
    }
    if random:
        more = torch.tensor(random)
        batch["sampled"]["random"], batch["sampled_rows"]["random"] = {"items": more}, more
    return batch


def context(level: int = 1, relevant: list[dict[int, float]] | None = None) -> Context:
    return Context(CODES.clone(), level, SIZES, relevant or [{int(row): 1.0} for row in ROWS])


def softmax(x: np.ndarray) -> np.ndarray:
    power = np.exp(x - x.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def cross(target: np.ndarray, p: np.ndarray) -> float:
    """Mean of H(target, p) over rows, term by term."""
    pairs = zip(target.flatten(), p.flatten(), strict=True)
    return -sum(t * math.log(q) for t, q in pairs) / len(p)


def numbers(table: torch.nn.ParameterList, level: int, rows: Any = slice(None)) -> np.ndarray:
    return softmax(table[level].detach().numpy().astype(np.float64)[rows])


WEIGHTS = {
    "a": lambda mean, k: abs(math.log(1 / k) - math.log(mean)) + 1,
    "b": lambda mean, k: abs(1 / k - math.log(mean)) + 1,
    "c": lambda mean, k: abs(1 / k - mean) + 1,
    "none": lambda mean, k: 1.0,
}


def balance(p: np.ndarray, reading: str) -> float:
    k = p.shape[1]
    return -sum(WEIGHTS[reading](m, k) * math.log(m) for m in p.mean(0)) / k


# ---- URI ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["a", "b", "c", "none"])
def test_level_one_by_hand(reading):
    """Eq. 8 to 10 with random items; Eq. 11 is empty at the first level."""
    model = Tables()
    weights = {"query": 2.0, "item": 0.5, "commitment": 0.3, "balance": 7.0}
    objective = UriObjective(context(), {**weights, "reading": reading})
    with torch.no_grad():
        terms = objective(model, batch_of([1, 1, 4]))
    query, item = numbers(model.queries, 0), numbers(model.items, 0, ROWS)
    everything = numbers(model.items, 0, [0, 2, 5, 1, 1, 4])
    assert set(terms) == {"query", "item", "commitment", "balance"}
    assert float(terms["query"]) == pytest.approx(2.0 * cross(item, query), rel=1e-5)
    assert float(terms["item"]) == pytest.approx(0.5 * cross(query, item), rel=1e-5)
    assert float(terms["commitment"]) == pytest.approx(
        0.3 * cross(everything, everything), rel=1e-5
    )
    assert float(terms["balance"]) == pytest.approx(7.0 * balance(everything, reading), rel=1e-5)


def test_random_items_take_part_in_commitment_and_balance_alone():
    """The pair terms do not see them."""
    model = Tables()
    without = UriObjective(context(), {})(model, batch_of())
    with_them = UriObjective(context(), {})(model, batch_of([3, 4, 1]))
    for name in ("query", "item"):
        assert float(without[name]) == float(with_them[name])
    for name in ("commitment", "balance"):
        assert float(without[name]) != float(with_them[name])


def test_as_many_random_items_as_asked_for():
    """One beside each positive by default; none are drawn with 0."""
    rng = np.random.default_rng(0)
    rows = np.arange(6)
    assert UriObjective(context(), {}).sample(rows, rng)["random"].shape == (6,)
    assert UriObjective(context(), {"random_items": 0.5}).sample(rows, rng)["random"].shape == (3,)
    assert UriObjective(context(), {"random_items": 0}).sample(rows, rng) == {}


def gradient(model: Tables, loss: torch.Tensor, side: str, level: int) -> float:
    model.zero_grad()
    loss.backward(retain_graph=True)
    found = getattr(model, side)[level].grad
    return 0.0 if found is None else float(found.abs().sum())


@pytest.mark.parametrize("symmetric", [True, False])
def test_detached_targets_stay_where_they_are(symmetric):
    """Detached: the items' distribution does not move towards the queries', nor the reverse."""
    model = Tables()
    terms = UriObjective(context(), {"symmetric": symmetric})(model, batch_of([1]))
    assert gradient(model, terms["query"], "queries", 0) > 0
    assert (gradient(model, terms["query"], "items", 0) > 0) == symmetric
    assert gradient(model, terms["item"], "items", 0) > 0
    assert (gradient(model, terms["item"], "queries", 0) > 0) == symmetric


def test_the_weight_of_balance_is_a_constant():
    """Eq. 10 stops the gradient at w: it is w times that of -(1/k) sum log E[p]."""
    model = Tables()
    UriObjective(context(), {"balance": 1.0})(model, batch_of())["balance"].backward()
    mean = model.items[0][ROWS].softmax(-1).mean(0)
    weight = torch.tensor([WEIGHTS["a"](float(m), 3) for m in mean])
    expected = torch.autograd.grad(-(weight * mean.log()).mean(), model.items[0])[0]
    torch.testing.assert_close(model.items[0].grad, expected)


def test_memory_is_the_likelihood_of_the_levels_above():
    """Eq. 11 at level 2: -log P of each pair's first code for both sides, nothing of level 2."""
    model = Tables()
    terms = UriObjective(context(level=2), {"memory": 3.0})(model, batch_of())
    first = CODES[ROWS, 0].tolist()
    expected = sum(
        -math.log(p[i, code])
        for p in (numbers(model.queries, 0), numbers(model.items, 0, ROWS))
        for i, code in enumerate(first)
    )
    assert float(terms["memory"]) == pytest.approx(3.0 * expected / 3, rel=1e-5)
    for side in ("queries", "items"):
        assert gradient(model, terms["memory"], side, 0) > 0
        assert gradient(model, terms["memory"], side, 1) == 0
        assert gradient(model, terms["query"], side, 0) == 0


def test_balance_by_parent():
    """Each parent's items have a balance of their own; the mean over the parents of the batch."""
    model = Tables()
    random = [1, 3, 3]
    options = {"by_parent": True, "balance": 1.0}
    terms = UriObjective(context(level=2), options)(model, batch_of(random))
    rows = np.asarray([*ROWS.tolist(), *random])
    p, parents = numbers(model.items, 1, rows), CODES[rows, 0].numpy()
    expected = np.mean([balance(p[parents == parent], "a") for parent in np.unique(parents)])
    assert float(terms["balance"]) == pytest.approx(expected, rel=1e-5)
    pooled = UriObjective(context(level=2), {"balance": 1.0})(model, batch_of(random))
    assert float(pooled["balance"]) == pytest.approx(balance(p, "a"), rel=1e-5)


def test_uri_wants_a_level_and_a_known_reading():
    """Wrong options are one sentence."""
    with pytest.raises(ConfigError, match="needs the level"):
        UriObjective(context(level=0), {})
    with pytest.raises(ConfigError, match=r"no reading of Eq\. 10; known: a, b, c, none"):
        UriObjective(context(), {"reading": "d"})
    with pytest.raises(ConfigError, match="knows no setting blance"):
        UriObjective(context(), {"blance": 1})


# ---- cross-entropy ------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    """Sums over levels of -log P(code), queries and items weighted."""
    model = Tables()
    terms = CrossEntropyObjective(context(0), {"query": 2.0, "item": 0.25})(model, batch_of())
    for side, weight, rows in (("queries", 2.0, slice(None)), ("items", 0.25, ROWS)):
        p = [numbers(getattr(model, side), level, rows) for level in (0, 1)]
        codes = CODES[ROWS].numpy()
        expected = -np.mean([sum(math.log(p[j][i, codes[i, j]]) for j in (0, 1)) for i in range(3)])
        name = {"queries": "query", "items": "item"}[side]
        assert float(terms[name]) == pytest.approx(weight * expected, rel=1e-5)


def test_a_weight_of_zero_costs_nothing():
    """The side is not even encoded."""
    model = Tables()
    model.encode_items = None  # type: ignore[assignment]
    assert set(CrossEntropyObjective(context(0), {"item": 0.0})(model, batch_of())) == {"query"}


def test_label_smoothing_spreads_the_target():
    """(1 - s) of the target on the code, s over all codes."""
    model = Tables()
    options = {"item": 0.0, "label_smoothing": 0.2}
    terms = CrossEntropyObjective(context(0), options)(model, batch_of())
    expected = 0.0
    for level, size in enumerate(SIZES):
        target = np.full((3, size), 0.2 / size)
        target[np.arange(3), CODES[ROWS, level]] += 0.8
        expected += cross(target, numbers(model.queries, level))
    assert float(terms["query"]) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_is_the_model_s_own_loss(tiny, model_on, pairs_of):
    """`forward(labels=...)` is the mean over levels, the objective the sum."""
    model, tokenizer = model_on(tiny)
    model.eval()
    data = pairs_of(tiny, model, tokenizer)
    codes = torch.stack([torch.randint(size, (60,)) for size in (4, 3)], dim=1)
    rows = torch.from_numpy(data.pair_row[:8])
    batch = {"query": data.train.batch(data.pair_query[:8]), "rows": rows}
    objective = CrossEntropyObjective(Context(codes, 0, [4, 3], []), {"item": 0.0})
    labels = codes[rows] + torch.tensor(model.config.level_offsets)
    loss = model(**batch["query"], labels=labels).loss
    assert float(objective(model, batch)["query"]) == pytest.approx(2 * float(loss), rel=1e-5)


# ---- the ranker ---------------------------------------------------------------------------


class Vectors(torch.nn.Module):
    """Stands for a model: vectors of queries and items, and a ranker."""

    def __init__(self) -> None:
        super().__init__()
        make = torch.Generator().manual_seed(6)
        self.q = torch.randn(3, 5, generator=make)
        self.d = torch.randn(6, 5, generator=make)

    def encode_query(self, queries):
        return SimpleNamespace(pooler_output=self.q[queries])

    def encode_items(self, items):
        return SimpleNamespace(pooler_output=self.d[items])

    def ranker(self, queries, items):
        product = "bd,bnd->bn" if items.ndim == 3 else "bd,nd->bn"
        return 1.7 * torch.einsum(product, queries, items)


RELEVANT = [{0: 1.0, 2: 1.0, 4: 1.0}, {2: 1.0}, {5: 1.0, 1: 2.0}]


def ranked(batch: dict[str, Any], options: dict[str, Any]) -> float:
    objective = RankerObjective(context(0, RELEVANT), options)
    return float(objective(Vectors(), batch)["ranker"])


def by_hand(negatives: list[list[int]]) -> float:
    """-log softmax of the positive among itself and the listed rows of each query."""
    model = Vectors()
    scores = 1.7 * (model.q @ model.d.T).numpy().astype(np.float64)
    losses = []
    for i, rows in enumerate(negatives):
        own = math.exp(scores[i, ROWS[i]])
        losses.append(-math.log(own / (own + sum(math.exp(scores[i, row]) for row in rows))))
    return float(np.mean(losses))


def sampled(**rows: list[int]) -> dict[str, Any]:
    batch = batch_of()
    for name, chosen in rows.items():
        batch["sampled"][name] = {"items": torch.tensor(chosen)}
        batch["sampled_rows"][name] = torch.tensor(chosen)
    return batch


def test_in_batch_negatives_without_false_ones():
    """Query 0 also wants document 2, so that it is no negative of it."""
    assert ranked(batch_of(), {}) == pytest.approx(by_hand([[5], [0, 5], [0, 2]]), rel=1e-5)


def test_shared_negatives():
    """Everyone's, but for documents relevant to the query; a repeated one counts twice."""
    found = ranked(sampled(shared=[1, 4, 3, 3]), {"in_batch": False, "shared": 4})
    assert found == pytest.approx(by_hand([[1, 3, 3], [1, 4, 3, 3], [4, 3, 3]]), rel=1e-5)


def test_own_negatives():
    """Each query has its own rows."""
    found = ranked(sampled(own=[4, 1, 2, 3, 5, 0]), {"in_batch": False, "random": 2})
    assert found == pytest.approx(by_hand([[1], [3], [0]]), rel=1e-5)


def test_softmax_over_everything():
    """Every item that is not relevant, once."""
    batch = sampled(shared=list(range(6)))
    found = ranked(batch, {"in_batch": False, "everything": True})
    expected = [[r for r in range(6) if r not in gains] for gains in RELEVANT]
    assert found == pytest.approx(by_hand(expected), rel=1e-5)


def test_a_batch_that_repeats_a_document():
    """The same document under another query of the batch is no negative either."""
    batch = batch_of()
    batch["rows"] = torch.tensor([0, 2, 2])
    batch["item"] = {"items": batch["rows"]}
    found = RankerObjective(context(0, [{0: 1.0}, {2: 1.0}, {2: 1.0}]), {})(Vectors(), batch)
    model = Vectors()
    scores = 1.7 * (model.q @ model.d.T).numpy().astype(np.float64)
    losses = [-math.log(math.exp(scores[0, 0]) / sum(np.exp(scores[0, [0, 2, 2]])))]
    losses += [-math.log(math.exp(scores[i, 2]) / sum(np.exp(scores[i, [0, 2]]))) for i in (1, 2)]
    assert float(found["ranker"]) == pytest.approx(np.mean(losses), rel=1e-5)


def test_what_the_ranker_samples():
    """Shapes by option; nothing without one; everything is every row."""
    rng = np.random.default_rng(0)
    rows = np.arange(4)
    make = lambda **options: RankerObjective(context(0), options).sample_for(rows, rows, rng)  # noqa: E731
    assert make() == {}
    assert make(everything=True)["shared"].tolist() == list(range(6))
    assert make(shared=7)["shared"].shape == (7,)
    assert make(random=9, sibling=1)["own"].shape == (40,)


def test_siblings_share_the_parent_and_not_the_leaf():
    """Same first code, other last code; anything where the parent has one leaf alone."""
    rng = np.random.default_rng(0)
    drawn = Siblings(CODES).draw(np.arange(6), 200, rng)
    assert set(drawn[0]) == {1} and set(drawn[1]) == {0}
    assert set(drawn[2]) == {3} and set(drawn[3]) == {2}
    assert set(drawn[4]) == set(range(6))  # 4 and 5 are in one leaf, their parent has no other


def test_siblings_of_larger_parents_are_drawn_evenly():
    """Against a listing of every sibling, three levels, uneven leaves."""
    rng = np.random.default_rng(1)
    codes = torch.from_numpy(rng.integers([2, 2, 3], size=(40, 3)))
    drawn = Siblings(codes).draw(np.arange(40), 400, rng)
    listed = codes.tolist()
    for row, code in enumerate(listed):
        allowed = {r for r, c in enumerate(listed) if c[:2] == code[:2] and c[2] != code[2]}
        assert set(drawn[row]) == (allowed or set(range(40)))
        if allowed:
            assert np.bincount(drawn[row], minlength=40).max() < 3 * 400 / len(allowed)


def test_objectives_have_names():
    """The names of recipes."""
    assert set(OBJECTIVES) >= {"ranker", "uri", "cross_entropy"}


# ---- what all objectives share ------------------------------------------------------------


def test_the_clock_goes_from_0_to_1():
    """Never beyond, and not by zero where a stage has no step."""
    assert [Clock(step, 4).progress for step in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    assert Clock(0, 0).progress == 0.0 and Clock(3, 0).progress == 1.0


def test_the_clock_is_set_before_every_step(trainer_at, tmp_path, monkeypatch):
    """Steps done, steps in all, epochs with their fraction."""
    stage = {"name": "s", "objective": "ranker", "train": ["adapter"], "batch_size": 16}
    seen: list[Clock] = []
    real = RankerObjective.__call__

    def note(self, model, batch):
        seen.append(self.clock)
        return real(self, model, batch)

    monkeypatch.setattr(RankerObjective, "__call__", note)
    trainer_at(tmp_path, [{**stage, "epochs": 2}]).train()
    assert [clock.step for clock in seen] == [0, 1, 2, 3, 4, 5]
    assert {clock.total for clock in seen} == {6}
    assert [clock.epoch for clock in seen] == pytest.approx([n / 3 for n in range(6)])


def test_use_is_counted_until_the_log():
    """How often each code was the most probable one, over batches, level by level."""
    objective = CrossEntropyObjective(context(0), {})
    objective.count(1, torch.tensor([0, 0, 2]))
    objective.count(1, torch.tensor([2, 2, 2]))
    objective.count(2, torch.tensor([3]))
    assert {level: n.tolist() for level, n in objective.use.items()} == {
        1: [2, 0, 4],
        2: [0, 0, 0, 1],
    }


def test_figures_are_means_since_the_last_log():
    """Noted without gradient; asked once they are gone."""
    objective = CrossEntropyObjective(context(0), {})
    value = torch.tensor(2.0, requires_grad=True)
    objective.note("distance", value)
    objective.note("distance", torch.tensor(5.0, dtype=torch.float64))
    objective.note("share", torch.tensor(True))
    assert objective.figures() == {"distance": 3.5, "share": 1.0}
    assert objective.figures() == {} and value.grad is None


def test_figures_and_use_are_logged(trainer_at, tmp_path, monkeypatch):
    """Beside the loss terms, as means and shares since the last log, two steps ago."""
    real = CrossEntropyObjective.__call__

    def note(self, model, batch):
        self.note("clock", torch.tensor(float(self.clock.step)))
        self.count(2, batch["rows"] % 2)
        return real(self, model, batch)

    monkeypatch.setattr(CrossEntropyObjective, "__call__", note)
    stage = {"name": "s", "objective": "cross_entropy", "train": ["heads"], "batch_size": 16}
    trainer = trainer_at(tmp_path, [{**stage, "epochs": 7, "before": {"ids": "random"}}])
    trainer.train()
    logs = [entry for entry in trainer.run.log[0]["history"] if "loss" in entry]
    assert len(logs) == 10
    assert [entry["clock"] for entry in logs] == [entry["step"] - 1.5 for entry in logs]
    assert all(entry["used_2"] == pytest.approx(2 / 3) for entry in logs)


def test_nothing_is_sampled_grouped_or_kept_by_default():
    """Objectives that need no more say nothing."""
    objective = CrossEntropyObjective(context(0), {})
    rows, rng = np.arange(3), np.random.default_rng(0)
    assert objective.sample_for(rows, rows, rng) == objective.sample(rows, rng) == {}
    assert objective.groups() is None and objective.state() == {}
    objective.restore({"anything": torch.zeros(1)})  # is for others


def test_what_is_sampled_may_depend_on_rows_alone():
    """`sample_for` hands the rows on to `sample`."""
    objective = UriObjective(context(), {})
    rows = np.arange(6)
    first, second = (np.random.default_rng(4) for _ in range(2))
    found = objective.sample_for(rows[::-1], rows, first)
    assert {k: v.tolist() for k, v in found.items()} == {
        k: v.tolist() for k, v in objective.sample(rows, second).items()
    }


def test_all_objectives_refuse_what_they_do_not_know():
    """One sentence with what they do."""
    for name, objective in OBJECTIVES.items():
        with pytest.raises(ConfigError, match="knows no setting nonsense; known: ") as caught:
            objective(context(), {"nonsense": 1})
        assert "\n" not in str(caught.value), name
