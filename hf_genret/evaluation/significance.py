"""Several systems against one: paired differences, their intervals and Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hf_genret.errors import ConfigError, DataError
from hf_genret.evaluation.bootstrap import bootstrap_interval, paired_p_value

Values = np.ndarray | Sequence[np.ndarray]
"""One value a query [Q], or several such arrays, one a seed of training."""


def compare_with(
    values: Mapping[str, Values],
    baseline: str,
    seed: int = 0,
    *,
    samples: int = 10_000,
    level: float = 0.95,
) -> dict[str, dict[str, float]]:
    """How far each system is from a baseline, and whether that could be chance.

    Queries are what is resampled and whose signs are flipped. A system with several seeds has the
    mean over its seeds at every query, so the interval speaks of those trainings; how far
    trainings differ among themselves has to be reported beside it.

    Args:
        values: System -> values [Q] of one metric, or one such array a seed; systems may have
            different numbers of seeds. Queries that are NaN in one of a pair are left out.
        baseline: Name of the system that the others are compared with.
        seed: Seed of bootstrap and test; equal seeds resample all systems alike.
        samples: Random sign vectors of the test.
        level: Coverage of the intervals.

    Returns:
        For every other system `difference` (mean of system - baseline), `low` and `high` (paired
        bootstrap), `p` (randomization test, Holm-corrected over all systems compared) and
        `p_single` (before the correction).

    Raises:
        ConfigError: When the baseline is not among the systems.
        DataError: When two systems have values for different numbers of queries.
    """
    if baseline not in values:
        raise ConfigError(f"Unknown baseline '{baseline}'; known: {', '.join(values)}.")
    means = {name: _over_seeds(name, value) for name, value in values.items()}
    base = means.pop(baseline)
    result: dict[str, dict[str, float]] = {}
    for name, mean in means.items():
        if mean.shape != base.shape:
            raise DataError(
                f"'{name}' has values for {len(mean)} queries; '{baseline}' has {len(base)}."
            )
        difference = mean - base
        known = difference[~np.isnan(difference)]
        low, high = bootstrap_interval(known, level=level, seed=seed)
        result[name] = {
            "difference": float(known.mean()) if len(known) else float("nan"),
            "low": low,
            "high": high,
            "p_single": paired_p_value(mean, base, samples=samples, seed=seed),
        }
    corrected = holm([entry["p_single"] for entry in result.values()])
    for entry, p in zip(result.values(), corrected, strict=True):
        entry["p"] = float(p)
    return result


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction: the chance of any false alarm stays below the level.

    Args:
        p_values: One for each of M comparisons.

    Returns:
        Corrected values in the same order, [M], at most 1, never in another order than before.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _over_seeds(name: str, values: Values) -> np.ndarray:
    """One value a query, the mean over seeds."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values.astype(np.float64)
    arrays = [np.asarray(array, dtype=np.float64) for array in values]
    lengths = sorted({len(array) for array in arrays})
    if len(lengths) != 1:
        raise DataError(f"'{name}' has seeds with values for {lengths} queries; one was expected.")
    mean: np.ndarray = np.mean(arrays, axis=0)
    return mean
