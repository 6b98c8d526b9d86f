from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from hf_genret.indexing import transport
from hf_genret.indexing.transport import exact_codes, soft_prices


def random_cost(n: int, k: int, seed: int, skew: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, k)) + skew * np.arange(k)).astype(np.float32)


def total(cost: np.ndarray, codes: np.ndarray) -> float:
    return float(cost[np.arange(len(cost)), codes].astype(np.float64).sum())


def best_by_slots(cost: np.ndarray) -> float:
    """Every set of codes with a place above the floor, each a linear sum assignment of its own."""
    n, k = cost.shape
    best = np.inf
    for above in combinations(range(k), n % k):
        slots = np.repeat(np.arange(k), [n // k + (code in above) for code in range(k)])
        rows, columns = linear_sum_assignment(cost[:, slots])
        best = min(best, total(cost, slots[columns[np.argsort(rows)]]))
    return best


@pytest.mark.parametrize("small", [0, 10**6], ids=["paths", "square"])
@pytest.mark.parametrize(("n", "k"), [(2, 3), (5, 5), (30, 3), (47, 5), (101, 7), (160, 4)])
def test_both_ways_reach_the_optimum(
    n: int, k: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shortest paths and the square problem equal scipy over all choices of larger codes."""
    monkeypatch.setattr(transport, "_SMALL", small)
    for seed in range(4):
        cost = random_cost(n, k, seed)
        codes, _ = exact_codes(cost)
        assert total(cost, codes) == pytest.approx(best_by_slots(cost), abs=1e-5)


def test_larger_problem_equals_linear_sum_assignment() -> None:
    """A thousand items and ten codes, no freedom: one linear sum assignment is the reference."""
    cost = random_cost(1000, 10, 0, skew=0.5)
    slots = np.repeat(np.arange(10), 100)
    rows, columns = linear_sum_assignment(cost[:, slots])
    expected = cost[rows, slots[columns]].astype(np.float64).sum()
    assert total(cost, exact_codes(cost)[0]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("values", [1, 3])
def test_ties_end_and_stay_exact(values: int) -> None:
    """All items alike, or of few kinds: moved in bulk, loads exact, nothing lost."""
    cost = np.random.default_rng(0).integers(0, values, (400, 8)).astype(np.float32)
    codes, _ = exact_codes(cost)
    slots = np.repeat(np.arange(8), 50)
    rows, columns = linear_sum_assignment(cost[:, slots])
    assert np.bincount(codes, minlength=8).tolist() == [50] * 8
    assert total(cost, codes) == cost[rows, slots[columns]].sum()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_of_the_cost_does_not_matter(scale: float) -> None:
    """Prices and tolerance follow the units of the cost."""
    cost = random_cost(500, 6, 3)
    scaled = exact_codes(cost * np.float32(scale))[0]
    assert total(cost, scaled) == pytest.approx(total(cost, exact_codes(cost)[0]), rel=1e-6)


def test_given_prices_change_the_start_only() -> None:
    """A wrong or a right start ends at the same total."""
    cost = random_cost(600, 6, 1)
    codes, prices = exact_codes(cost)
    for start in (prices, np.linspace(-3, 3, 6), np.zeros(6)):
        assert total(cost, exact_codes(cost, prices=start)[0]) == pytest.approx(total(cost, codes))


def test_a_code_that_nobody_wants_is_filled() -> None:
    """One code is worse for everybody by far."""
    cost = random_cost(800, 5, 2)
    cost[:, 3] += 1e4
    assert np.bincount(exact_codes(cost)[0], minlength=5).tolist() == [160] * 5


def test_soft_prices_equalise_the_columns() -> None:
    """The fixed point of Sinkhorn's scaling: equal column sums of row-wise softmaxes."""
    cost, temperature = random_cost(300, 7, 5, skew=1.0), 0.5
    prices = soft_prices(cost, np.zeros(7), temperature)
    soft = np.exp(-(cost + prices) / temperature)
    soft /= soft.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(soft.sum(axis=0), 300 / 7, rtol=2e-3)
    assert prices.mean() == pytest.approx(0, abs=1e-9)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs are read in blocks of rows; their size is no part of the answer."""
    cost = random_cost(900, 6, 4)
    whole = exact_codes(cost)[0]
    monkeypatch.setattr(transport, "_CHUNK", 60)
    assert total(cost, exact_codes(cost)[0]) == pytest.approx(total(cost, whole), abs=1e-6)


@pytest.mark.parametrize(("n", "k"), [(5, 4), (23, 4), (50, 7), (101, 6)])
def test_any_prices_lead_to_the_optimum(n: int, k: int) -> None:
    """From prices that are far off: emptied codes, and places above the floor change hands."""
    for seed in range(6):
        cost = random_cost(n, k, seed)
        prices = np.random.default_rng(seed + 100).normal(0, 2, k)
        codes = transport.Flow(cost, prices).solve()
        loads = np.bincount(codes, minlength=k)
        assert loads.min() == n // k and loads.max() == n // k + 1
        assert total(cost, codes) == pytest.approx(best_by_slots(cost), abs=1e-5)
