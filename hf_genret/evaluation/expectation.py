"""What ids alone achieve: metrics when the order inside each bucket is uniformly random.

A bucket is the set of documents that share a docid. Systems whose ids are not unique often count
a bucket hit as a document hit; here the expectation over random orders inside the buckets is
computed exactly, and the bucket-level figure stands beside it under a name of its own.
A row that stands in several buckets of a query counts at the first one. Systems that merge the
scores of several ids of a document (a forest, Deep Retrieval) order documents and not buckets;
their buckets are the documents of equal merged score, so that the expectation is exact for them
too, and `bucket_recall@k` counts such groups.

A system may also stop after a number of documents (ASI++, arXiv 2405.14280: 1,000 a query, cut at
random): with the order inside a bucket random, that is the same as ranks that end there. Of the
bucket in which the cut falls, every document is kept with equal probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

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
        limit: Documents that a query may return; None = all.
    """

    query: np.ndarray
    position: np.ndarray
    start: np.ndarray
    size: np.ndarray
    relevant: np.ndarray
    gain: np.ndarray
    judgments: Judgments
    limit: int | None = None

    @classmethod
    def of(
        cls, buckets: list[list[np.ndarray]], judgments: Judgments, limit: int | None = None
    ) -> BucketTable:
        """Sizes and gains of buckets after rows of earlier buckets are left out.

        Args:
            buckets: Rows of each bucket in beam order, one list a query.
            judgments: Judgments of the same queries.
            limit: Documents that a query may return; None = all.

        Raises:
            ValueError: When the limit is below 1.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"a limit of documents is at least 1, found {limit}.")
        per_query = np.asarray([len(beams) for beams in buckets], dtype=np.int64)
        query = np.repeat(np.arange(len(buckets)), per_query)  # [B]
        position = np.arange(len(query)) - (np.cumsum(per_query) - per_query)[query]
        bucket, row = first_buckets(buckets)
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
            limit=limit,
        )

    def per_query(self, values: np.ndarray) -> np.ndarray:
        """Sum of a value [B] over the buckets of each query: [Q]."""
        return np.bincount(self.query, values, minlength=len(self.judgments))

    def kept(self, documents: int) -> np.ndarray:
        """How many documents of each bucket stand among the first `documents` ranks, [B]."""
        return (self.ranks(documents) - self.start).clip(0, self.size)

    def ranks(self, k: int) -> int:
        """How many of the first k ranks can be taken at all."""
        return k if self.limit is None else min(k, self.limit)


def first_buckets(buckets: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The bucket at which each row of a query counts.

    Args:
        buckets: Rows of each bucket in beam order, one list a query; B in all.

    Returns:
        Numbers of buckets (counted over all queries in order) and rows, both int64, sorted by
        query and row; each row once a query, at its earliest bucket.
    """
    per_query = np.asarray([len(beams) for beams in buckets], dtype=np.int64)
    query = np.repeat(np.arange(len(buckets)), per_query)  # [B]
    bucket, row = flatten([rows for beams in buckets for rows in beams])
    # Buckets are flat in beam order, so the first occurrence is the earliest bucket.
    key = query[bucket] * (int(row.max(initial=0)) + 1) + row
    keep = np.unique(key, return_index=True)[1]
    return bucket[keep], row[keep]


def expected_recall(table: BucketTable, k: int) -> np.ndarray:
    """Expected Recall@k: each document of a bucket is equally likely at each of its ranks, [Q]."""
    found = table.per_query(table.relevant * table.kept(k) / np.maximum(table.size, 1))
    return table.judgments.by_query(found / np.maximum(table.judgments.count, 1))


def expected_ndcg(table: BucketTable, k: int) -> np.ndarray:
    """Expected nDCG@k: mean gain of a bucket times the discounts of its ranks up to k, [Q]."""
    # cumulated[r] = sum of the discounts of the first r ranks
    cumulated = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2))])
    ranks = table.ranks(k)
    end = (table.start + table.size).clip(max=ranks)
    discounts = cumulated[end] - cumulated[table.start.clip(max=ranks)]
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
    query, first = _first_holding(table)
    start, size, relevant = table.start[first], table.size[first], table.relevant[first]
    chance = relevant / size  # P(first relevant at place j), j = 1
    value = np.zeros(len(first))
    ranks = table.ranks(k)
    for j in range(1, ranks + 1):
        value += np.where(start + j <= ranks, chance / (start + j), 0.0)
        chance = chance * (size - j - relevant + 1).clip(min=0) / np.maximum(size - j, 1)
    result = np.zeros(len(table.judgments))
    result[query] = value
    return table.judgments.by_query(result)


def expected_hit(table: BucketTable, k: int) -> np.ndarray:
    """Expected Hit@k: the chance of a relevant document among the first k, [Q].

    Only the first bucket with m > 0 relevant of s documents matters: where it is cut after n of
    them, all of these miss with probability C(s-m, n) / C(s, n), and no later bucket is reached.
    """
    query, first = _first_holding(table)
    missed = hypergeom.pmf(0, table.size[first], table.relevant[first], table.kept(k)[first])
    result = np.zeros(len(table.judgments))
    result[query] = 1 - missed
    return table.judgments.by_query(result)


def _first_holding(table: BucketTable) -> tuple[np.ndarray, np.ndarray]:
    """Queries that have a bucket with a relevant document, and the first such bucket of each."""
    holding = np.flatnonzero(table.relevant > 0)
    query, place = np.unique(table.query[holding], return_index=True)
    return query, holding[place]


def bucket_recall(table: BucketTable, k: int) -> np.ndarray:
    """Share of relevant documents inside the first k *buckets*, however large these are, [Q]."""
    share = 1.0 if table.limit is None else table.kept(table.limit) / np.maximum(table.size, 1)
    found = table.per_query(table.relevant * (table.position < k) * share)
    return table.judgments.by_query(found / np.maximum(table.judgments.count, 1))


def expectation_metrics(
    buckets: list[list[np.ndarray]],
    relevant: Sequence[dict[int, float]],
    ks: Sequence[int],
    limit: int | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of ids alone.

    Args:
        buckets: Rows of each retrieved bucket in beam order, one list a query.
        relevant: For each query document row -> gain.
        ks: Cuts.
        limit: Documents that a query may return, at least 1; None = all. Cuts of k up to it are
            as without it, beyond it they stay as they are at `limit` (but for the ideal of nDCG);
            bucket-level figures lose what the cut drops on average.

    Returns:
        Item-level expectations (`recall@k`, `ndcg@k`, `mrr@k`, `hit@k`) and bucket-level figures
        (`bucket_recall@k`, k counted in buckets), each name -> values [Q].

    Raises:
        ValueError: When the limit is below 1.
    """
    table = BucketTable.of(buckets, Judgments(relevant), limit)
    formulas = {
        "ndcg": expected_ndcg,
        "recall": expected_recall,
        "mrr": expected_mrr,
        "hit": expected_hit,
    }
    items = {f"{name}@{k}": formula(table, k) for name, formula in formulas.items() for k in ks}
    return items, {f"bucket_recall@{k}": bucket_recall(table, k) for k in ks}
