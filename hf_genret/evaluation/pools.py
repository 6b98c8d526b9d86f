"""Systems compared at equal pools: what the first P documents of the visited leaves hold.

Leaves are taken in the order visited until P documents are together. Of the leaf in which the cut
falls, every document is kept with equal probability, and figures are exact expectations over that
choice, so that systems with large and small leaves can stand on one axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from hf_genret.data.schema import Queries
from hf_genret.evaluation.expectation import BucketTable, expected_recall, first_buckets
from hf_genret.evaluation.metrics import Judgments
from hf_genret.evaluation.run import Run, flatten


def candidate_recall_at(
    buckets: list[list[np.ndarray]], relevant: Sequence[dict[int, float]], sizes: Sequence[int]
) -> dict[int, np.ndarray]:
    """Candidate recall at equal pools.

    Args:
        buckets: Rows of each visited leaf in the order visited, one list a query.
        relevant: For each query document row -> gain.
        sizes: Pool sizes P, in documents.

    Returns:
        P -> expected share of the relevant documents among the first P, [Q]; NaN for a query
        without relevant documents. A query whose leaves hold fewer documents has what they hold.
    """
    table = BucketTable.of(buckets, Judgments(relevant))
    return {int(size): expected_recall(table, int(size)) for size in sizes}


def visited_leaves(run: Run) -> list[list[np.ndarray]]:
    """The leaves of a run; each ranked document is its own where a system has none.

    Args:
        run: What the system returned.
    """
    if run.buckets is not None:
        return run.buckets
    return [list(np.asarray(rows).reshape(-1, 1)) for rows in run.rows]


def pool_values(
    run: Run, queries: Queries, sizes: Sequence[int], *, k: int = 10
) -> dict[int, dict[str, np.ndarray]]:
    """Quality of every query when only the first P documents of its leaves may be ranked.

    The final ranking is restricted to the pool and its order stays. Documents that the ranking
    lacks (it was cut, or never scored them) stay out, so the run should be deeper than k: where
    fewer than k documents of the pool are ranked, nDCG is a lower bound.

    Args:
        run: What the system returned; without buckets the ranking itself is what it visited.
        queries: The split, with judgments.
        sizes: Pool sizes P, in documents.
        k: Cut of nDCG.

    Returns:
        P -> `documents` (in the pool), `candidate_recall` and `ndcg@k`, each [Q]; the latter two
        NaN for a query without relevant documents.

    Raises:
        DataError: When run and queries do not belong together.
    """
    run.check(len(queries))
    judgments = Judgments(queries.relevant)
    leaves = visited_leaves(run)
    table = BucketTable.of(leaves, judgments)
    ranked = _Ranked.of(run.rows, first_buckets(leaves), table)
    return {
        int(size): {
            "documents": table.per_query(table.kept(int(size))),
            "candidate_recall": expected_recall(table, int(size)),
            f"ndcg@{k}": _expected_ndcg(ranked, table, int(size), k),
        }
        for size in sizes
    }


def pool_curve(
    run: Run, queries: Queries, sizes: Sequence[int], *, k: int = 10
) -> dict[str, list[Any]]:
    """Quality against documents ranked, as means over the judged queries.

    Args:
        run: What the system returned.
        queries: The split, with judgments.
        sizes: Pool sizes P, in documents.
        k: Cut of nDCG.

    Returns:
        Columns as long as `sizes`: `pool` (P), `documents` (in the pool on average: fewer than P
        where the leaves hold fewer), `candidate_recall` and `ndcg@k`; None without judged queries.

    Raises:
        DataError: When run and queries do not belong together.
    """
    points = pool_values(run, queries, sizes, k=k)
    names = ("documents", "candidate_recall", f"ndcg@{k}")
    curve: dict[str, list[Any]] = {"pool": list(points), **{name: [] for name in names}}
    for values in points.values():
        judged = ~np.isnan(values["candidate_recall"])
        for name in names:
            curve[name].append(float(values[name][judged].mean()) if judged.any() else None)
    return curve


@dataclass
class _Ranked:
    """The ranked documents of all queries that stand in a leaf, flat, R in number.

    Attributes:
        query: Query of each, [R], ascending, best ranked first inside a query.
        bucket: Its leaf, numbered over all queries, [R].
        gain: Its gain, [R].
    """

    query: np.ndarray
    bucket: np.ndarray
    gain: np.ndarray

    @classmethod
    def of(
        cls, rows: list[np.ndarray], leaves: tuple[np.ndarray, np.ndarray], table: BucketTable
    ) -> _Ranked:
        query, row = flatten(rows)
        bucket, member = leaves
        span = 1 + max(int(row.max(initial=0)), int(member.max(initial=0)))
        known = table.query[bucket] * span + member  # sorted: by query, then row
        wanted = query * span + row
        place = np.searchsorted(known, wanted).clip(max=max(len(known) - 1, 0))
        inside = known[place] == wanted if len(known) else np.zeros(len(wanted), dtype=bool)
        query, row = query[inside], row[inside]
        return cls(query, bucket[place[inside]], table.judgments.gains(query, row))


def _expected_ndcg(ranked: _Ranked, table: BucketTable, pool: int, k: int) -> np.ndarray:
    """Expected nDCG@k of the ranking restricted to the first `pool` documents of the leaves, [Q].

    A document is ranked behind those above it that are in the pool for sure, and behind a
    hypergeometric number of those that stand in the leaf of the cut.
    """
    kept = table.kept(pool)  # [B]
    whole, cut = kept == table.size, (kept > 0) & (kept < table.size)
    drawn_from = table.per_query(table.size * cut).astype(np.int64)  # [Q], 0 without such a leaf
    drawn = table.per_query(kept * cut).astype(np.int64)
    certain, perhaps = whole[ranked.bucket], cut[ranked.bucket]  # [R]
    # Only relevant documents that can still reach the first k ranks add something.
    pick = np.flatnonzero((ranked.gain > 0) & (certain | perhaps))
    above = _above(certain, ranked.query, pick)
    pick, above = pick[above < k], above[above < k]
    maybe = _above(perhaps, ranked.query, pick)
    query, own = ranked.query[pick], perhaps[pick].astype(np.int64)
    chance = np.where(own, drawn[query] / np.maximum(drawn_from[query], 1), 1.0)
    discount = _expected_discount(above, maybe, drawn_from[query] - own, drawn[query] - own, k)
    dcg = np.bincount(query, ranked.gain[pick] * chance * discount, minlength=len(table.judgments))
    ideal = table.judgments.ideal_dcg(k)
    return table.judgments.by_query(dcg / np.where(ideal > 0, ideal, 1.0))


def _above(flags: np.ndarray, query: np.ndarray, pick: np.ndarray) -> np.ndarray:
    """How many flagged entries of the same query stand before each of the picked ones, [P]."""
    if not len(pick):
        return np.zeros(0, dtype=np.int64)
    before = np.cumsum(flags) - flags
    first = np.searchsorted(query, query[pick])  # where the query of each one begins
    return before[pick] - before[first]


def _expected_discount(
    above: np.ndarray, maybe: np.ndarray, others: np.ndarray, drawn: np.ndarray, k: int
) -> np.ndarray:
    """E[1 / log2(1 + rank), rank <= k] for rank = 1 + above + Hypergeometric(others, maybe, drawn).

    Args:
        above: Documents above that are in the pool for sure, [P].
        maybe: Documents above that are in the leaf of the cut, [P].
        others: Documents of that leaf without the document itself, [P].
        drawn: How many of them are kept, [P].
        k: Cut.
    """
    others = np.maximum(others, 1)  # no leaf of the cut: one document, of which none is drawn
    value = np.zeros(len(above))
    for extra in range(k):
        chance = hypergeom.pmf(extra, others, maybe, drawn)
        rank = above + extra + 1
        value += np.where(rank <= k, chance / np.log2(rank + 1), 0.0)
    return value
