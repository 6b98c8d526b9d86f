"""One run against one split: metrics with intervals, costs, and who was seen in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from hf_genret.data.schema import Queries
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.expectation import expectation_metrics
from hf_genret.evaluation.frequency import HEAD_TO_TAIL, frequency_groups
from hf_genret.evaluation.groups import grouped_metrics, query_groups
from hf_genret.evaluation.metrics import candidate_recall, item_metrics
from hf_genret.evaluation.run import Run

KS = (1, 5, 10, 20, 50, 100)
HEADLINE = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
"""What is reported of groups of queries: seen and unseen documents, head to tail."""


def per_query(run: Run, queries: Queries, ks: Sequence[int] = KS) -> dict[str, np.ndarray]:
    """Item-level values of every query, for paired tests and plots.

    Args:
        run: What the system returned.
        queries: The split, with judgments.
        ks: Cuts.

    Returns:
        `{"ndcg@10": values [Q], ..., "candidate_recall": values [Q]}`; NaN for a query without
        relevant documents.

    Raises:
        DataError: When run and queries do not belong together.
    """
    run.check(len(queries))
    return _values(run, queries, ks)


def _values(run: Run, queries: Queries, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """`per_query` of a run that was checked already."""
    values = item_metrics(run.rows, queries.relevant, ks)
    values["candidate_recall"] = candidate_recall(run.pools, queries.relevant)
    return values


def evaluate_run(
    run: Run,
    queries: Queries,
    *,
    num_documents: int,
    seen_rows: np.ndarray | None,
    ks: Sequence[int] = KS,
    seed: int = 0,
    counts: np.ndarray | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Measure one system on one split.

    Args:
        run: What the system returned.
        queries: The split, with judgments.
        num_documents: Size of the corpus.
        seen_rows: Rows that are relevant to some training query; None = not known, and the parts
            `seen`, `unseen` and `mixed` are left out.
        ks: Cuts.
        seed: Seed of the bootstrap; equal seeds resample all systems alike.
        counts: Training frequency of each document (`training_counts`), [N]; None = not known.
        limit: Documents that ids alone may return, see `expectation_metrics`.

    Returns:
        `metrics` (name -> mean, low, high), `queries` (with a relevant document), `unjudged`,
        `documents_ranked` (mean pool size), `share_ranked` (of the corpus), `candidate_recall`,
        `latency_ms`, `bytes`, `notes`; where known `facts` (of the system itself), `seen`,
        `unseen` and `mixed` (each `queries` and the headline `metrics`), `frequency` and
        `frequency5` (`frequency_groups`: each group with `queries`, `metrics` and `edges`),
        `expectation` (ids alone, random order inside a bucket) and `bucket` (bucket-level, k
        counted in buckets).

    Raises:
        DataError: When run and queries do not belong together.
    """
    run.check(len(queries), num_documents)
    values = _values(run, queries, ks)
    summary = summarise(values, seed=seed)
    candidates = summary.pop("candidate_recall", None)
    judged = int((~np.isnan(values["candidate_recall"])).sum())
    ranked = float(num_documents)
    if run.pools is not None:
        ranked = float(np.mean([len(np.unique(pool)) for pool in run.pools])) if len(run) else 0.0
    result: dict[str, Any] = {
        "metrics": summary,
        "queries": judged,
        "unjudged": len(queries) - judged,
        "documents_ranked": ranked,
        "share_ranked": ranked / max(num_documents, 1),
        "candidate_recall": candidates,
        "latency_ms": run.latency_ms,
        "bytes": run.bytes,
        "notes": list(run.notes),
        **({"facts": dict(run.facts)} if run.facts else {}),
    }
    headline = {name: values[name] for name in (*HEADLINE, "candidate_recall") if name in values}
    result |= _groups(headline, queries, seen_rows, counts, seed)
    if run.buckets is not None:
        items, buckets = expectation_metrics(run.buckets, queries.relevant, ks, limit)
        result["expectation"] = summarise(items, seed=seed)
        result["bucket"] = summarise(buckets, seed=seed)
    return result


def _groups(
    values: Mapping[str, np.ndarray],
    queries: Queries,
    seen_rows: np.ndarray | None,
    counts: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """Metrics of the groups that are known: seen and unseen, head to tail."""
    result: dict[str, Any] = {}
    if seen_rows is not None:
        labels = query_groups(queries, seen_rows)
        result |= grouped_metrics(values, labels, seed, groups=("seen", "unseen", "mixed"))
    if counts is not None:
        result["frequency"] = _by_frequency(values, queries, counts, 3, seed)
        result["frequency5"] = _by_frequency(values, queries, counts, 5, seed)
    return result


def _by_frequency(
    values: Mapping[str, np.ndarray],
    queries: Queries,
    counts: np.ndarray,
    parts: Literal[3, 5],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Metrics from head to tail; of three groups also those without queries."""
    labels, edges = frequency_groups(queries, counts, parts)
    names = HEAD_TO_TAIL if parts == 3 else tuple(edges)
    found = grouped_metrics(values, labels, seed, groups=names)
    return {name: {**found[name], "edges": edges.get(name)} for name in names}
