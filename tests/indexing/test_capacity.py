from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hf_genret.indexing.capacity import assign, assign_within, capacities, groups


def random_log_p(n: int, k: int, seed: int = 0, skew: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n, k)) - skew * np.arange(k)
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


def total(log_p: np.ndarray, codes: np.ndarray) -> float:
    return float(log_p[np.arange(len(log_p)), codes].astype(np.float64).sum())


def best_by_force(log_p: np.ndarray) -> float:
    n, k = log_p.shape
    low, high = n // k, -(-n // k)
    best = -np.inf
    for codes in product(range(k), repeat=n):
        loads = np.bincount(codes, minlength=k)
        if low <= loads.min() and loads.max() <= high:
            best = max(best, total(log_p, np.array(codes)))
    return best


def greedy_by_hand(log_p: np.ndarray) -> list[int]:
    """The rule of the paper, item by item, with the floor kept for every code."""
    n, k = log_p.shape
    low, high, extra = n // k, -(-n // k), n % k
    loads, codes = [0] * k, [-1] * n
    for item in sorted(range(n), key=lambda i: (-log_p[i].max(), i)):
        for code in np.argsort(-log_p[item], kind="stable"):
            open_above = loads[code] < high and sum(load > low for load in loads) < extra
            if loads[code] < low or open_above:
                codes[item], loads[code] = int(code), loads[code] + 1
                break
    return codes


@pytest.mark.parametrize(
    ("n", "k", "expected"), [(10, 3, (3, 4)), (9, 3, (3, 3)), (2, 5, (0, 1)), (0, 4, (0, 0))]
)
def test_capacities_are_floor_and_ceil(n: int, k: int, expected: tuple[int, int]) -> None:
    """The two loads a code may have."""
    assert capacities(n, k) == expected


def test_capacities_need_a_code() -> None:
    """No codes is a clear error."""
    with pytest.raises(ValueError, match="found 0 codes"):
        capacities(3, 0)


@pytest.mark.parametrize("method", ["greedy", "exact", "sinkhorn"])
@pytest.mark.parametrize(("n", "k"), [(0, 3), (1, 1), (3, 5), (7, 3), (64, 8), (1001, 16)])
def test_every_code_gets_its_floor_or_ceil(n: int, k: int, method: str) -> None:
    """Loads stay between floor and ceil, whatever the skew of the probabilities."""
    result = assign(random_log_p(n, k, skew=1.0), method=method)  # type: ignore[arg-type]
    loads = np.bincount(result.codes, minlength=k)
    assert result.codes.dtype == np.int32
    assert loads.min() >= n // k and loads.max() <= -(-n // k)


@pytest.mark.parametrize(("n", "k"), [(4, 3), (6, 3), (7, 3), (2, 4), (7, 2)])
def test_exact_is_the_best_of_all_assignments(n: int, k: int) -> None:
    """Brute force over every allowed assignment finds nothing better."""
    for seed in range(5):
        log_p = random_log_p(n, k, seed, skew=0.7)
        found = total(log_p, assign(log_p, method="exact").codes)
        assert found == pytest.approx(best_by_force(log_p), abs=1e-6)


@pytest.mark.parametrize(("n", "k"), [(23, 4), (57, 8), (40, 5), (5, 9)])
def test_greedy_is_the_papers_walk(n: int, k: int) -> None:
    """Strides from one full code to the next give what a loop over items gives."""
    for seed in range(5):
        log_p = random_log_p(n, k, seed, skew=0.3)
        assert assign(log_p, method="greedy").codes.tolist() == greedy_by_hand(log_p)


def test_greedy_breaks_ties_by_index() -> None:
    """Equal items are served in their order."""
    log_p = np.log(np.array([[0.6, 0.4]] * 4, dtype=np.float32))
    assert assign(log_p, method="greedy").codes.tolist() == [0, 0, 1, 1]


def test_argmax_ignores_loads_and_displaces_nobody() -> None:
    """Without a capacity every item has its most probable code."""
    log_p = random_log_p(20, 4, skew=3.0)
    result = assign(log_p, method="argmax")
    assert result.codes.tolist() == log_p.argmax(axis=1).tolist()
    assert result.displaced == 0.0


def test_displaced_counts_items_that_lost_their_code() -> None:
    """Four items want code 0, two of them must leave; an indifferent one does not count."""
    log_p = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.5, 0.5]], dtype=np.float32))
    result = assign(log_p, method="exact")
    assert result.codes.tolist() == [0, 0, 1, 1]
    assert result.displaced == 0.25


def test_exact_loses_least() -> None:
    """No rule with the same capacity has a higher summed log-likelihood."""
    log_p = random_log_p(600, 6, skew=1.0)
    exact, greedy, sinkhorn = (
        total(log_p, assign(log_p, method=method).codes)
        for method in ("exact", "greedy", "sinkhorn")
    )
    assert exact > greedy and exact > sinkhorn


def test_sinkhorn_walks_on_scaled_probabilities() -> None:
    """A factor on one column, the same for all items, changes nothing."""
    log_p = random_log_p(200, 5)
    louder = log_p + np.array([0, 2, 0, -1, 0], dtype=np.float32)
    first, second = (assign(scores, method="sinkhorn").codes for scores in (log_p, louder))
    assert (first == second).mean() > 0.98


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad: float) -> None:
    """Infinite and NaN values are an error that names the first row."""
    log_p = random_log_p(4, 3)
    log_p[2, 1] = bad
    with pytest.raises(ValueError, match="1 of 4 rows, the first in row 2"):
        assign(log_p)


def test_unknown_method_and_wrong_shapes_are_errors() -> None:
    """The sentence says what was expected."""
    with pytest.raises(ValueError, match="found 'best'"):
        assign(random_log_p(4, 3), method="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        assign(np.zeros(4, dtype=np.float32))
    with pytest.raises(ValueError, match="one parent for each of 4"):
        assign_within(random_log_p(4, 3), np.zeros(3, dtype=np.int64))


@pytest.mark.parametrize("method", ["argmax", "greedy", "exact", "sinkhorn"])
def test_within_is_each_parent_alone(method: str) -> None:
    """Parents do not influence each other and may come in any order."""
    log_p = random_log_p(60, 4, skew=0.5)
    parents = np.random.default_rng(1).integers(0, 5, 60) * 7
    result = assign_within(log_p, parents, method=method)  # type: ignore[arg-type]
    for parent in np.unique(parents):
        alone = assign(log_p[parents == parent], method=method)  # type: ignore[arg-type]
        assert result.codes[parents == parent].tolist() == alone.codes.tolist()


def test_few_items_under_a_parent_get_codes_of_their_own() -> None:
    """Two items that want the same of five codes: distinct codes at the best total."""
    log_p = np.log(np.array([[0.6, 0.3, 0.04, 0.03, 0.03]] * 2, dtype=np.float32))
    log_p[1, 1] = np.log(0.1)
    assert assign_within(log_p, np.array([3, 3])).codes.tolist() == [1, 0]


def test_same_input_same_codes() -> None:
    """Assignments are a function of their input."""
    log_p = random_log_p(3000, 12, skew=0.2)
    for method in ("greedy", "exact", "sinkhorn"):
        first, second = (assign(log_p, method=method).codes for _ in range(2))
        assert np.array_equal(first, second)


def test_groups_are_rows_by_label() -> None:
    """Labels ascend, rows ascend within a label, absent labels are absent."""
    assert [rows.tolist() for rows in groups(np.array([5, 2, 5, 9, 2]))] == [[1, 4], [0, 2], [3]]
    assert groups(np.array([], dtype=np.int64)) == []
