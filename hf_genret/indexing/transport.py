"""Exact balanced assignment of many items to few codes.

The problem is a transportation problem with n rows and k columns, every column holding
floor(n/k) or ceil(n/k) items. Small ones go to scipy's `linear_sum_assignment`. Large ones start
from column prices at which almost every column is full, and move the few surplus items along
shortest paths between the k columns: each such path keeps the assignment optimal for its loads
(successive shortest paths, Ahuja, Magnanti and Orlin 1993, chapter 9), so the last is the optimum.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from hf_genret.indexing import scratch
from hf_genret.indexing.scratch import RowsOf, blocks

_SMALL = 160  # slots (k times ceil(n/k)) up to which the square problem is the faster way
_SAMPLE = 256  # rows a column that the prices are fitted on before all rows are looked at
_STEPS = 30  # Newton steps at one temperature
_CHUNK = 1 << 22  # cells of a cost block that is turned into another type at once


def exact_codes(
    cost: np.ndarray, *, prices: np.ndarray | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Give every item a code at the least summed cost, every code floor(n/k) or ceil(n/k) items.

    Args:
        cost: What item i pays for code c, finite, shape [n, k].
        prices: Column prices to start from, shape [k], for example those of a similar problem;
            they change the time, not the optimum.
        seed: Draws the rows that starting prices are fitted on.

    Returns:
        Codes, int32 [n], and prices, float64 [k], to start a similar problem from. For a matrix
        that is not in memory see `hf_genret.indexing.priced.priced_codes`.
    """
    n, k = cost.shape
    start = np.zeros(k) if prices is None else np.asarray(prices, dtype=np.float64)
    if n == 0 or k == 1:
        return np.zeros(n, dtype=np.int32), start
    if k * -(-n // k) <= _SMALL:
        return _square(cost), start
    fitted = fit_prices(cost.__getitem__, n, start, warm=prices is not None, seed=seed)
    return Flow(cost, fitted).solve(), fitted


def soft_prices(cost: np.ndarray, prices: np.ndarray, temperature: float) -> np.ndarray:
    """Prices at which every code is chosen equally often by rows that choose softly.

    softmax(-(cost + prices) / temperature) then has columns of equal sums: Sinkhorn's fixed
    point. Its dual is smooth and convex in k numbers, so Newton steps replace the scaling sweeps
    (hundreds of them where loads are skewed).

    Args:
        cost: Shape [n, k].
        prices: Where to start, float64 [k].
        temperature: Softness of the rows' choice, in units of `cost`.

    Returns:
        Prices, float64 [k], mean 0; columns within 0.1 % of n/k, or after 30 steps.
    """
    return _soften(cost.__getitem__, len(cost), prices, temperature)


def fit_soft_prices(
    cost_of: RowsOf, n: int, start: np.ndarray, temperature: float, *, seed: int
) -> np.ndarray:
    """`soft_prices` of costs that are read a block of rows at a time, a sample of rows first.

    Args:
        cost_of: What the given items pay for every code.
        n: Number of items.
        start: Where to start, float64 [k].
        temperature: As in `soft_prices`.
        seed: Draws the sample.

    Returns:
        Prices, float64 [k], mean 0, of all items.
    """
    sample = _sample(cost_of, n, len(start), seed)
    prices = soft_prices(sample, start, temperature)
    return _soften(cost_of, n, prices, temperature) if n > len(sample) else prices


def _soften(cost_of: RowsOf, n: int, prices: np.ndarray, temperature: float) -> np.ndarray:
    """Newton's steps of `soft_prices`, each one pass over all rows."""
    k = len(prices)
    for _ in range(_STEPS):
        loads, pairs = _soft_loads(cost_of, n, prices, temperature)
        excess = loads - n / k
        if np.abs(excess).max() < 1e-3 * n / k:
            break
        # The Hessian is blind to a shift of all prices and to codes that nobody wants: a small
        # ridge, and steps of a few temperatures, within which the quadratic model holds.
        hessian = np.diag(loads + 1e-3 * n / k) - pairs
        step = temperature * np.linalg.solve(hessian, excess)
        prices = prices + np.clip(step - step.mean(), -4 * temperature, 4 * temperature)
    return prices - prices.mean()


def _soft_loads(
    cost_of: RowsOf, n: int, prices: np.ndarray, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Column sums [k] of the soft choices, and their products summed over rows [k, k]."""
    k = len(prices)
    loads, pairs = np.zeros(k), np.zeros((k, k))
    for rows in blocks(n, k, _CHUNK):
        soft = (cost_of(rows) + prices.astype(np.float32)) / np.float32(-temperature)
        soft = (soft - soft.max(axis=1, keepdims=True)).astype(np.float32)
        np.exp(soft, out=soft)
        soft /= soft.sum(axis=1, keepdims=True)
        loads += soft.sum(axis=0, dtype=np.float64)
        pairs += soft.T @ soft
    return loads, pairs


def _square(cost: np.ndarray) -> np.ndarray:
    """Exact for small problems: codes become slots, and empty slots are filled by dummy rows.

    A code has ceil(n/k) slots; dummies may only take the last one, so that every code is left
    with at least floor(n/k) items.
    """
    n, k = cost.shape
    low, high = n // k, -(-n // k)
    square = np.empty((k * high, k * high))
    square[:n] = np.repeat(cost, high, axis=1)
    # A row's smallest cost is paid whatever the code: taking it off keeps numbers small.
    square[:n] -= square[:n].min(axis=1, keepdims=True)
    square[n:] = np.where(np.arange(k * high) % high >= low, 0.0, np.inf)
    rows, slots = linear_sum_assignment(square)
    return (slots[np.argsort(rows)][:n] // high).astype(np.int32)


def fit_prices(cost_of: RowsOf, n: int, start: np.ndarray, *, warm: bool, seed: int) -> np.ndarray:
    """Prices under which nearly n/k items prefer each code: annealed Sinkhorn, sample first.

    Args:
        cost_of: What the given items pay for every code, read a block of rows at a time.
        n: Number of items, at least 1.
        start: Where to start, float64 [k], k at least 2.
        warm: Whether `start` solves a similar problem.
        seed: Draws the sample.

    Returns:
        Prices, float64 [k], mean 0.
    """
    sample = _sample(cost_of, n, len(start), seed)
    # The gap between the best and the second code is what prices have to bridge.
    pair = np.partition(sample, 1, axis=1)[:, :2]
    gap = max(float((pair[:, 1] - pair[:, 0]).mean()), 1e-12)
    shares = (4.0, 1.0, 0.25, 0.06, 0.015) if not warm else (0.25, 0.06, 0.015)
    prices = start
    for share in shares:
        prices = soft_prices(sample, prices, gap * share)
    if n > len(sample):
        for share in (0.06, 0.015):
            prices = _soften(cost_of, n, prices, gap * share)
    return prices


def _sample(cost_of: RowsOf, n: int, k: int, seed: int) -> np.ndarray:
    """Costs of some rows, float32 [rows, k], in the order of the rows."""
    most = max(1, min(_SAMPLE * k, scratch.BUDGET // k))
    rows = np.random.default_rng(seed).permutation(n)[:most]
    return np.ascontiguousarray(cost_of(np.sort(rows)), dtype=np.float32)


class Flow:
    """Items at their cheapest priced code, then surplus moved to where places are free.

    Nodes are the k codes and one pool (number k). An edge a -> b moves the item of a that minds
    least; a -> pool lets code a keep one item more, pool -> b takes that place from code b.

    Args:
        cost: What item i pays for code c, finite, shape [n, k].
        prices: Column prices to start from, shape [k]; any lead to the optimum.
    """

    def __init__(self, cost: np.ndarray, prices: np.ndarray) -> None:
        n, k = cost.shape
        self.cost, self.k = cost, k
        self.codes = np.empty(n, dtype=np.int32)
        for rows in blocks(n, k, _CHUNK):
            self.codes[rows] = np.argmin(cost[rows].astype(np.float64) + prices, axis=1)
        self.low, extra = divmod(n, k)
        # The dearest codes get the places above the floor: optimal for these prices.
        self.places = np.full(k, self.low)
        self.places[np.argsort(-prices, kind="stable")[:extra]] += 1
        self.edge = np.full((k + 1, k + 1), np.inf)
        self.mover = np.full((k, k), -1)
        self.tolerance = 1e-12 * max(1e-30, float(np.abs(cost).max()))
        for code in range(k):
            self._refresh(code)
        self._refresh_pool()

    def solve(self) -> np.ndarray:
        """Move surplus along shortest paths until every code holds exactly its places."""
        surplus = np.bincount(self.codes, minlength=self.k) - self.places
        while surplus.any():
            path = self._shortest(np.append(surplus, 0))
            self._apply(path, int(min(surplus[path[0]], -surplus[path[-1]])))
            surplus = np.bincount(self.codes, minlength=self.k) - self.places
        return self.codes

    def _refresh(self, code: int) -> None:
        """Recompute the edges that leave one code."""
        members = np.flatnonzero(self.codes == code)
        if len(members) == 0:
            self.edge[code, : self.k] = np.inf
            return
        rows = self.cost[members].astype(np.float64)  # [members, k]
        rows -= rows[:, code, None]
        best = rows.argmin(axis=0)
        self.edge[code, : self.k] = rows[best, np.arange(self.k)]
        self.mover[code] = members[best]
        self.edge[code, code] = np.inf

    def _refresh_pool(self) -> None:
        tight = self.places == self.low
        self.edge[: self.k, self.k] = np.where(tight, 0.0, np.inf)
        self.edge[self.k, : self.k] = np.where(tight, np.inf, 0.0)

    def _shortest(self, surplus: np.ndarray) -> list[int]:
        """Bellman-Ford from every code with a surplus to the nearest with a free place."""
        distance = np.where(surplus > 0, 0.0, np.inf)
        before = np.full(self.k + 1, -1)
        fresh = np.flatnonzero(surplus > 0)  # others have nothing new to offer
        for _ in range(self.k + 1):
            through = distance[fresh, None] + self.edge[fresh]
            source = through.argmin(axis=0)
            reached = through[source, np.arange(self.k + 1)]
            better = reached < distance - self.tolerance
            better |= np.isinf(distance) & np.isfinite(reached)
            if not better.any():
                break
            distance = np.where(better, reached, distance)
            before = np.where(better, fresh[source], before)
            fresh = np.flatnonzero(better)
        path = [int(np.argmin(np.where(surplus < 0, distance, np.inf)))]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        return path[::-1]

    def _apply(self, path: list[int], most: int) -> None:
        """Move up to `most` items along every edge of a path: as many as mind equally little."""
        edges = list(pairwise(path))
        if self.k in path:
            most = 1  # a code has one place above the floor
        movers = [self._movers(a, b, most) for a, b in edges if self.k not in (a, b)]
        most = min([most, *map(len, movers)])
        steps = iter(movers)
        for a, b in edges:
            if b == self.k:
                self.places[a] += 1
            elif a == self.k:
                self.places[b] -= 1
            else:
                self.codes[next(steps)[:most]] = b
        for code in path:
            if code < self.k:
                self._refresh(code)
        self._refresh_pool()

    def _movers(self, a: int, b: int, most: int) -> np.ndarray:
        """The items of code a that move to b at the edge's price; more than one when they tie."""
        if most == 1:
            return self.mover[a, b, None]
        members = np.flatnonzero(self.codes == a)
        extra = self.cost[members, b].astype(np.float64) - self.cost[members, a]
        return members[extra <= self.edge[a, b]][:most]
