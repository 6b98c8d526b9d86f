"""Runs and figures of single systems, as `evaluate` and `compare` share them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from hf_genret.data import Queries, RetrievalData
from hf_genret.encoding import QuerySource, pooled_vectors
from hf_genret.errors import CheckpointError
from hf_genret.evaluation import (
    Run,
    ape_report,
    bm25_run,
    content_groups,
    cooccurrence_run,
    dense_run,
    docid_report,
    grouped_metrics,
    per_query,
    popularity_run,
    random_run,
)
from hf_genret.evaluation.new_documents import CONTENT_GROUPS
from hf_genret.modeling import GenRetModel
from hf_genret.training.batches import interactions
from hf_genret.training.new_documents import FILE as NEW_FILE
from hf_genret.training.new_documents import without_labels

DEPTH = 100
"""Ranks that a report looks at."""


def _bm25(data: RetrievalData, queries: Queries, depth: int, exclude: bool, seed: int) -> Run:
    del exclude, seed
    return bm25_run(data.documents, queries, depth=depth)


def _popularity(data: RetrievalData, queries: Queries, depth: int, exclude: bool, seed: int) -> Run:
    del seed
    return popularity_run(data, queries, depth=depth, exclude_history=exclude)


def _taken_together(
    data: RetrievalData, queries: Queries, depth: int, exclude: bool, seed: int
) -> Run:
    del seed
    return cooccurrence_run(data, queries, depth=depth, exclude_history=exclude)


def _random(data: RetrievalData, queries: Queries, depth: int, exclude: bool, seed: int) -> Run:
    return random_run(len(data.documents), queries, depth, seed, exclude_history=exclude)


UNTRAINED: dict[str, Callable[[RetrievalData, Queries, int, bool, int], Run]] = {
    "bm25": _bm25,
    "cooccurrence": _taken_together,
    "popularity": _popularity,
    "random": _random,
}
"""Systems without a checkpoint: (data, queries, depth, exclude histories, seed) -> run."""


def exhaustive_run(
    model: GenRetModel,
    tokenizer: PreTrainedTokenizerBase | None,
    queries: Queries,
    *,
    name: str,
    exclude_history: bool,
    depth: int = DEPTH,
) -> Run:
    """Every document ranked by a model's encoder and ranker, without its ids.

    Args:
        model: With the vectors of the documents.
        tokenizer: Where the model reads text.
        queries: The split.
        name: Name of the system.
        exclude_history: Leave out the documents of each query's history.
        depth: Ranks to keep.

    Returns:
        A run; its milliseconds hold tokenization and encoding, as those of a search do.
    """
    began = time.perf_counter()
    vectors = pooled_vectors(model, QuerySource(model, queries, tokenizer))
    encoding = 1000 * (time.perf_counter() - began) / max(len(queries), 1)
    similarity = model.ranker.similarity
    with torch.no_grad():
        left = similarity.queries(vectors.to(model.device)).float().cpu().numpy()
        right = similarity.items(model.vectors.float().to(model.device)).cpu().numpy()
    run = dense_run(name, left, right, queries, depth=depth, exclude_history=exclude_history)
    run.latency_ms = (run.latency_ms or 0.0) + encoding
    return run


def row_codes(model: GenRetModel) -> np.ndarray:
    """The id of each document row, [N, L] (the first one of a document with several)."""
    if not len(model.index):
        return np.zeros((0, model.config.num_levels), dtype=np.int64)
    rows = torch.arange(model.config.num_documents, device=model.index.rows.device)
    codes: np.ndarray = model.index.codes_of(rows)[0].cpu().numpy()
    return codes


def ids_report(
    model: GenRetModel, data: RetrievalData, split: str, *, pool: float | None, seed: int
) -> dict[str, Any]:
    """Docid quality of a model: use of codes, buckets, APE of what training took together.

    Of documents with several ids every id counts, but for APE, which is of the first one.

    Args:
        model: With an index.
        data: Whose training queries APE is measured on; those of `split` where it has none.
        split: See `data`.
        pool: Documents ranked a query, beside which an APE has to be read.
        seed: Of the random ids beside it.
    """
    train = data.splits.get("train")
    relevant = interactions(train if train is not None and len(train) else data.split(split))
    codes, sizes = row_codes(model), model.config.codebook_sizes
    paths = model.index.paths.cpu().numpy()  # a document may own several
    if model.config.forest:  # the first tree's; all documents share the code before it
        codes, sizes = codes[:, 1:], sizes[1:]
    return {
        **docid_report(paths, model.config.codebook_sizes),
        "ape": ape_report(codes, relevant, sizes, pool=pool, seed=seed),
    }


def content_labels(
    folder: Path | None, data: RetrievalData, queries: Queries, codes: np.ndarray
) -> np.ndarray | None:
    """What is new about the documents of each query, where training did without some.

    Args:
        folder: The checkpoint.
        data: Rows in the checkpoint's order.
        queries: The split.
        codes: Ids, [N, L].

    Returns:
        [Q] strings (`hf_genret.evaluation.content_groups`); None when nothing was left out.
    """
    known = _known_documents(folder, data)
    return None if known is None else content_groups(queries, known_rows=known, codes=codes)


def trained_rows(folder: Path | None, data: RetrievalData) -> np.ndarray | None:
    """Rows of documents that are relevant to some query that training saw; None = not known.

    Args:
        folder: The checkpoint.
        data: Rows in the checkpoint's order.
    """
    if "train" not in data.splits:
        return None
    known = _known_documents(folder, data)
    return (data if known is None else without_labels(data, known)).seen_rows


def _known_documents(folder: Path | None, data: RetrievalData) -> np.ndarray | None:
    """Whether training knew each document, [N] bool; None where nothing was left out."""
    if folder is None or not (folder / NEW_FILE).is_file():
        return None
    try:
        names = json.loads((folder / NEW_FILE).read_text(encoding="utf-8"))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("something else")
    except (OSError, ValueError, RecursionError) as error:
        message = f"{folder / NEW_FILE}: a list of document ids was expected, found {error}."
        raise CheckpointError(message) from error
    new = set(names)
    return np.asarray([name not in new for name in data.documents.ids])


def content_report(
    run: Run, queries: Queries, labels: np.ndarray | None, seed: int
) -> dict[str, Any]:
    """Documents that training did without, apart (ASI++, Table 3); empty without `labels`."""
    if labels is None:
        return {}
    values = per_query(run, queries)
    return {"content": grouped_metrics(values, labels, seed, groups=CONTENT_GROUPS)}
