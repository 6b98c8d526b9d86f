"""One run against one split: metrics with intervals, costs, and who was seen in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_genret.data.schema import Queries
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.expectation import expectation_metrics
from hf_genret.evaluation.metrics import candidate_recall, item_metrics
from hf_genret.evaluation.run import Run

KS = (1, 5, 10, 20, 50, 100)
HEADLINE = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
"""What is reported of seen and unseen documents apart."""


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


def query_groups(queries: Queries, seen_rows: np.ndarray) -> np.ndarray:
    """Whether the relevant documents of each query were relevant in training.

    Args:
        queries: The split, with judgments.
        seen_rows: Rows that are relevant to some training query.

    Returns:
        [Q] strings: `seen` (all of them), `unseen` (none), `mixed`, or `unjudged` (no relevant
        document at all).
    """
    query, row = queries.pairs()
    gain = np.asarray([g for gains in queries.relevant for g in gains.values()], dtype=np.float64)
    query, row = query[gain > 0], row[gain > 0]
    total = np.bincount(query, minlength=len(queries))
    seen = np.bincount(query, np.isin(row, seen_rows), minlength=len(queries))
    return np.select(
        [total == 0, seen == total, seen == 0], ["unjudged", "seen", "unseen"], default="mixed"
    )


def evaluate_run(
    run: Run,
    queries: Queries,
    *,
    num_documents: int,
    seen_rows: np.ndarray | None,
    ks: Sequence[int] = KS,
    seed: int = 0,
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

    Returns:
        `metrics` (name -> mean, low, high), `queries` (with a relevant document), `unjudged`,
        `documents_ranked` (mean pool size), `share_ranked` (of the corpus), `candidate_recall`,
        `latency_ms`, `bytes`, `notes`; where known `seen`, `unseen` and `mixed` (each `queries`
        and the headline `metrics`), `expectation` (ids alone, random order inside a bucket) and
        `bucket` (bucket-level, k counted in buckets).

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
    }
    if seen_rows is not None:
        result |= _grouped(values, query_groups(queries, seen_rows), seed)
    if run.buckets is not None:
        items, buckets = expectation_metrics(run.buckets, queries.relevant, ks)
        result["expectation"] = summarise(items, seed=seed)
        result["bucket"] = summarise(buckets, seed=seed)
    return result


def _grouped(
    values: Mapping[str, np.ndarray], groups: np.ndarray, seed: int
) -> dict[str, dict[str, Any]]:
    """Headline metrics of seen, unseen and mixed queries."""
    names = [name for name in (*HEADLINE, "candidate_recall") if name in values]
    parts = {}
    for group in ("seen", "unseen", "mixed"):
        inside = groups == group
        metrics = summarise({name: values[name][inside] for name in names}, seed=seed)
        parts[group] = {"queries": int(inside.sum()), "metrics": metrics}
    return parts
