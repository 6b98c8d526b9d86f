"""Balanced assignment near the optimum, for more items than fit a matrix in memory.

Every code gets a price at which nearly n/k items prefer it, fitted on a sample and then on all
rows; the few items that are too many move to where they mind least, prices included. The prices
also say how far from the optimum the outcome is at most (linear programming duality).
"""

from __future__ import annotations

import logging

import numpy as np
from tqdm.auto import tqdm

from hf_genret.indexing.bounded import Repair
from hf_genret.indexing.scratch import RowsOf, blocks
from hf_genret.indexing.transport import fit_prices

_ROUNDS = 16  # passes that repair loads; three to ten are the rule

logger = logging.getLogger(__name__)


def priced_codes(
    cost_of: RowsOf, n: int, k: int, *, prices: np.ndarray | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Give every item a code at little summed cost, every code floor(n/k) or ceil(n/k) items.

    A heuristic: loads are kept exactly, the cost is close to the least one and not proved to be
    it. Costs are read a block of rows at a time, some ten to thirty times over.

    Args:
        cost_of: What the given items pay for every code, finite; n is at least 1.
        n: Number of items.
        k: Number of codes.
        prices: Column prices to start from, shape [k], for example those of a similar problem.
        seed: Draws the rows that prices are fitted on first.

    Returns:
        Codes, int32 [n]; prices, float64 [k], to start a similar problem from; and how much the
        summed cost lies above the least one at most, at least 0.
    """
    if k == 1:
        return np.zeros(n, dtype=np.int32), np.zeros(1), 0.0
    start = np.zeros(k) if prices is None else np.asarray(prices, dtype=np.float64)
    with tqdm(desc="Balancing", unit=" items", unit_scale=True, delay=2, leave=False) as bar:

        def seen(rows: np.ndarray) -> np.ndarray:
            bar.update(len(rows))
            return cost_of(rows)

        fitted = fit_prices(seen, n, start, warm=prices is not None, seed=seed)

        def priced(rows: np.ndarray) -> np.ndarray:
            return seen(rows).astype(np.float64) + fitted

        repair = Repair(priced, n, k)
        wishes = repair.codes.copy()
        codes = repair.within(n // k, -(-n // k), _ROUNDS)
        gap = _regret(priced, codes, wishes) + _idle(fitted, codes)
    logger.info("Balanced %d items in %d codes, at most %.3g above the least cost.", n, k, gap)
    return codes, fitted, gap


def _regret(priced: RowsOf, codes: np.ndarray, wishes: np.ndarray) -> float:
    """What the items that did not get their cheapest code pay more than they would there."""
    moved, total = np.flatnonzero(codes != wishes), 0.0
    for part in blocks(len(moved), int(codes.max()) + 1):
        rows = moved[part]
        cost, line = priced(rows), np.arange(len(rows))
        total += float((cost[line, codes[rows]] - cost[line, wishes[rows]]).sum())
    return total


def _idle(prices: np.ndarray, codes: np.ndarray) -> float:
    """What the prices would earn if the dearest codes had the places above the floor."""
    k = len(prices)
    low, extra = divmod(len(codes), k)
    most = low * prices.sum() + np.sort(prices)[k - extra :].sum()
    return float(most - prices @ np.bincount(codes, minlength=k))
