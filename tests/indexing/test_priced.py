"""Assignment of more items than memory holds: the same loads, nearly the same sums."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest

from hf_genret.indexing import bounded, scratch
from hf_genret.indexing.capacity import Method, assign, assign_within
from hf_genret.indexing.codes import hierarchical_kmeans
from hf_genret.indexing.kmeans import Clusters, balanced_kmeans
from hf_genret.indexing.priced import priced_codes
from hf_genret.indexing.scratch import RowsOf, ScratchMatrix
from hf_genret.indexing.transport import exact_codes

BUDGET = 640  # cells: ten rows of 64 codes

KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "independent": lambda rng, n, k: rng.standard_normal((n, k)),
    "skewed": lambda rng, n, k: rng.standard_normal((n, k)) - 0.1 * np.arange(k),
    "low rank": lambda rng, n, k: rng.standard_normal((n, 6)) @ rng.standard_normal((6, k)),
    "many queries": lambda rng, n, k: (
        rng.standard_normal((n, 6)) @ rng.standard_normal((6, k)) * rng.geometric(0.1, (n, 1))
    ),
    "few kinds": lambda rng, n, k: rng.standard_normal((9, k))[rng.integers(0, 9, n)],
    "all alike": lambda rng, n, k: np.repeat(rng.standard_normal((1, k)), n, axis=0),
}


def log_p(kind: str, n: int, k: int, seed: int = 0) -> np.ndarray:
    scores = KINDS[kind](np.random.default_rng(seed), n, k)
    scores -= scores.max(axis=1, keepdims=True)
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


def total(scores: np.ndarray, codes: np.ndarray) -> float:
    return float(scores[np.arange(len(scores)), codes].astype(np.float64).sum())


def watched(scores: np.ndarray) -> tuple[RowsOf, list[int]]:
    """Costs by rows, and the cells of each request."""
    sizes: list[int] = []

    def cost_of(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows) * scores.shape[1])
        return -scores[rows]

    return cost_of, sizes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that every problem here exceeds."""
    monkeypatch.setattr(scratch, "BUDGET", BUDGET)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["argmax", "greedy"])
def test_rules_by_blocks_give_the_same_codes(
    kind: str, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each item is looked at once, in its turn: the whole matrix is the reference."""
    scores = log_p(kind, 1003, 16)
    parents = np.random.default_rng(1).integers(0, 3, 1003)
    whole = assign(scores, method=method), assign_within(scores, parents, method=method)
    monkeypatch.setattr(scratch, "BUDGET", BUDGET)
    with ScratchMatrix(1003, 16) as matrix:
        matrix.put(np.arange(1003), scores)
        found = assign(matrix, method=method), assign_within(matrix, parents, method=method)
    for one, other in zip(whole, found, strict=True):
        assert np.array_equal(one.codes, other.codes) and one.displaced == other.displaced


def test_sinkhorn_by_blocks_is_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scaling ends at columns within 0.1 %, wherever it started."""
    scores = log_p("low rank", 2000, 16)
    whole = assign(scores, method="sinkhorn").codes
    monkeypatch.setattr(scratch, "BUDGET", BUDGET)
    found = assign(scores, method="sinkhorn").codes
    assert np.bincount(found).tolist() == [125] * 16
    assert (found == whole).mean() > 0.98


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "k"), [(1500, 16), (1011, 32), (300, 64), (20, 64)])
@pytest.mark.usefixtures("small")
def test_loads_are_kept_and_the_bound_holds(kind: str, n: int, k: int) -> None:
    """Floor or ceil for every code; the optimum lies between the sum and the bound."""
    scores = log_p(kind, n, k)
    best = total(scores, exact_codes(-scores)[0])
    codes, _, gap = priced_codes(watched(scores)[0], n, k)
    loads = np.bincount(codes, minlength=k)
    assert codes.dtype == np.int32
    assert loads.min() >= n // k and loads.max() <= -(-n // k)
    slack = 1e-6 * abs(best)
    assert -slack <= best - total(scores, codes) <= gap + slack


@pytest.mark.parametrize("kind", ["skewed", "low rank", "many queries", "all alike"])
@pytest.mark.usefixtures("small")
def test_the_sum_is_near_the_optimum(kind: str) -> None:
    """Of what the capacity costs at all, at most 1.5 % more is lost."""
    scores = log_p(kind, 4000, 32)
    free, best = float(scores.max(axis=1).sum()), total(scores, exact_codes(-scores)[0])
    assert total(scores, assign(scores).codes) >= best - 0.015 * (free - best)


