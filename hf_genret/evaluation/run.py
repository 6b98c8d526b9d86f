"""What a system returned for the queries of one split."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hf_genret.errors import DataError


@dataclass
class Run:
    """What one system returned for every query of a split.

    Attributes:
        name: Name of the system in reports.
        rows: Document rows, best first, int64, one array a query, already cut to the depth asked
            for; arrays may be shorter than the depth.
        scores: Scores of `rows`, in the same shape.
        pools: Rows that were ranked (the candidates), one array a query; None = all documents.
        buckets: Rows of each retrieved bucket, in beam order, one list a query; for the metrics
            of ids alone. Rows that the system may not return (an excluded history) are left out.
            Where the scores of several ids of a document are merged (`path_merge` `sum` and
            `logsumexp`), a bucket is what has equal merged scores, in the order of these.
        latency_ms: Milliseconds a query.
        bytes: Size of what the system needs to answer (index and vectors).
        notes: Facts that a report has to state.
        facts: Figures of the system itself, by name, for example the share of invalid ids.
    """

    name: str
    rows: list[np.ndarray]
    scores: list[np.ndarray] | None = None
    pools: list[np.ndarray] | None = None
    buckets: list[list[np.ndarray]] | None = None
    latency_ms: float | None = None
    bytes: int | None = None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def check(self, num_queries: int, num_documents: int | None = None) -> None:
        """Make sure that the run can be measured.

        Args:
            num_queries: Number of queries of the split.
            num_documents: Number of documents, for the range of the rows; None = not checked.

        Raises:
            DataError: When a column has another length than the split, a row is out of range, or
                a query ranks the same row twice (it would be counted twice).
        """
        for column in ("rows", "scores", "pools", "buckets"):
            values = getattr(self, column)
            if values is not None and len(values) != num_queries:
                raise DataError(
                    f"run '{self.name}' has {column} for {len(values)} queries; "
                    f"{num_queries} were expected."
                )
        query, row = flatten(self.rows)
        self._check_range(row, num_documents)
        key = np.sort(query * (int(row.max(initial=0)) + 1) + row)
        if (key[1:] == key[:-1]).any():
            raise DataError(f"run '{self.name}' ranks a document twice for the same query.")

    def _check_range(self, row: np.ndarray, num_documents: int | None) -> None:
        """Refuse rows below 0 and, where the corpus is known, beyond its end."""
        low, high = int(row.min(initial=0)), int(row.max(initial=0))
        if low < 0 or (num_documents is not None and len(row) and high >= num_documents):
            raise DataError(
                f"run '{self.name}' holds rows from {low} to {high}; "
                f"rows run from 0 to {'N' if num_documents is None else num_documents} - 1."
            )


def flatten(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ragged arrays as two flat int64 arrays.

    Args:
        arrays: One array of rows a query.

    Returns:
        Query numbers and rows, both as long as all arrays together.
    """
    lengths = np.fromiter((len(array) for array in arrays), dtype=np.int64, count=len(arrays))
    query = np.repeat(np.arange(len(arrays), dtype=np.int64), lengths)
    if not len(query):
        return query, query.copy()
    return query, np.concatenate([np.asarray(array) for array in arrays]).astype(np.int64)
