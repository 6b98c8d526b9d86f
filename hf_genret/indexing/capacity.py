"""Codes from probabilities, with or without a capacity for every code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hf_genret.indexing.transport import exact_codes, soft_prices

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


def assign(log_p: np.ndarray, *, method: Method = "exact", seed: int = 0) -> Assignment:
    """Give every item one of k codes.

    `argmax` takes each item's most probable code, whatever the loads. The others give every code
    floor(n/k) or ceil(n/k) items: `greedy` is URI's rule (items by descending confidence, each
    takes its most probable code that has a place; ICLR 2025, section 4.1), `exact` maximises the
    summed log-likelihood. `sinkhorn` scales the columns to equal sums, then takes URI's walk on the
    scaled probabilities: codes that everybody likes a little no longer draw the confident items.

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
    log_p = _checked(log_p, method)
    return _finish(log_p, _codes(log_p, method, seed))


def assign_within(
    log_p: np.ndarray, parents: np.ndarray, *, method: Method = "exact", seed: int = 0
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
    log_p = _checked(log_p, method)
    if np.shape(parents) != (len(log_p),):
        raise ValueError(
            f"Expected one parent for each of {len(log_p)} items, found shape {np.shape(parents)}."
        )
    codes = np.empty(len(log_p), dtype=np.int32)
    for rows in groups(parents):
        codes[rows] = _codes(log_p[rows], method, seed)
    return _finish(log_p, codes)


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


def _checked(log_p: np.ndarray, method: str) -> np.ndarray:
    if method not in get_args(Method):
        known = ", ".join(get_args(Method))
        raise ValueError(f"Expected an assignment method among {known}; found '{method}'.")
    log_p = np.asarray(log_p)
    if log_p.ndim != 2 or log_p.shape[1] == 0:
        raise ValueError(f"Expected log-probabilities [items, codes], found shape {log_p.shape}.")
    bad = ~np.isfinite(log_p).all(axis=1)
    if bad.any():
        raise ValueError(
            f"Expected finite log-probabilities, found infinite or NaN values in {int(bad.sum())} "
            f"of {len(log_p)} rows, the first in row {int(bad.argmax())}."
        )
    return log_p


def _codes(log_p: np.ndarray, method: Method, seed: int) -> np.ndarray:
    if len(log_p) == 0:
        return np.zeros(0, dtype=np.int32)
    if method == "argmax":
        return log_p.argmax(axis=1).astype(np.int32)
    if method == "greedy":
        return _greedy(log_p)
    if method == "exact":
        return exact_codes(-log_p, seed=seed)[0]
    prices = soft_prices(-log_p, np.zeros(log_p.shape[1]), 1.0)
    scaled = log_p - prices
    peak = scaled.max(axis=1, keepdims=True)
    return _greedy(scaled - peak - np.log(np.exp(scaled - peak).sum(axis=1, keepdims=True)))


def _finish(log_p: np.ndarray, codes: np.ndarray) -> Assignment:
    if len(codes) == 0:
        return Assignment(codes, 0.0)
    own = np.take_along_axis(log_p, codes[:, None].astype(np.int64), axis=1)[:, 0]
    return Assignment(codes, float((own < log_p.max(axis=1)).mean()))


def _greedy(log_p: np.ndarray) -> np.ndarray:
    """URI's walk, taken in strides: from one code that fills up to the next.

    At most n mod k codes may go above the floor; once they have, every code closes at the floor,
    so that none is left below it.
    """
    n, k = log_p.shape
    low, high = capacities(n, k)
    order = np.argsort(-log_p.max(axis=1), kind="stable")  # most confident first, ties by index
    ranked = log_p[order].astype(np.float64)  # [n, k], closed codes become -inf
    wish = ranked.argmax(axis=1)
    loads, extra, at = np.zeros(k, dtype=np.int64), n % k, 0
    codes = np.empty(n, dtype=np.int32)
    while at < n:
        limit = high if extra > 0 else low
        stop = _first_full(wish[at:], limit - loads)
        codes[order[at : at + stop]] = wish[at : at + stop]
        loads += np.bincount(wish[at : at + stop], minlength=k)
        at += stop
        if extra > 0 and loads[wish[at - 1]] == high:
            extra -= 1
        closed = loads >= (high if extra > 0 else low)
        stale = at + np.flatnonzero(closed[wish[at:]])
        ranked[stale[:, None], np.flatnonzero(closed)] = -np.inf
        wish[stale] = ranked[stale].argmax(axis=1)
    return codes


def _first_full(wish: np.ndarray, room: np.ndarray) -> int:
    """How many items can be served before, and with, the one that fills a code."""
    order = np.argsort(wish, kind="stable")
    starts = np.searchsorted(wish[order], np.arange(len(room)))
    ends = np.append(starts[1:], len(wish))
    fills = starts + room - 1
    full = (room > 0) & (fills < ends)
    return int(order[fills[full]].min()) + 1 if full.any() else len(wish)