@pytest.mark.parametrize("kind", ["skewed", "all alike"])
@pytest.mark.usefixtures("small")
def test_no_request_is_above_the_budget(kind: str) -> None:
    """Samples, blocks and repairs alike."""
    cost_of, sizes = watched(log_p(kind, 1500, 64))
    priced_codes(cost_of, 1500, 64)
    assert max(sizes) <= BUDGET


@pytest.mark.parametrize("method", ["argmax", "greedy", "exact", "sinkhorn"])
def test_no_array_is_above_the_budget(
    small: None, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the rule and the parent, a matrix hands out at most so many cells."""
    sizes: list[int] = []
    take = ScratchMatrix.take

    def watched_take(self: ScratchMatrix, rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows) * self.shape[1])
        return take(self, rows)

    monkeypatch.setattr(ScratchMatrix, "take", watched_take)
    scores = log_p("skewed", 900, 64)
    assign(scores, method=method)
    assign_within(scores, np.arange(900) % 40, method=method)
    assert 0 < max(sizes) <= BUDGET


@pytest.mark.usefixtures("small")
def test_parents_that_fit_are_served_exactly() -> None:
    """Below a parent of ten items the optimum is found as ever."""
    scores, parents = log_p("skewed", 400, 64), np.arange(400) % 40
    found = assign_within(scores, parents).codes
    for parent in range(40):
        rows = parents == parent
        assert np.array_equal(found[rows], exact_codes(-scores[rows])[0])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("start", [None, np.zeros(16), np.linspace(-3, 3, 16)])
def test_given_prices_change_the_start_only(start: np.ndarray | None) -> None:
    """From its own prices, from none and from wrong ones: near the optimum all the same."""
    scores = log_p("low rank", 3000, 16)
    cost_of, _ = watched(scores)
    prices = priced_codes(cost_of, 3000, 16)[1] if start is None else start
    codes, _, gap = priced_codes(cost_of, 3000, 16, prices=prices)
    assert np.bincount(codes).max() == 188
    assert gap <= 0.02 * abs(total(scores, codes))


def test_the_last_pass_settles_what_ties_leave(
    small: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All items want one code after another: the passes are few, and the bound is logged."""
    passes: list[bool] = []
    move = bounded.Repair._move

    def counted(self: bounded.Repair, give: np.ndarray, take: np.ndarray, last: bool) -> None:
        passes.append(last)
        move(self, give, take, last)

    monkeypatch.setattr(bounded.Repair, "_move", counted)
    with caplog.at_level(logging.INFO):
        codes, _, _ = priced_codes(watched(log_p("all alike", 1000, 50))[0], 1000, 50)
    assert np.bincount(codes).tolist() == [20] * 50
    assert len(passes) <= 16 and passes[-1] and "Balanced 1000 items in 50 codes" in caplog.text


def test_one_code_takes_all() -> None:
    """Nothing to choose, nothing read."""
    codes, prices, gap = priced_codes(watched(np.zeros((5, 1)))[0], 5, 1)
    assert codes.tolist() == [0] * 5 and prices.tolist() == [0] and gap == 0


@pytest.mark.usefixtures("small")
def test_values_that_are_not_finite_are_named_in_any_block() -> None:
    """Far behind the first block."""
    scores = log_p("independent", 900, 8)
    scores[[501, 700], 3] = np.nan
    with pytest.raises(ValueError, match="2 of 900 rows, the first in row 501"):
        assign(scores)


def error(x: np.ndarray, found: Clusters) -> float:
    return float(np.square(x - found.centroids[found.labels]).sum())


@pytest.mark.parametrize("way", ["exact", "greedy"])
def test_balanced_clusters_by_blocks(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal sizes, and the error of the whole matrix within 2 %."""
    x = np.random.default_rng(0).standard_normal((1200, 5)).astype(np.float32)
    options = {"seed": 0, "assignment": way}
    whole = balanced_kmeans(x, 12, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(scratch, "BUDGET", BUDGET)
    found = balanced_kmeans(x, 12, **options)  # type: ignore[arg-type]
    assert np.bincount(found.labels).tolist() == [100] * 12
    assert error(x, found) <= 1.02 * error(x, whole)


def test_offsets_in_a_file_change_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors beyond the budget, distances within it: the same ids."""
    x = np.random.default_rng(0).standard_normal((300, 40)).astype(np.float32)
    whole = hierarchical_kmeans(x, [4, 4, 3], seed=0)
    monkeypatch.setattr(scratch, "BUDGET", 5000)
    assert np.array_equal(hierarchical_kmeans(x, [4, 4, 3], seed=0), whole)
