"""Assignment of items to codes whose loads lie between two bounds.

Small problems are solved exactly, by shortest paths as in `hf_genret.indexing.transport`: all items
start at their cheapest code, which is optimal but for the bounds, and what is above or below them
is moved along paths that keep it so. Large ones start at the same place and move single items,
those first that mind least, with costs computed a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hf_genret.indexing.scratch import RowsOf, blocks
from hf_genret.indexing.transport import Flow
from hf_genret.indexing.walk import walk

EXACT_CELLS = 1 << 20  # cells of the whole cost matrix up to which the optimum is affordable
_CHUNK = 1 << 22  # cells of a block of costs
_ROUNDS = 256  # passes in which the cheapest moves are made before one that makes all others


def bounded_codes(cost_of: RowsOf, n: int, k: int, size_min: int, size_max: int) -> np.ndarray:
    """Give every item a code, every code `size_min` to `size_max` items, at little summed cost.

    Args:
        cost_of: What the given items pay for every code, finite.
        n: Number of items.
        k: Number of codes.
        size_min: No code holds fewer items.
        size_max: No code holds more.

    Returns:
        Codes, int32 [n]: the optimum up to about a million cells, near it beyond.

    Raises:
        ValueError: When no assignment lies within the bounds.
    """
    if not 0 <= size_min * k <= n <= size_max * k:
        raise ValueError(
            f"Expected bounds that {n} items in {k} clusters can keep, "
            f"found at least {size_min} and at most {size_max} items a cluster."
        )
    if n * k <= EXACT_CELLS:
        return _BoundedFlow(cost_of(np.arange(n)), size_min, size_max).solve()
    return Repair(cost_of, n, k).within(size_min, size_max)


class _BoundedFlow(Flow):
    """Shortest paths where every code has room for `low` to `high` items.

    The pool holds the places above `low`: it starts with as many as the loads ask for, which is
    too many or too few by what lies outside the bounds.
    """

    def __init__(self, cost: np.ndarray, low: int, high: int) -> None:
        self.high = high
        super().__init__(cost, np.zeros(cost.shape[1]))
        self.low = low
        self.places = np.bincount(self.codes, minlength=self.k).clip(low, high)
        self._refresh_pool()

    def solve(self) -> np.ndarray:
        """Move surplus along shortest paths until every load equals its places."""
        surplus = self._surplus()
        while surplus.any():
            path = self._shortest(surplus)
            self._apply(path, int(min(surplus[path[0]], -surplus[path[-1]])))
            surplus = self._surplus()
        return self.codes

    def _surplus(self) -> np.ndarray:
        own = np.bincount(self.codes, minlength=self.k) - self.places
        return np.append(own, self.places.sum() - len(self.codes))

    def _refresh_pool(self) -> None:
        self.edge[: self.k, self.k] = np.where(self.places < self.high, 0.0, np.inf)
        self.edge[self.k, : self.k] = np.where(self.places > self.low, 0.0, np.inf)


class Repair:
    """Items at their cheapest code, then single moves of those that mind least.

    Args:
        cost_of: What the given items pay for every code, finite.
        n: Number of items.
        k: Number of codes.

    Attributes:
        codes: The code of every item so far, int32 [n].
    """

    def __init__(self, cost_of: RowsOf, n: int, k: int) -> None:
        self.cost_of, self.k = cost_of, k
        self.codes = np.empty(n, dtype=np.int32)
        for rows in self._blocks(np.arange(n)):
            self.codes[rows] = cost_of(rows).argmin(axis=1)

    def within(self, low: int, high: int, rounds: int = _ROUNDS) -> np.ndarray:
        """First empty what is above the upper bound, then fill what is below the lower one.

        Args:
            low: No code holds fewer items; low k is at most n.
            high: No code holds more; high k is at least n.
            rounds: Passes over the items for each of the two; the last one settles all.

        Returns:
            Codes, int32 [n].
        """
        done = 0
        while (loads := self._loads()).max() > high:
            done += 1
            self._move((loads - high).clip(min=0), (high - loads).clip(min=0), done >= rounds)
        done = 0
        while (loads := self._loads()).min() < low:
            done += 1
            self._move((loads - low).clip(min=0), (low - loads).clip(min=0), done >= rounds)
        return self.codes

    def _loads(self) -> np.ndarray:
        return np.bincount(self.codes, minlength=self.k)

    def _move(self, give: np.ndarray, take: np.ndarray, last: bool) -> None:
        """One round: codes give away and take at most so many items; at least one moves.

        The last round moves as many as there have to be, some of them to their second choice.
        """
        rows = np.flatnonzero(give[self.codes] > 0)
        target, regret = self._choices(rows, take)
        order = np.argsort(regret, kind="stable")
        order = order[_rank(self.codes[rows[order]]) < give[self.codes[rows[order]]]]
        if last:
            order = order[: take.sum()]
            self.codes[rows[order]] = walk(lambda some: -self.cost_of(some), rows[order], take)
            return
        order = order[_rank(target[order]) < take[target[order]]]
        self.codes[rows[order]] = target[order]

    def _choices(self, rows: np.ndarray, take: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each item the cheapest code that takes some, and what it pays more there."""
        target, regret = np.empty(len(rows), dtype=np.int32), np.empty(len(rows))
        at = 0
        for block in self._blocks(rows):
            cost = self.cost_of(block).astype(np.float64)
            own = np.take_along_axis(cost, self.codes[block, None].astype(np.int64), axis=1)[:, 0]
            cost[:, take == 0] = np.inf
            best = cost.argmin(axis=1)
            target[at : at + len(block)] = best
            regret[at : at + len(block)] = cost[np.arange(len(block)), best] - own
            at += len(block)
        return target, regret

    def _blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        return (rows[part] for part in blocks(len(rows), self.k, _CHUNK))


def _rank(labels: np.ndarray) -> np.ndarray:
    """How many earlier entries have the same label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    first = np.searchsorted(ordered, ordered)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - first
    return rank
