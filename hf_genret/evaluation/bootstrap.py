"""How sure a mean over queries is: bootstrap intervals and a paired test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_CELLS = 4_000_000  # resampled cells held at once


def bootstrap_means(
    values: np.ndarray, *, samples: int = 1000, seed: int | np.random.Generator = 0
) -> np.ndarray:
    """Means of resamples of the queries.

    The resamples depend on the seed and the number of queries alone, so that two systems on the
    same split are resampled alike.

    Args:
        values: [Q] or [Q, M], no NaN.
        samples: Number of resamples S.
        seed: Seed or generator.

    Returns:
        [S] or [S, M].
    """
    rng = np.random.default_rng(seed)
    n = len(values)
    chunk = max(1, _CELLS // n)
    parts = []
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        pick = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(pick.ravel(), minlength=size * n).reshape(size, n)
        parts.append(counts.astype(np.float64) @ values / n)
    return np.concatenate(parts)


def bootstrap_interval(
    values: np.ndarray,
    *,
    level: float = 0.95,
    samples: int = 1000,
    seed: int | np.random.Generator = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over queries.

    Args:
        values: One value a query, [Q]; NaN values are left out.
        level: Coverage.
        samples: Number of resamples.
        seed: Seed or generator.

    Returns:
        Lower and upper end; both NaN when no value is left.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(
        bootstrap_means(values, samples=samples, seed=seed), [tail, 100.0 - tail]
    )
    return float(low), float(high)


def summarise(
    values: Mapping[str, np.ndarray], *, level: float = 0.95, samples: int = 1000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Mean and interval of several metrics over the same queries, from the same resamples.

    Args:
        values: Metric name -> values [Q]. A query that is NaN in one metric is left out of all.
        level: Coverage.
        samples: Number of resamples.
        seed: Seed.

    Returns:
        `{name: {"mean", "low", "high"}}`; empty when no query is left.
    """
    if not values:
        return {}
    table = np.stack([np.asarray(column, dtype=np.float64) for column in values.values()], axis=1)
    table = table[~np.isnan(table).any(axis=1)]  # [Q, M]
    if not len(table):
        return {}
    tail = 50.0 * (1.0 - level)
    means = bootstrap_means(table, samples=samples, seed=seed)  # [S, M]
    low, high = np.percentile(means, [tail, 100.0 - tail], axis=0)
    mean = table.mean(axis=0)
    return {
        name: {"mean": float(mean[i]), "low": float(low[i]), "high": float(high[i])}
        for i, name in enumerate(values)
    }


def paired_p_value(
    first: np.ndarray,
    second: np.ndarray,
    *,
    samples: int = 10_000,
    seed: int | np.random.Generator = 0,
) -> float:
    """Two-sided paired randomization test of equal means (signs of differences flipped).

    Args:
        first: Values of one system, [Q].
        second: Values of the other on the same queries, [Q]; NaN in either leaves the query out.
        samples: Number of random sign vectors.
        seed: Seed or generator.

    Returns:
        p, at least 1 / (samples + 1); 1 when no query is left or nothing differs.

    Raises:
        ValueError: When the two have different lengths.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values need equal lengths: {first.shape} and {second.shape}.")
    difference = first - second
    # Queries without a difference add nothing under any sign.
    difference = difference[~np.isnan(difference) & (difference != 0)]
    if not len(difference):
        return 1.0
    rng = np.random.default_rng(seed)
    bound = abs(difference.sum()) * (1 - 1e-12)
    chunk = max(1, _CELLS // len(difference))
    extreme = 0
    for start in range(0, samples, chunk):
        signs = rng.integers(0, 2, (min(chunk, samples - start), len(difference))) * 2.0 - 1.0
        extreme += int((np.abs(signs @ difference) >= bound).sum())
    return (1 + extreme) / (samples + 1)
