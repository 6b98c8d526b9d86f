"""From scores of all documents to ranked rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from tqdm.auto import tqdm

from hf_genret.data.schema import Queries
from hf_genret.errors import ConfigError
from hf_genret.evaluation.run import Run, flatten

_CELLS = 4_000_000  # scores held at once

Ranked = tuple[list[np.ndarray], list[np.ndarray]]
"""Rows and scores, best first, one array a query."""


def top_rows(scores: np.ndarray, depth: int) -> Ranked:
    """The best rows of each query, best first.

    Args:
        scores: Scores of all documents, [Q, N]; a document at -inf is never returned.
        depth: Rows wanted; fewer come back when fewer documents are left.

    Returns:
        Rows (int64) and their scores, one array a query; equal scores in row order.
    """
    depth = min(depth, scores.shape[1])
    best = np.sort(_best(scores, depth), axis=1)
    value = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-value, axis=1, kind="stable")
    best, value = np.take_along_axis(best, order, axis=1), np.take_along_axis(value, order, axis=1)
    kept = (value > -np.inf).sum(axis=1).tolist()  # -inf stands last
    rows = [row[:count].astype(np.int64) for row, count in zip(best, kept, strict=True)]
    return rows, [row[:count] for row, count in zip(value, kept, strict=True)]


def _best(scores: np.ndarray, depth: int) -> np.ndarray:
    """Columns of the `depth` largest scores of each row, in any order; at a tie the first ones."""
    total = scores.shape[1]
    if depth == total:
        return np.broadcast_to(np.arange(total), scores.shape)
    best = np.argpartition(scores, total - depth, axis=1)[:, total - depth :]
    bound = np.take_along_axis(scores, best, axis=1).min(axis=1)
    # A partition keeps any of the scores that tie at the cut.
    tied = (scores >= bound[:, None]).sum(axis=1) > depth
    for query in np.flatnonzero(tied & (bound > -np.inf)):
        candidates = np.flatnonzero(scores[query] >= bound[query])
        order = np.argsort(-scores[query, candidates], kind="stable")
        best[query] = candidates[order[:depth]]
    return best


def history_rows(queries: Queries, exclude_history: bool) -> Sequence[np.ndarray] | None:
    """The rows that each query may not get back, None when nothing is excluded.

    Raises:
        ConfigError: When histories shall be excluded and the queries have none.
    """
    if not exclude_history:
        return None
    if queries.histories is None:
        raise ConfigError("exclude_history needs queries with histories; these have none.")
    return queries.histories


def rank_all(
    name: str,
    score: Callable[[int, int], np.ndarray],
    queries: Queries,
    *,
    num_documents: int,
    depth: int,
    exclude_history: bool = False,
) -> Run:
    """Rank all documents by a score function, in chunks of queries.

    Args:
        name: Name of the system.
        score: Gives the scores [end - start, N] of the queries start..end as a fresh array.
        queries: The split.
        num_documents: Size of the corpus N.
        depth: Ranks to keep.
        exclude_history: Leave out the rows of each query's history.

    Returns:
        A run with the measured milliseconds a query; its notes say whether histories were
        excluded, where queries have histories.
    """
    excluded = history_rows(queries, exclude_history)

    def find(start: int, end: int) -> Ranked:
        values = score(start, end)  # [end - start, N]
        if excluded is not None:
            values[flatten(list(excluded[start:end]))] = -np.inf
        return top_rows(values, depth)

    chunk = max(1, min(256, _CELLS // max(num_documents, 1)))
    return rank_chunks(name, find, queries, chunk, history_note(queries, exclude_history))


def rank_chunks(
    name: str, find: Callable[[int, int], Ranked], queries: Queries, chunk: int, notes: list[str]
) -> Run:
    """A run made some queries at a time.

    Args:
        name: Name of the system.
        find: Rows and scores, best first, of the queries from a number up to another one.
        queries: The split.
        chunk: Queries at a time.
        notes: Of the run.

    Returns:
        A run with the measured milliseconds a query.
    """
    rows: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    began = time.perf_counter()
    for start in tqdm(range(0, len(queries), chunk), desc=name, leave=False, delay=2):
        found, values = find(start, min(start + chunk, len(queries)))
        rows += found
        scores += values
    latency = 1000 * (time.perf_counter() - began) / max(len(queries), 1)
    return Run(name, rows, scores, latency_ms=latency, notes=notes)


def history_note(queries: Queries, exclude_history: bool) -> list[str]:
    """What a report has to say about histories; nothing where queries have none."""
    if queries.histories is None:
        return []
    return ["history excluded" if exclude_history else "history not excluded"]
