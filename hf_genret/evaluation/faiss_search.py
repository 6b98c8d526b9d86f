"""Exhaustive inner-product search by FAISS, with ties in row order as everywhere else."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hf_genret.data.schema import Queries
from hf_genret.errors import ConfigError, MissingExtraError
from hf_genret.evaluation.ranking import Ranked, history_note, rank_chunks, top_rows
from hf_genret.evaluation.run import Run

Engine = Literal["auto", "faiss", "numpy"]

_SLACK = 32  # ranks looked at beyond the depth, so that ties at the cut are seen
_CHUNK = 256  # queries searched at once


def load_faiss(engine: Engine, exclude_history: bool) -> Any | None:
    """FAISS where it is wanted and can do the work.

    Args:
        engine: `auto` takes it where it is installed and nothing has to be left out.
        exclude_history: Whether rows of histories have to be left out.

    Returns:
        The module, or None: search without it.

    Raises:
        ConfigError: When the engine is unknown, or `faiss` and histories shall be left out.
        MissingExtraError: When the engine is `faiss` and it is not installed.
    """
    if engine not in ("auto", "faiss", "numpy"):
        raise ConfigError(f"Unknown engine '{engine}'; known: auto, faiss, numpy.")
    if engine == "faiss" and exclude_history:
        raise ConfigError("engine 'faiss' cannot leave histories out; use 'auto' or 'numpy'.")
    if engine == "numpy" or exclude_history:
        return None
    try:
        import faiss
    except ImportError as error:
        if engine == "faiss":
            raise MissingExtraError("faiss-cpu", "baselines", "engine 'faiss'") from error
        return None
    return faiss


def rank_by_faiss(
    faiss: Any, name: str, left: np.ndarray, right: np.ndarray, queries: Queries, *, depth: int
) -> Run:
    """Rank all documents by inner product.

    Args:
        faiss: The module.
        name: Name of the system.
        left: Query vectors, float32 [Q, D].
        right: Document vectors, float32 [N, D].
        queries: The split.
        depth: Ranks to keep.

    Returns:
        A run with the measured milliseconds a query; building the index is not measured.
    """
    right = np.ascontiguousarray(right)
    index = faiss.IndexFlatIP(right.shape[1])
    index.add(right)

    def find(start: int, end: int) -> Ranked:
        return _search(index, np.ascontiguousarray(left[start:end]), right, depth)

    notes = [*history_note(queries, False), "exhaustive search by FAISS IndexFlatIP"]
    return rank_chunks(name, find, queries, _CHUNK, notes)


def _search(index: Any, left: np.ndarray, right: np.ndarray, depth: int) -> Ranked:
    """The best rows of some queries, equal scores in row order."""
    total = len(right)
    depth = min(depth, total)
    wanted = min(total, depth + _SLACK)
    value, row = index.search(left, wanted)  # [q, wanted], best first
    order = np.lexsort((row, -value), axis=1)[:, :depth]
    rows = list(np.take_along_axis(row, order, axis=1).astype(np.int64))
    scores = list(np.take_along_axis(value, order, axis=1))
    if wanted < total:
        # Rows that tie with the last rank may lie beyond what was looked at.
        for query in np.flatnonzero(value[:, depth - 1] <= value[:, -1]):
            best, best_scores = top_rows(left[query : query + 1] @ right.T, depth)
            rows[query], scores[query] = best[0], best_scores[0]
    return rows, scores
