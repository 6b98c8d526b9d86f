"""Metrics of groups of queries, and the groups that training makes: seen, unseen, mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_genret.data.schema import Queries
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.metrics import Judgments

UNJUDGED = "unjudged"
"""Label of a query without any relevant document."""
MIXED = "mixed"
"""Label of a query whose relevant documents belong to several groups."""


def agreed_labels(judgments: Judgments, labels: np.ndarray) -> np.ndarray:
    """The label that all relevant documents of a query share.

    Args:
        judgments: Judgments of the split, J relevant documents over all queries.
        labels: A label for each of them, in the order of `judgments.row`, [J] strings.

    Returns:
        [Q] strings; `mixed` where the labels of a query differ, `unjudged` where it has none.
    """
    names, number = np.unique(labels, return_inverse=True)
    if not len(names):
        return np.full(len(judgments), UNJUDGED)
    low = np.full(len(judgments), len(names) - 1)
    high = np.zeros(len(judgments), dtype=np.int64)
    np.minimum.at(low, judgments.query, number.reshape(-1))
    np.maximum.at(high, judgments.query, number.reshape(-1))
    shared = np.where(low == high, names[low], MIXED)
    return np.where(judgments.count == 0, UNJUDGED, shared)


def query_groups(queries: Queries, seen_rows: np.ndarray) -> np.ndarray:
    """Whether the relevant documents of each query were relevant in training.

    Args:
        queries: The split, with judgments.
        seen_rows: Rows that are relevant to some training query.

    Returns:
        [Q] strings: `seen` (all of them), `unseen` (none), `mixed`, or `unjudged` (no relevant
        document at all).
    """
    judgments = Judgments(queries.relevant)
    seen = np.isin(judgments.row, seen_rows)
    return agreed_labels(judgments, np.where(seen, "seen", "unseen"))


def grouped_metrics(
    values: Mapping[str, np.ndarray],
    labels: np.ndarray,
    seed: int = 0,
    *,
    groups: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Means and intervals of each group of queries.

    Args:
        values: Metric name -> values [Q]. A query that is NaN in one metric is left out of all.
        labels: The group of each query, [Q] strings.
        seed: Seed of the bootstrap.
        groups: Groups wanted, in this order, also those that no query belongs to; None = all
            labels but `unjudged`, by name.

    Returns:
        `{group: {"queries": number, "metrics": {name: {"mean", "low", "high"}}}}`.

    Raises:
        ValueError: When a metric has values for another number of queries than there are labels.
    """
    labels = np.asarray(labels)
    for name, column in values.items():
        if len(column) != len(labels):
            raise ValueError(f"'{name}' has {len(column)} values; there are {len(labels)} labels.")
    if groups is None:
        groups = [str(label) for label in np.unique(labels) if label != UNJUDGED]
    parts: dict[str, dict[str, Any]] = {}
    for group in groups:
        inside = labels == group
        metrics = summarise({name: values[name][inside] for name in values}, seed=seed)
        parts[group] = {"queries": int(inside.sum()), "metrics": metrics}
    return parts
