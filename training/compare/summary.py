"""Runs of several seeds as figures of one system: means, spread, intervals, groups, pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_genret.data import Queries
from hf_genret.evaluation import Run, frequency_groups, grouped_metrics, per_query, query_groups
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.frequency import HEAD_TO_TAIL, Edges
from hf_genret.evaluation.pools import pool_curve, pool_values

GROUPED = ("ndcg@10", "recall@10", "recall@100", "mrr@10", "candidate_recall")
CURVE = (5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1000)
"""Documents ranked at which quality is drawn."""

Values = dict[str, np.ndarray]
Facts = dict[str, Any]


@dataclass
class Groups:
    """Labels of the queries, the same for every system.

    Attributes:
        seen: Seen, unseen or mixed documents, [Q]; None without training queries.
        thirds: Head, torso, tail, [Q]; likewise.
        fifths: Five buckets of training frequency, [Q]; likewise.
        edges: Lowest and highest training frequency of each of the groups above.
    """

    seen: np.ndarray | None
    thirds: np.ndarray | None
    fifths: np.ndarray | None
    edges: Edges

    @classmethod
    def of(
        cls, queries: Queries, seen_rows: np.ndarray | None, counts: np.ndarray | None
    ) -> Groups:
        """Look at a split.

        Args:
            queries: The split.
            seen_rows: Rows relevant to some training query; None = not known.
            counts: Training frequency of each document; None = not known.
        """
        seen = None if seen_rows is None else query_groups(queries, seen_rows)
        if counts is None:
            return cls(seen, None, None, {})
        thirds, edges3 = frequency_groups(queries, counts, 3)
        fifths, edges5 = frequency_groups(queries, counts, 5)
        return cls(seen, thirds, fifths, {**edges3, **edges5})

    def measure(self, values: Values) -> Facts:
        """Metrics of every group."""
        chosen = {name: values[name] for name in GROUPED if name in values}
        out: Facts = {}
        if self.seen is not None:
            out |= grouped_metrics(chosen, self.seen, groups=("seen", "unseen", "mixed"))
        for name, labels in (("frequency", self.thirds), ("frequency5", self.fifths)):
            if labels is None:
                continue
            names = [edge for edge in self.edges if (edge in HEAD_TO_TAIL) == (name == "frequency")]
            found = grouped_metrics(chosen, labels, groups=names)
            out[name] = {key: {**found[key], "edges": self.edges[key]} for key in names}
        return out


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
    """Quality of the first `pool` documents; the mean over seeds, with intervals."""
    points = [pool_values(run, queries, [pool])[pool] for run in runs]
    documents = [float(np.nanmean(point.pop("documents"))) for point in points]
    return {"documents": float(np.mean(documents)), **metric_facts(points)}


def curve(runs: Sequence[Run], queries: Queries, pool: float) -> dict[str, list[Any]]:
    """Quality against documents ranked, up to what the system ranks; the mean over seeds."""
    sizes = [size for size in CURVE if size < pool] + [max(1, round(pool))]
    found: dict[str, list[Any]] = averaged([pool_curve(run, queries, sizes) for run in runs])
    return found


def averaged(values: Sequence[Any]) -> Any:
    """The mean of equal trees of numbers; what is no number comes from the first."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, Mapping):
        return {key: averaged([value[key] for value in values]) for key in first}
    if isinstance(first, list) and all(
        isinstance(value, list) and len(value) == len(first) for value in values
    ):
        return [averaged(list(entries)) for entries in zip(*values, strict=True)]
    numbers = [isinstance(value, (int, float)) and not isinstance(value, bool) for value in values]
    return float(np.mean(values)) if all(numbers) else first
