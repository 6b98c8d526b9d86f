"""Head, torso and tail: queries by how often their documents were seen in training."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hf_genret.data.schema import Queries, RetrievalData
from hf_genret.evaluation.groups import UNJUDGED
from hf_genret.evaluation.interactions import training_interactions
from hf_genret.evaluation.metrics import Judgments

HEAD_TO_TAIL = ("head", "torso", "tail")

Edges = dict[str, tuple[int, int]]
"""Group -> lowest and highest training frequency of its queries, the most frequent group first."""


def training_counts(data: RetrievalData) -> np.ndarray:
    """How often each document stands in training.

    A document counts once for each training query that it is relevant to; where queries belong to
    users it counts once a user, histories included (a history is trained on as well, and the next
    query of the same user repeats it).

    Args:
        data: Data with a `train` split.

    Returns:
        [N] int64.

    Raises:
        DataError: When there are no training queries.
    """
    return np.asarray(training_interactions(data).getnnz(axis=0), dtype=np.int64)


def query_frequency(queries: Queries, counts: np.ndarray) -> np.ndarray:
    """The training frequency of what a query looks for.

    It is the lower median over its relevant documents: a frequency that one of them has, and that
    one very popular document among many does not move.

    Args:
        queries: The split, with judgments.
        counts: Training frequency of each document, [N].

    Returns:
        [Q] int64; -1 for a query without relevant documents.

    Raises:
        ValueError: When a judged row has no count.
    """
    judgments = Judgments(queries.relevant)
    counts = np.asarray(counts, dtype=np.int64)
    if len(judgments.row) and int(judgments.row.max()) >= len(counts):
        raise ValueError(
            f"row {int(judgments.row.max())} is judged; there are counts of {len(counts)} rows."
        )
    frequency = counts[judgments.row]
    order = np.lexsort((frequency, judgments.query))
    start = np.cumsum(judgments.count) - judgments.count  # [Q]
    result = np.full(len(judgments), -1, dtype=np.int64)
    judged = judgments.count > 0
    result[judged] = frequency[order[(start + (judgments.count - 1) // 2)[judged]]]
    return result


def frequency_groups(
    queries: Queries, counts: np.ndarray, parts: Literal[3, 5] = 3
) -> tuple[np.ndarray, Edges]:
    """Groups of queries by the training frequency of their relevant documents.

    Three parts split what was *trained on*: documents are sorted by training frequency; those
    before which less than a third of all training pairs lies are the head, up to two thirds the
    torso, and all others, never seen ones included, the tail. Each part stands for the same amount
    of training, so "tail" means little training for each document whatever the size of the corpus
    (a share of documents would call everything a tail where most documents were never seen).

    Five parts split the *queries* (DGI, arXiv 2603.10409): five buckets of as equal
    numbers as possible. Here equal frequencies always stay together, because a border inside
    them would compare queries that do not differ; with many of them there are fewer buckets.

    Args:
        queries: The split, with judgments; a query has the frequency of `query_frequency`.
        counts: Training frequency of each document, [N].
        parts: 3 or 5.

    Returns:
        Labels [Q] (`head`, `torso`, `tail`; or the edges of the bucket, like `47-609` or `0`;
        `unjudged` without relevant documents) and the edges of the groups that have queries.

    Raises:
        ValueError: When `parts` is neither 3 nor 5, or a judged row has no count.
    """
    if parts not in (3, 5):
        raise ValueError(f"frequency groups come in 3 or 5 parts, not {parts}.")
    frequency = query_frequency(queries, counts)
    judged = frequency >= 0
    known = frequency[judged]
    number = _part_of_training(known, counts) if parts == 3 else _part_of_queries(known, parts)
    labels = np.full(len(frequency), UNJUDGED, dtype=object)
    edges: Edges = {}
    for part in np.unique(number):
        inside = known[number == part]
        low, high = int(inside.min()), int(inside.max())
        name = HEAD_TO_TAIL[part] if parts == 3 else _span(low, high)
        edges[name] = (low, high)
        labels[np.flatnonzero(judged)[number == part]] = name
    return labels.astype(str), edges


def _part_of_training(frequency: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """0 to 2: in which third of all training pairs a frequency lies, the most frequent first."""
    counts = np.asarray(counts, dtype=np.int64)
    ordered = np.sort(counts)
    cumulated = np.concatenate([[0], np.cumsum(ordered)])
    total = int(cumulated[-1])
    # Pairs of documents that are more frequent; integers, so that a third is exact.
    before = total - cumulated[np.searchsorted(ordered, frequency, side="right")]
    thirds = (3 * before >= total).astype(np.int64) + (3 * before >= 2 * total)
    return np.where(frequency > 0, thirds, 2)


def _part_of_queries(frequency: np.ndarray, parts: int) -> np.ndarray:
    """0 to parts - 1: buckets of nearly equal size, the most frequent first, ties together."""
    if not len(frequency):
        return frequency
    values, sizes = np.unique(-frequency, return_counts=True)  # most frequent first
    ends = np.cumsum(sizes)  # every place where a border can be
    wanted = np.arange(1, parts) * len(frequency) / parts
    borders = ends[np.abs(ends[None] - wanted[:, None]).argmin(axis=1)]
    part_of_value = np.searchsorted(np.unique(borders), ends - sizes, side="right")
    return part_of_value[np.searchsorted(values, -frequency)]


def _span(low: int, high: int) -> str:
    """Edges as a label."""
    return str(low) if low == high else f"{low}-{high}"
