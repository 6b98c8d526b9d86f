"""Runs of several seeds as figures of one system: means, spread, intervals, groups, pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_genret.data import Queries
from hf_genret.evaluation import Run, per_query
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.metrics import item_metrics
from hf_genret.evaluation.pools import pool_values

CURVE = (5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1000)
"""Documents ranked at which quality is drawn."""

Values = dict[str, np.ndarray]
Facts = dict[str, Any]


def seed_values(runs: Sequence[Run], queries: Queries) -> list[Values]:
    """Item-level values of every query, one dictionary a seed."""
    return [per_query(run, queries) for run in runs]


def over_seeds(values: Sequence[Values]) -> Values:
    """The mean over seeds at every query."""
    return {name: np.mean([seed[name] for seed in values], axis=0) for name in values[0]}


def metric_facts(values: Sequence[Values]) -> Facts:
    """Mean, bootstrap interval and seeds of each metric.

    Queries are resampled, each with the mean over its seeds; how far the seeds differ stands
    beside it.

    Args:
        values: Metric -> [Q], one dictionary a seed.

    Returns:
        Metric -> `mean`, `low`, `high`, `seeds` (one mean each), and with several seeds `spread`
        (`min`, `max`, `std` from three seeds on).
    """
    whole: Facts = summarise(over_seeds(values))
    for name, entry in whole.items():
        means = [float(np.nanmean(seed[name])) for seed in values]
        entry["seeds"] = means
        entry["spread"] = spread(means)
    return whole


def spread(means: Sequence[float]) -> dict[str, float] | None:
    """How far seeds differ; None for one seed."""
    if len(means) < 2:
        return None
    facts = {"min": min(means), "max": max(means)}
    if len(means) > 2:
        facts["std"] = float(np.std(means, ddof=1))
    return facts


def equal_pool(runs: Sequence[Run], queries: Queries, pool: int) -> Facts:
    """Quality of the first `pool` documents; the mean over seeds, with intervals.

    These are the documents of the leaves in the order visited, and the first of the ranking for a
    system without leaves.
    """
    points = [first_documents(run, queries, [pool])[pool] for run in runs]
    documents = [float(np.nanmean(point.pop("documents"))) for point in points]
    return {"documents": float(np.mean(documents)), **metric_facts(points)}


def first_documents(run: Run, queries: Queries, sizes: Sequence[int]) -> dict[int, Values]:
    """`documents`, `candidate_recall` and `ndcg@10` of the first documents, each [Q].

    Args:
        run: What the system returned.
        queries: The split.
        sizes: How many documents; beyond the ranks kept of a system without leaves its recall is
            a lower bound.
    """
    if run.buckets is not None:
        return pool_values(run, queries, sizes)
    lengths = np.asarray([len(rows) for rows in run.rows])
    found = item_metrics(run.rows, queries.relevant, (10, *sizes))
    return {
        size: {
            "documents": np.minimum(lengths, size).astype(float),
            "candidate_recall": found[f"recall@{size}"],
            "ndcg@10": found["ndcg@10"] if size >= 10 else _first_ndcg(run, queries, size),
        }
        for size in sizes
    }


def _first_ndcg(run: Run, queries: Queries, size: int) -> np.ndarray:
    """nDCG@10 of fewer than ten documents."""
    return item_metrics([rows[:size] for rows in run.rows], queries.relevant, (10,))["ndcg@10"]


def curve(runs: Sequence[Run], queries: Queries, pool: float) -> dict[str, list[Any]]:
    """Quality against documents ranked, up to what the system ranks; the mean over seeds.

    Args:
        runs: Of one system, one a seed.
        queries: The split.
        pool: Documents that it ranks on average, of those kept of a system without leaves.

    Returns:
        Columns `pool`, `documents`, `candidate_recall` and `ndcg@10`.
    """
    sizes = [size for size in CURVE if size < pool] + [max(1, round(pool))]
    points = [first_documents(run, queries, sizes) for run in runs]
    out: dict[str, list[Any]] = {"pool": sizes}
    for name in ("documents", "candidate_recall", "ndcg@10"):
        out[name] = [
            float(np.mean([np.nanmean(point[size][name]) for point in points])) for size in sizes
        ]
    return out


def averaged(values: Sequence[Any]) -> Any:
    """The mean of equal trees of numbers; what is equal or no number comes from the first."""
    first = values[0]
    if all(value == first for value in values):
        return first
    if isinstance(first, Mapping):
        return {key: averaged([value[key] for value in values]) for key in first}
    if isinstance(first, list) and all(
        isinstance(value, list) and len(value) == len(first) for value in values
    ):
        return [averaged(list(entries)) for entries in zip(*values, strict=True)]
    numbers = [isinstance(value, (int, float)) and not isinstance(value, bool) for value in values]
    return float(np.mean(values)) if all(numbers) else first
