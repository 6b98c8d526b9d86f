"""How good ids are by themselves: code use, balance, buckets, and APE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np


def entropy(counts: np.ndarray) -> float:
    """Entropy of the distribution that counts describe, in nats; 0 without any count."""
    counts = np.asarray(counts, dtype=np.float64)
    counts = counts[counts > 0]
    if not len(counts):
        return 0.0
    share = counts / counts.sum()
    return float(max(-(share * np.log(share)).sum(), 0.0))


def balance(counts: np.ndarray, places: int) -> float:
    """How evenly items fill their places: 1 - sum |n_j - n / K| / (2 n).

    1 is even, 1/K means that one place holds everything (GenRet, arXiv 2304.04171, diversity d).

    Args:
        counts: Items at each used place; places left out are empty.
        places: Number of places K, used or not (a Python integer: K^L can be large).
    """
    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum()
    if not total:
        return 0.0
    even = total / places
    empty = places - len(counts)
    return float(1.0 - (np.abs(counts - even).sum() + empty * even) / (2.0 * total))


def level_use(codes: np.ndarray, codebook_sizes: Sequence[int]) -> list[dict[str, float]]:
    """Code use of each level, codes pooled over their parents.

    Args:
        codes: Docids, [P, L], one a row.
        codebook_sizes: Codes of each level, L of them.

    Returns:
        For each level `level` (from 1), `codes`, `used`, `share_used`, `entropy` (nats),
        `entropy_normalised` (by ln K) and `balance`.
    """
    report = []
    for level, size in enumerate(codebook_sizes):
        counts = np.bincount(codes[:, level], minlength=size)
        used = int((counts > 0).sum())
        value = entropy(counts)
        report.append(
            {
                "level": level + 1,
                "codes": size,
                "used": used,
                "share_used": used / size,
                "entropy": value,
                "entropy_normalised": value / math.log(size) if size > 1 else 1.0,
                "balance": balance(counts, size),
            }
        )
    return report


def leaf_of_row(codes: np.ndarray, levels: int | None = None) -> np.ndarray:
    """The bucket of each document as one number.

    Args:
        codes: Docids, [N, L], one a document.
        levels: Leading levels that make the bucket; None = all (the leaves).

    Returns:
        [N] int64, buckets numbered from 0 in the order of their codes; only buckets that hold
        something have a number.
    """
    inverse = np.unique(codes[:, :levels], axis=0, return_inverse=True)[1]
    return inverse.reshape(-1).astype(np.int64)


def bucket_report(codes: np.ndarray, codebook_sizes: Sequence[int]) -> dict[str, Any]:
    """Sizes of the leaf buckets.

    Args:
        codes: Docids, [P, L], one a path.
        codebook_sizes: Codes of each level.

    Returns:
        `leaves` (that could exist), `used`, `empty`, `size` (min, median, mean, max over used
        leaves), `balance` over all leaves, `duplicate_ids` (documents that share their id with
        another one) and `largest_share`.
    """
    leaves = math.prod(codebook_sizes)
    sizes = np.bincount(leaf_of_row(codes)) if len(codes) else np.zeros(0, dtype=np.int64)
    used = len(sizes)
    return {
        "leaves": leaves,
        "used": used,
        "empty": leaves - used,
        "size": {
            "min": int(sizes.min(initial=len(codes))),
            "median": float(np.median(sizes)) if used else 0.0,
            "mean": float(sizes.mean()) if used else 0.0,
            "max": int(sizes.max(initial=0)),
        },
        "balance": balance(sizes, leaves),
        "duplicate_ids": int(sizes[sizes > 1].sum()),
        "largest_share": float(sizes.max(initial=0) / max(len(codes), 1)),
    }


def docid_report(codes: np.ndarray, codebook_sizes: Sequence[int]) -> dict[str, Any]:
    """Use of the codes and sizes of the buckets.

    Args:
        codes: Docids, [P, L], one a path.
        codebook_sizes: Codes of each level.

    Returns:
        `documents` (paths), `levels` (`level_use`) and `buckets` (`bucket_report`).
    """
    return {
        "documents": len(codes),
        "levels": level_use(codes, codebook_sizes),
        "buckets": bucket_report(codes, codebook_sizes),
    }


def ape(leaf_of_row: np.ndarray, relevant: Sequence[dict[int, float]]) -> float:
    """Average prediction entropy: how far a query's positives are scattered over buckets.

    APE = 1/|X| sum_x H(Q_x), Q_x[j] = share of the query's positives in bucket j, in nats (URI,
    Eq. 3). Lower is better, but putting everything into one bucket gives 0: read it beside
    balance and pool size.

    Args:
        leaf_of_row: Bucket of each document, [N].
        relevant: For each query document row -> gain; gains above 0 count once each.

    Returns:
        APE over the queries that have a positive; NaN when none has.
    """
    query, row = _positives(relevant)
    if not len(query):
        return float("nan")
    pairs, counts = np.unique(
        np.stack([query, np.asarray(leaf_of_row, dtype=np.int64)[row]], axis=1),
        axis=0,
        return_counts=True,
    )
    positives = np.bincount(query)
    share = counts / positives[pairs[:, 0]]
    return float(-(share * np.log(share)).sum() / np.count_nonzero(positives) + 0.0)


def ape_report(
    codes: np.ndarray,
    relevant: Sequence[dict[int, float]],
    codebook_sizes: Sequence[int],
    *,
    pool: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """APE of the leaves and of level 1, with what is needed to read it.

    Args:
        codes: Docids, [N, L], one a document.
        relevant: For each query document row -> gain (the paper uses training interactions).
        codebook_sizes: Codes of each level.
        pool: Documents ranked a query, where a search was run.
        seed: Seed of the random ids.

    Returns:
        `queries`, `positives` (mean a query), `unbucketed` (APE of unique ids, the upper end),
        and for `leaf` and `level_1` each `ape`, `random` (the same bucket sizes, documents
        shuffled) and `balance`; `pool` where given.
    """
    query, _ = _positives(relevant)
    positives = np.bincount(query) if len(query) else np.zeros(0)
    positives = positives[positives > 0]
    order = np.random.default_rng(seed).permutation(len(codes))
    parts: dict[str, Any] = {}
    for name, levels in (("leaf", len(codebook_sizes)), ("level_1", 1)):
        bucket = leaf_of_row(codes, levels)
        parts[name] = {
            "ape": ape(bucket, relevant),
            "random": ape(bucket[order], relevant),
            "balance": balance(np.bincount(bucket), math.prod(codebook_sizes[:levels])),
        }
    report: dict[str, Any] = {
        "queries": len(positives),
        "positives": float(positives.mean()) if len(positives) else 0.0,
        "unbucketed": float(np.log(positives).mean()) if len(positives) else 0.0,
        **parts,
    }
    if pool is not None:
        report["pool"] = pool
    return report


def _positives(relevant: Sequence[dict[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Query numbers and rows of all gains above 0."""
    pairs = [
        (q, row) for q, gains in enumerate(relevant) for row, gain in gains.items() if gain > 0
    ]
    table = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def theorem1_report(
    num_interactions: int,
    num_queries: int,
    num_items: int,
    k: int,
    *,
    levels: int = 2,
    delta: float = 0.05,
) -> dict[str, Any]:
    """Whether there are enough queries for Theorem 1 of URI.

    m >= z^2 (1 + (2 N / k) p (1 + p)) / (p (1 - p)), z the standard normal quantile of 1 - delta,
    p = interactions / (m N). At depth l an item chooses among k^l buckets. The theorem treats one
    wrong bucket at a time (no union bound) and ignores covariances.

    Args:
        num_interactions: Query-item pairs.
        num_queries: Queries m.
        num_items: Items N.
        k: Tokens of each level.
        levels: Depth L.
        delta: Tolerance.

    Returns:
        `density` p, `delta`, and `level_1` and `leaf`, each with `buckets`, `queries` (left side),
        `needed` (right side) and `met`.

    Raises:
        ValueError: When a count is not above 0 or the density is not between 0 and 1.
    """
    if min(num_interactions, num_queries, num_items, k, levels) <= 0:
        raise ValueError("Theorem 1 needs counts above 0.")
    density = num_interactions / (num_queries * num_items)
    if not 0 < density < 1:
        raise ValueError(f"Theorem 1 needs a density between 0 and 1, found {density}.")
    quantile = NormalDist().inv_cdf(1.0 - delta)
    report: dict[str, Any] = {"density": density, "delta": delta}
    for name, buckets in (("level_1", k), ("leaf", k**levels)):
        crowd = 1.0 + 2.0 * num_items / buckets * density * (1.0 + density)
        needed = quantile**2 * crowd / (density * (1.0 - density))
        report[name] = {
            "buckets": buckets,
            "queries": num_queries,
            "needed": needed,
            "met": num_queries >= needed,
        }
    return report
