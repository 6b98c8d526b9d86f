"""What ids alone achieve: metrics when the order inside each bucket is uniformly random.

A bucket is the set of documents that share a docid. Systems whose ids are not unique often count
a bucket hit as a document hit; here the expectation over random orders inside the buckets is
computed exactly, and the bucket-level figure stands beside it under a name of its own.
A row that stands in several buckets of a query counts at the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_genret.evaluation.metrics import Judgments
from hf_genret.evaluation.run import flatten


@dataclass
class BucketTable:
    """All buckets of all queries, flat, B in number.

    Attributes:
        query: Query of each bucket, [B], ascending.
        position: Place in the query's beam from 0, [B].
        start: Rank (from 0) of the bucket's first document, [B].
        size: Documents that stand in no earlier bucket of the query, [B].
        relevant: Relevant documents among them, [B].
        gain: Sum of their gains, [B].
        judgments: The judgments they come from.
    """

    query: np.ndarray
    position: np.ndarray
    start: np.ndarray
    size: np.ndarray
    relevant: np.ndarray
    gain: np.ndarray
    judgments: Judgments

    @classmethod
    def of(cls, buckets: list[list[np.ndarray]], judgments: Judgments) -> BucketTable:
        """Sizes and gains of buckets after rows of earlier buckets are left out.

        Args:
            buckets: Rows of each bucket in beam order, one list a query.
            judgments: Judgments of the same queries.
        """
        per_query = np.asarray([len(beams) for beams in buckets], dtype=np.int64)
        query = np.repeat(np.arange(len(buckets)), per_query)  # [B]
        position = np.arange(len(query)) - (np.cumsum(per_query) - per_query)[query]
        bucket, row = flatten([rows for beams in buckets for rows in beams])
        # Buckets are flat in beam order, so the first occurrence is the earliest bucket.
        key = query[bucket] * (int(row.max(initial=0)) + 1) + row
        keep = np.unique(key, return_index=True)[1]
        bucket, row = bucket[keep], row[keep]
        gains = judgments.gains(query[bucket], row)
        size = np.bincount(bucket, minlength=len(query))
        before = np.cumsum(size) - size  # [B] documents before the bucket over all queries
        first = before[np.arange(len(query)) - position] if len(query) else before
        return cls(
            query=query,
            position=position,
            start=before - first,
            size=size,
            relevant=np.bincount(bucket, gains > 0, minlength=len(query)).astype(np.int64),
            gain=np.bincount(bucket, gains, minlength=len(query)),
            judgments=judgments,
        )

    def per_query(self, values: np.ndarray) -> np.ndarray:
        """Sum of a value [B] over the buckets of each query: [Q]."""
        return np.bincount(self.query, values, minlength=len(self.judgments))


def expected_recall(table: BucketTable, k: int) -> np.ndarray:
    """Expected Recall@k: each document of a bucket is equally likely at each of its ranks, [Q]."""
    inside = (k - table.start).clip(0, table.size)
    found = table.per_query(table.relevant * inside / np.maximum(table.size, 1))
    return table.judgments.by_query(found / np.maximum(table.judgments.count, 1))


def expected_ndcg(table: BucketTable, k: int) -> np.ndarray:
    """Expected nDCG@k: mean gain of a bucket times the discounts of its ranks up to k, [Q]."""
    # cumulated[r] = sum of the discounts of the first r ranks
    cumulated = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2))])
    end = (table.start + table.size).clip(max=k)
    discounts = cumulated[end] - cumulated[table.start.clip(max=k)]
    dcg = table.per_query(table.gain * discounts / np.maximum(table.size, 1))
    ideal = table.judgments.ideal_dcg(k)
    return table.judgments.by_query(dcg / np.where(ideal > 0, ideal, 1.0))


def expected_mrr(table: BucketTable, k: int) -> np.ndarray:
    """Expected MRR@k, exact.

    Only the first bucket with m > 0 relevant of s documents matters; the first relevant one
    stands at place j of it with probability C(s-j, m-1) / C(s, m) (negative hypergeometric).

    Args:
        table: Buckets of all queries.
        k: Cut.

    Returns:
        Values [Q].
    """
    holding = np.flatnonzero(table.relevant > 0)
    query, place = np.unique(table.query[holding], return_index=True)
    first = holding[place]
    start, size, relevant = table.start[first], table.size[first], table.relevant[first]
    chance = relevant / size  # P(first relevant at place j), j = 1
    value = np.zeros(len(first))
    for j in range(1, k + 1):
        value += np.where(start + j <= k, chance / (start + j), 0.0)
        chance = chance * (size - j - relevant + 1).clip(min=0) / np.maximum(size - j, 1)
    result = np.zeros(len(table.judgments))
    result[query] = value
    return table.judgments.by_query(result)


def bucket_recall(table: BucketTable, k: int) -> np.ndarray:
    """Share of relevant documents inside the first k *buckets*, however large these are, [Q]."""
    found = table.per_query(table.relevant * (table.position < k))
    return table.judgments.by_query(found / np.maximum(table.judgments.count, 1))


def expectation_metrics(
    buckets: list[list[np.ndarray]], relevant: Sequence[dict[int, float]], ks: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of ids alone.

    Args:
        buckets: Rows of each retrieved bucket in beam order, one list a query.
        relevant: For each query document row -> gain.
        ks: Cuts.

    Returns:
        Item-level expectations (`recall@k`, `ndcg@k`, `mrr@k`) and bucket-level figures
        (`bucket_recall@k`, k counted in buckets), each name -> values [Q].
    """
    table = BucketTable.of(buckets, Judgments(relevant))
    formulas = {"ndcg": expected_ndcg, "recall": expected_recall, "mrr": expected_mrr}
    items = {f"{name}@{k}": formula(table, k) for name, formula in formulas.items() for k in ks}
    return items, {f"bucket_recall@{k}": bucket_recall(table, k) for k in ks}
