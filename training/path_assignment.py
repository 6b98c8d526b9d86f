"""The M-step of Deep Retrieval: paths of the documents from what training queries say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_genret.encoding import encode
from hf_genret.indexing.by_model import PENALTY, likely_paths
from hf_genret.indexing.paths import (
    PathScores,
    choose_paths,
    path_codes,
    path_numbers,
    path_objective,
)
from hf_genret.training.workshop import Facts, Workshop


@dataclass
class PathSettings:
    """Settings of the action `paths`.

    Attributes:
        beams: S, paths of a query whose probabilities count.
        penalty: alpha, the weight of n^4 / 4 for every path with n documents.
        item: How often every document is asked for by itself; with 0 one without training queries
            stays where it is, as published.
        keep: Candidate paths kept of a document.
        rounds: Passes of the coordinate descent.
    """

    beams: int = 20
    penalty: float = PENALTY
    item: float = 1.0
    keep: int = 100
    rounds: int = 3


def assign_paths(shop: Workshop, setting: dict[str, Any] | None) -> Facts:
    """Give every document the J paths that its training queries make most probable.

    s[y, c] is the sum of P(c | query) over the best beams of the training queries of document y,
    in the space of all paths; see `hf_genret.indexing.paths.choose_paths`.
    """
    options = PathSettings(**(setting or {}))
    state, sizes = shop.state, shop.sizes
    paths = state.codes[:, None] if state.paths is None else state.paths
    before = path_numbers(paths.numpy(), sizes)  # [N, J]
    candidates, queries = path_scores(shop, options)
    after = choose_paths(
        candidates,
        queries,
        before,
        penalty=options.penalty,
        rounds=options.rounds,
        seed=shop.seed,
    )
    state.give_paths(torch.from_numpy(path_codes(after, sizes)))
    shop.index()
    moved = (np.sort(before, axis=1) != after).any(axis=1)
    loads = np.bincount(np.unique(state.ids()[0].numpy(), axis=0, return_inverse=True)[1].ravel())
    return {
        "paths_moved": float(moved.mean()),
        "paths_used": len(loads),
        "largest_path": int(loads.max()),
        "objective_before": path_objective(before, candidates, queries, options.penalty),
        "objective": path_objective(after, candidates, queries, options.penalty),
    }


def path_scores(shop: Workshop, options: PathSettings) -> tuple[Any, np.ndarray]:
    """s[y, c] of what beams find, and N_y of every document, float64 [N].

    Args:
        shop: Model, items and training pairs.
        options: `beams`, `item` and `keep` are read.
    """
    data, model = shop.data, shop.model
    documents = len(shop.state.codes)
    scores = PathScores(documents, options.keep)
    order = np.argsort(data.pair_query, kind="stable")
    first = np.searchsorted(data.pair_query[order], np.arange(len(data.train) + 1))
    model.eval()
    for numbers, encoded in encode(model, data.train, description="Paths of queries"):
        codes, log_p = likely_paths(model, encoded, options.beams)
        count = first[numbers + 1] - first[numbers]  # documents of each query
        query = np.repeat(np.arange(len(numbers)), count)
        inside = np.arange(len(query)) - (np.cumsum(count) - count)[query]
        rows = data.pair_row[order[first[numbers][query] + inside]]
        scores.add(rows, path_numbers(codes, shop.sizes)[query], np.exp(log_p)[query])
    queries = np.bincount(data.pair_row, minlength=documents).astype(np.float64)
    if options.item:
        for numbers, encoded in encode(model, data.items, description="Paths of items"):
            codes, log_p = likely_paths(model, encoded, options.beams)
            scores.add(numbers, path_numbers(codes, shop.sizes), options.item * np.exp(log_p))
        queries += options.item
    return scores.candidates(), queries
