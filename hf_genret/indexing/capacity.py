"""Codes from probabilities, with or without a capacity for every code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from tqdm.auto import tqdm

from hf_genret.indexing import scratch
from hf_genret.indexing.priced import priced_codes
from hf_genret.indexing.scratch import RowsOf, ScratchMatrix, blocks
from hf_genret.indexing.transport import exact_codes, fit_soft_prices, soft_prices
from hf_genret.indexing.walk import walk

Method = Literal["argmax", "greedy", "exact", "sinkhorn"]


@dataclass(frozen=True)
class Assignment:
    """One code for every item.

    Attributes:
        codes: int32 [n], values 0 to k-1.
        displaced: Share of the items whose code is less probable than their most probable one:
            what the capacity cost, 0 to 1.
    """

    codes: np.ndarray
    displaced: float


def capacities(n: int, k: int) -> tuple[int, int]:
    """The smallest and largest number of items that one of k codes may hold.

    Args:
        n: Number of items.
        k: Number of codes.

    Returns:
        floor(n/k) and ceil(n/k); exactly n mod k codes hold the larger number.

    Raises:
        ValueError: When k is below 1 or n below 0.
    """
    if k < 1 or n < 0:
        raise ValueError(f"Expected at least 1 code and 0 items, found {k} codes and {n} items.")
    return n // k, -(-n // k)


def assign(
    log_p: np.ndarray | ScratchMatrix, *, method: Method = "exact", seed: int = 0
) -> Assignment:
    """Give every item one of k codes.

    `argmax` takes each item's most probable code, whatever the loads. The others give every code
    floor(n/k) or ceil(n/k) items: `greedy` is URI's rule (items by descending confidence, each
    takes its most probable code that has a place; ICLR 2025, section 4.1), `exact` maximises the
    summed log-likelihood. `sinkhorn` scales the columns to equal sums, then takes URI's walk on the
    scaled probabilities: codes that everybody likes a little no longer draw the confident items.

    Beyond `hf_genret.indexing.scratch.BUDGET` cells [n, k] the matrix is read a block of rows at a
    time. `argmax` and `greedy` give the same codes as ever; `sinkhorn` does so to the precision of
    its scaling. `exact` then keeps the loads but is a heuristic whose distance from the optimum is
    bounded and small; see `hf_genret.indexing.priced.priced_codes`.

    Args:
        log_p: Log-probabilities or summed log-likelihoods, any scale, shape [n, k].
        method: The rule.
        seed: Draws the rows that `exact` fits its starting prices on; matters only among equals.

    Returns:
        The codes and the share of displaced items.

    Raises:
        ValueError: When `log_p` is not a matrix, holds infinite or NaN values, or the method is
            unknown.
    """
    scores = _checked(log_p, method)
    codes = _codes(scores.take, *scores.shape, method, seed)
    return Assignment(codes, _displaced(scores, codes))


def assign_within(
    log_p: np.ndarray | ScratchMatrix,
    parents: np.ndarray,
    *,
    method: Method = "exact",
    seed: int = 0,
) -> Assignment:
    """Give every item a code, the capacity counted inside each parent node.

    Each child of a parent with m items gets floor(m/k) or ceil(m/k) of them; a parent with fewer
    items than codes gives every item a code of its own.

    Args:
        log_p: As in `assign`, shape [n, k].
        parents: Number of each item's parent, any integers, shape [n].
        method: As in `assign`.
        seed: As in `assign`.

    Returns:
        The codes and the share of displaced items over all parents.

    Raises:
        ValueError: As `assign`, and when `parents` has another length.
    """
    scores = _checked(log_p, method)
    n, k = scores.shape
    if np.shape(parents) != (n,):
        raise ValueError(
            f"Expected one parent for each of {n} items, found shape {np.shape(parents)}."
        )
    codes = np.empty(n, dtype=np.int32)
    for rows in tqdm(groups(parents), desc="Assigning", delay=2, leave=False):
        codes[rows] = _codes(_below(scores, rows), len(rows), k, method, seed)
    return Assignment(codes, _displaced(scores, codes))


def groups(labels: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each distinct label, labels and rows ascending.

    Args:
        labels: Integers, shape [n].

    Returns:
        One int64 array for every label that occurs.
    """
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(np.asarray(labels)[order])) + 1
    return np.split(order, cuts) if len(order) else []


def _checked(log_p: np.ndarray | ScratchMatrix, method: str) -> ScratchMatrix:
    if method not in get_args(Method):
        known = ", ".join(get_args(Method))
        raise ValueError(f"Expected an assignment method among {known}; found '{method}'.")
    if not isinstance(log_p, ScratchMatrix):
        log_p = np.asarray(log_p)
        if log_p.ndim != 2 or log_p.shape[1] == 0:
            raise ValueError(
                f"Expected log-probabilities [items, codes], found shape {log_p.shape}."
            )
        log_p = ScratchMatrix.of(log_p)
    bad = [rows[~np.isfinite(log_p.take(rows)).all(axis=1)] for rows in blocks(*log_p.shape)]
    found = np.concatenate(bad) if bad else np.zeros(0)
    if len(found):
        raise ValueError(
            f"Expected finite log-probabilities, found infinite or NaN values in {len(found)} "
            f"of {len(log_p)} rows, the first in row {found[0]}."
        )
    return log_p


def _below(scores: ScratchMatrix, rows: np.ndarray) -> RowsOf:
    """The scores of one parent's items, numbered from 0."""
    return lambda some: scores.take(rows[some])


def _codes(scores_of: RowsOf, n: int, k: int, method: Method, seed: int) -> np.ndarray:
    if n == 0:
        return np.zeros(0, dtype=np.int32)
    if method == "argmax":
        best = [scores_of(rows).argmax(axis=1) for rows in blocks(n, k)]
        return np.concatenate(best).astype(np.int32)
    if method == "greedy":
        return _greedy(scores_of, n, k)

    def cost_of(rows: np.ndarray) -> np.ndarray:
        return -scores_of(rows)

    small = n * k <= scratch.BUDGET
    if method == "exact" and small:
        return exact_codes(cost_of(np.arange(n)), seed=seed)[0]
    if method == "exact":
        return priced_codes(cost_of, n, k, seed=seed)[0]
    if small:
        prices = soft_prices(cost_of(np.arange(n)), np.zeros(k), 1.0)
    else:
        prices = fit_soft_prices(cost_of, n, np.zeros(k), 1.0, seed=seed)
    return _greedy(lambda rows: _scaled(scores_of(rows), prices), n, k)


def _scaled(log_p: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Log-probabilities after the columns were scaled: rows sum to 1 again."""
    scaled = log_p - prices
    peak = scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled - peak).sum(axis=1, keepdims=True))
    return np.asarray(scaled - peak - log_sum)


def _greedy(scores_of: RowsOf, n: int, k: int) -> np.ndarray:
    """URI's walk: the most confident item first, ties by index."""
    confidence = np.concatenate([scores_of(rows).max(axis=1) for rows in blocks(n, k)])
    order = np.argsort(-confidence, kind="stable")
    codes = np.empty(n, dtype=np.int32)
    codes[order] = walk(scores_of, order, np.full(k, n // k), n % k)
    return codes


def _displaced(scores: ScratchMatrix, codes: np.ndarray) -> float:
    """Share of the items whose code is less probable than their most probable one."""
    lost = 0
    for rows in blocks(*scores.shape):
        log_p = scores.take(rows)
        own = log_p[np.arange(len(rows)), codes[rows]]
        lost += int((own < log_p.max(axis=1)).sum())
    return lost / len(codes) if len(codes) else 0.0
