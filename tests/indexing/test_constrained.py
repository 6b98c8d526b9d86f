from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from hf_genret.indexing import bounded
from hf_genret.indexing.bounded import bounded_codes
from hf_genret.indexing.capacity import capacities
from hf_genret.indexing.constrained import constrained_kmeans, prefix_centred
from hf_genret.indexing.kmeans import Clusters, balanced_kmeans, kmeans
from hf_genret.indexing.transport import exact_codes

WAYS = pytest.mark.parametrize("cells", [0, 10**9], ids=["repair", "exact"])


def skewed(n: int, seed: int = 0, d: int = 4) -> np.ndarray:
    """Vectors in groups of very different sizes."""
    rng = np.random.default_rng(seed)
    group = rng.choice(5, n, p=[0.6, 0.2, 0.1, 0.07, 0.03])
    return (3 * rng.standard_normal((5, d))[group] + rng.standard_normal((n, d))).astype(np.float32)


def random_cost(n: int, k: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, k)) + 0.5 * np.arange(k)).astype(np.float32)


def solve(cost: np.ndarray, low: int, high: int) -> np.ndarray:
    return bounded_codes(lambda rows: cost[rows], *cost.shape, low, high)


def total(cost: np.ndarray, codes: np.ndarray) -> float:
    return float(cost[np.arange(len(cost)), codes].astype(np.float64).sum())


def optimum(cost: np.ndarray, low: int, high: int) -> float:
    """The least cost by linear programming; its vertices are whole numbers."""
    n, k = cost.shape
    once = np.kron(np.eye(n), np.ones(k))
    load = np.kron(np.ones(n), np.eye(k))
    limits = np.concatenate([np.full(k, high), np.full(k, -low)])
    found = linprog(cost.ravel(), np.vstack([load, -load]), limits, once, np.ones(n), bounds=(0, 1))
    return float(found.fun)


def error(x: np.ndarray, found: Clusters) -> float:
    return float(np.square(x - found.centroids[found.labels]).sum())


@pytest.mark.parametrize(
    ("n", "k", "low", "high"),
    [(30, 4, 3, 12), (30, 4, 7, 8), (24, 6, 4, 4), (20, 5, 0, 9), (5, 8, 0, 1), (20, 3, 0, 20)],
)
def test_small_problems_reach_the_optimum(n: int, k: int, low: int, high: int) -> None:
    """Shortest paths cost what linear programming says is the least."""
    for seed in range(5):
        cost = random_cost(n, k, seed)
        codes = solve(cost, low, high)
        assert total(cost, codes) == pytest.approx(optimum(cost, low, high), abs=1e-4)


def test_tightest_bounds_are_the_balanced_assignment() -> None:
    """Between floor and ceil the exact balanced solver finds the same cost."""
    cost = random_cost(203, 7, 1)
    balanced = total(cost, exact_codes(cost)[0])
    assert total(cost, solve(cost, *capacities(203, 7))) == pytest.approx(balanced, abs=1e-3)


def test_repair_is_near_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """What single moves cost beyond the free choice is at most half more than necessary."""
    cost = random_cost(600, 8, 0)
    free, best = float(cost.min(axis=1).sum()), total(cost, solve(cost, 50, 90))
    monkeypatch.setattr(bounded, "EXACT_CELLS", 0)
    assert best <= total(cost, solve(cost, 50, 90)) <= best + 0.5 * (best - free)


@WAYS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_bounds_are_never_violated(cells: int, data: st.DataObject) -> None:
    """Any size, any feasible bounds, ties included."""
    n, k = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 9))
    low = data.draw(st.integers(0, n // k))
    high = data.draw(st.integers(-(-n // k), n + 2))
    values = data.draw(st.integers(1, 5))
    cost = np.random.default_rng(n).integers(0, values, (n, k)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded, "EXACT_CELLS", cells)
        patch.setattr(bounded, "_CHUNK", 16)
        loads = np.bincount(solve(cost, low, high), minlength=k)
    assert loads.min() >= low and loads.max() <= high and loads.sum() == n


@WAYS
@pytest.mark.parametrize("cosine", [False, True])
def test_cluster_sizes_lie_between_the_bounds(
    cells: int, cosine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skewed groups, sizes still within bounds, same seed same labels."""
    monkeypatch.setattr(bounded, "EXACT_CELLS", cells)
    x = skewed(300)
    options = {"seed": 1, "size_min": 20, "size_max": 60, "cosine": cosine}
    found = constrained_kmeans(x, 8, **options)  # type: ignore[arg-type]
    loads = np.bincount(found.labels, minlength=8)
    assert loads.min() >= 20 and loads.max() <= 60
    assert found.labels.dtype == np.int32 and found.centroids.dtype == np.float32
    again = constrained_kmeans(x, 8, **options)  # type: ignore[arg-type]
    assert np.array_equal(found.labels, again.labels)
    if cosine:
        np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_wider_bounds_cost_less_than_equal_sizes(seed: int) -> None:
    """The error lies between that of plain and that of balanced k-means."""
    x = skewed(400, seed)
    loose = constrained_kmeans(x, 6, seed=0, size_min=20, size_max=160, iterations=30)
    equal = balanced_kmeans(x, 6, seed=0, iterations=30)
    assert error(x, loose) <= error(x, equal)


def test_bounds_that_never_bind_give_plain_kmeans() -> None:
    """From 0 to n items a cluster nothing is constrained."""
    x = skewed(200)
    free = constrained_kmeans(x, 5, seed=0, size_min=0, size_max=200, iterations=60)
    assert error(x, free) == pytest.approx(error(x, kmeans(x, 5, seed=0, iterations=63)), rel=1e-4)


@pytest.mark.parametrize(("low", "high"), [(11, 20), (0, 9), (-1, 20)])
def test_bounds_that_cannot_hold_are_named(low: int, high: int) -> None:
    """Too many, too few, or below nothing."""
    with pytest.raises(ValueError, match="Expected bounds that 100 items in 10 clusters can keep"):
        constrained_kmeans(skewed(100), 10, seed=0, size_min=low, size_max=high)


def test_prefix_centred_by_hand() -> None:
    """Each node's mean goes, the mean of all comes."""
    x = np.array([[0, 0], [2, 0], [10, 4], [12, 8]], dtype=np.float32)
    found = prefix_centred(x, np.array([7, 7, -1, -1]))
    expected = np.array([[5, 3], [7, 3], [5, 1], [7, 5]], dtype=np.float32)
    np.testing.assert_allclose(found, expected)
    assert found.dtype == np.float32 and np.array_equal(x[0], [0, 0])


def test_prefix_centred_lets_one_codebook_serve_all_nodes() -> None:
    """The same offsets below two far nodes: centred, both fall into the same clusters."""
    offsets = np.array([[1, 0], [-1, 0], [0, 1]] * 10, dtype=np.float32)
    x = np.concatenate([offsets + 100, offsets - 50])
    nodes = np.repeat([0, 1], 30)
    labels = kmeans(prefix_centred(x, nodes), 3, seed=0).labels
    assert np.array_equal(labels[:30], labels[30:])


def test_prefix_centred_needs_a_node_for_every_item() -> None:
    """Another length is refused; no items are fine."""
    with pytest.raises(ValueError, match="a node for each of 3 items"):
        prefix_centred(np.zeros((3, 2), np.float32), np.zeros(2))
    assert prefix_centred(np.zeros((0, 2), np.float32), np.zeros(0)).shape == (0, 2)
