"""Item-level retrieval metrics, one value a query.

Conventions: nDCG has linear gain and a log2 discount, its ideal ranks all judged documents with a
gain above 0; MAP divides by all relevant documents (trec_eval), also beyond the cut; a query
without any relevant document has no value (NaN) and is left out of means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hf_genret.evaluation.run import flatten


class Judgments:
    """Relevance of one split, ready for vectorised look-up.

    Args:
        relevant: For each query document row -> gain; gains of 0 or less are not relevant.
    """

    def __init__(self, relevant: Sequence[dict[int, float]]) -> None:
        pairs = [
            (query, row, gain)
            for query, gains in enumerate(relevant)
            for row, gain in gains.items()
            if gain > 0
        ]
        table = np.asarray(pairs, dtype=np.float64).reshape(-1, 3)
        self.query = table[:, 0].astype(np.int64)
        self.row = table[:, 1].astype(np.int64)
        self.gain = table[:, 2]
        self.count = np.bincount(self.query, minlength=len(relevant))  # [Q]
        self._span = int(self.row.max(initial=0)) + 1
        key = self.query * self._span + self.row
        order = np.argsort(key)
        self._keys, self._gains = key[order], self.gain[order]

    def __len__(self) -> int:
        return len(self.count)

    def gains(self, query: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Gain of each (query, row) pair, 0 where not relevant.

        Args:
            query: Query numbers, any shape, int64.
            row: Document rows, the same shape.

        Returns:
            float64 of the same shape.
        """
        if not len(self._keys):
            return np.zeros(len(row))
        key = query * self._span + row
        place = np.searchsorted(self._keys, key).clip(max=len(self._keys) - 1)
        # A row beyond the span would wrap into the next query's keys.
        return np.where((self._keys[place] == key) & (row < self._span), self._gains[place], 0.0)

    def ideal_dcg(self, k: int) -> np.ndarray:
        """Best DCG@k that each query allows: [Q], 0 for a query without relevant documents."""
        order = np.lexsort((-self.gain, self.query))
        query, gain = self.query[order], self.gain[order]
        rank = np.arange(len(query)) - (np.cumsum(self.count) - self.count)[query]
        inside = rank < k
        value = gain[inside] / np.log2(rank[inside] + 2)
        return np.bincount(query[inside], value, minlength=len(self))

    def by_query(self, values: np.ndarray) -> np.ndarray:
        """Values [Q] with NaN where the query has no relevant document."""
        return np.where(self.count > 0, values, np.nan)


@dataclass
class RankedGains:
    """Gains in the order of a ranking.

    Attributes:
        gains: Gain at each rank, [Q, depth]; 0 where nothing relevant stands.
        judgments: The judgments they come from.
    """

    gains: np.ndarray
    judgments: Judgments

    @classmethod
    def of(cls, rows: list[np.ndarray], judgments: Judgments, depth: int) -> RankedGains:
        """Look up the gains of rankings.

        Args:
            rows: Ranked rows, best first, one array a query.
            judgments: Judgments of the same queries.
            depth: Ranks to look at.
        """
        query, row = flatten([array[:depth] for array in rows])
        gains = np.zeros((len(rows), depth))
        if len(query):
            starts = np.searchsorted(query, np.arange(len(rows)))
            gains[query, np.arange(len(query)) - starts[query]] = judgments.gains(query, row)
        return cls(gains, judgments)


def recall(ranked: RankedGains, k: int) -> np.ndarray:
    """Relevant documents among the first k / all relevant documents: [Q]."""
    found = np.count_nonzero(ranked.gains[:, :k] > 0, axis=1)
    return ranked.judgments.by_query(found / np.maximum(ranked.judgments.count, 1))


def hit(ranked: RankedGains, k: int) -> np.ndarray:
    """1 where a relevant document stands among the first k, else 0: [Q]."""
    found = np.any(ranked.gains[:, :k] > 0, axis=1)
    return ranked.judgments.by_query(np.where(found, 1.0, 0.0))


def mrr(ranked: RankedGains, k: int) -> np.ndarray:
    """1 / rank of the first relevant document among the first k, else 0: [Q]."""
    relevant = ranked.gains[:, :k] > 0
    value = np.where(relevant.any(1), 1.0 / (relevant.argmax(1) + 1), 0.0)
    return ranked.judgments.by_query(value)


def ndcg(ranked: RankedGains, k: int) -> np.ndarray:
    """DCG@k with linear gain and log2 discount / the best possible DCG@k: [Q]."""
    gains = ranked.gains[:, :k]
    dcg = gains @ (1.0 / np.log2(np.arange(gains.shape[1]) + 2))
    ideal = ranked.judgments.ideal_dcg(k)
    return ranked.judgments.by_query(dcg / np.where(ideal > 0, ideal, 1.0))


def average_precision(ranked: RankedGains, k: int) -> np.ndarray:
    """Precision at each relevant rank up to k, summed / all relevant documents: [Q]."""
    relevant = ranked.gains[:, :k] > 0
    precision = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)
    total = np.where(relevant, precision, 0.0).sum(axis=1)
    return ranked.judgments.by_query(total / np.maximum(ranked.judgments.count, 1))


METRICS: dict[str, Callable[[RankedGains, int], np.ndarray]] = {
    "ndcg": ndcg,
    "recall": recall,
    "mrr": mrr,
    "map": average_precision,
    "hit": hit,
}


def item_metrics(
    rows: list[np.ndarray], relevant: Sequence[dict[int, float]], ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Every metric at every cut.

    Args:
        rows: Ranked rows, best first, one array a query.
        relevant: For each query document row -> gain.
        ks: Cuts, each at least 1.

    Returns:
        `{"ndcg@10": values [Q], ...}` for ndcg, recall, mrr, map and hit.
    """
    ranked = RankedGains.of(rows, Judgments(relevant), max(ks))
    return {f"{name}@{k}": metric(ranked, k) for name, metric in METRICS.items() for k in ks}


def candidate_recall(
    pools: list[np.ndarray] | None, relevant: Sequence[dict[int, float]]
) -> np.ndarray:
    """Share of each query's relevant documents that were ranked at all.

    Args:
        pools: Rows that were ranked, one array a query; None = all documents, recall 1.
        relevant: For each query document row -> gain.

    Returns:
        Values [Q], NaN for a query without relevant documents.
    """
    judgments = Judgments(relevant)
    if pools is None:
        return judgments.by_query(np.ones(len(judgments)))
    query, row = flatten([np.unique(pool) for pool in pools])
    found = np.bincount(query, judgments.gains(query, row) > 0, minlength=len(judgments))
    return judgments.by_query(found / np.maximum(judgments.count, 1))
