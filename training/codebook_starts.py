"""Codebooks that start at clusters of what they have to describe."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_genret.encoding import encode
from hf_genret.errors import ConfigError
from hf_genret.indexing import balanced_kmeans, cluster_level, kmeans, node_centroids, node_numbers
from hf_genret.indexing.constrained import constrained_kmeans
from hf_genret.modeling import EncoderOutput
from hf_genret.modeling.heads_genret import ClusterHeads, CodebookHeads
from hf_genret.modeling.indexers_genret import ResidualIndexer
from hf_genret.training.assignment import encoded_pairs
from hf_genret.training.workshop import Facts, Workshop

QUERY_AWARE = "query_aware"
"""Setting of a start: clusters of items as their training queries see them."""


def start_codebooks(shop: Workshop, setting: Any) -> Facts:
    """Start codebooks at clusters of what they have to describe, level by level.

    They are those of codebook heads (GenRet, section 3.3; DGI, section 4.6), or of an indexer that
    has codebooks of its own; codebook heads beside a residual quantizer start with it. Cluster
    heads have one below each prefix. `setting` is `balanced`, `plain`, `query_aware` (balanced, and
    what has to be described is the mean of an item and the queries that it answers), or a
    dictionary for `constrained_kmeans` with `size_min` and `size_max` as multiples of N / K.
    """
    owner = shop.model.indexer
    if not hasattr(owner, "codebooks"):
        owner = shop.model.heads
        if not isinstance(owner, (CodebookHeads, ClusterHeads)):
            raise ConfigError("codebook: the model has no codebooks (head_type or indexer).")
    codes = shop.state.codes.clone()
    for level in shop.levels:
        points = codebook_points(shop, owner, level, codes, queries=setting == QUERY_AWARE)
        if isinstance(owner, ClusterHeads) and not owner.is_flat(level):
            codes[:, level] = _start_node_codebooks(shop, owner, level, points, codes, setting)
            shop.state.start_codes[:, level] = codes[:, level]
            continue
        size = shop.sizes[level]
        seed = shop.seed + level
        if setting == "plain":
            found = kmeans(points, size, seed=seed)
        elif setting in ("balanced", QUERY_AWARE):
            found = balanced_kmeans(points, size, seed=seed)
        else:
            even = len(points) / size
            low, high = (float(setting[name]) * even for name in ("size_min", "size_max"))
            found = constrained_kmeans(
                points, size, seed=seed, size_min=int(low), size_max=int(np.ceil(high))
            )
        owner.start(level, torch.from_numpy(found.centroids))
        if isinstance(owner, ResidualIndexer) and isinstance(shop.model.heads, CodebookHeads):
            shop.model.heads.start(level, torch.from_numpy(found.centroids))
        codes[:, level] = torch.from_numpy(found.labels.astype(np.int64))
        shop.state.start_codes[:, level] = codes[:, level]
    return {"codebook": str(setting)}


def _start_node_codebooks(
    shop: Workshop, heads: ClusterHeads, level: int, points: np.ndarray, codes: Tensor, setting: Any
) -> Tensor:
    """Cluster the points below each prefix and put that prefix's codebook there; labels [N]."""
    if isinstance(setting, dict):
        raise ConfigError("codebook: bounds of sizes need one codebook a level, not one a prefix.")
    if shop.cosine:
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    known = codes.numpy()
    nodes = node_numbers(known, shop.sizes, level - 1) if level else np.zeros(len(known), np.int64)
    labels = cluster_level(
        points,
        nodes,
        shop.sizes[level],
        seed=shop.seed + level,
        balanced=setting != "plain",
        cosine=shop.cosine,
    )
    together = known.copy()
    together[:, level] = labels
    centres = node_centroids(points, together, shop.sizes, level, normalize=shop.cosine)
    heads.start(level, torch.from_numpy(centres), keep=True)
    return torch.from_numpy(labels.astype(np.int64))


def codebook_points(
    shop: Workshop, owner: Any, level: int, codes: Tensor, *, queries: bool = False
) -> np.ndarray:
    """What the codebook of a level has to describe of every item, float32 [N, width].

    Args:
        shop: Model and items.
        owner: The codebook heads, or an indexer with codebooks.
        level: From 0.
        codes: [N, L], the codes of the levels before.
        queries: The mean of an item's point and those of the training queries that it answers,
            which take its codes before (`query_aware_vectors` for points).
    """
    total: np.ndarray | None = None
    for rows, encoded in encode(shop.model, shop.data.items, description="Reading items"):
        found = _points(shop, owner, level, encoded, codes[torch.from_numpy(rows), :level])
        if total is None:
            total = np.empty((len(codes), found.shape[1]), dtype=np.float32)
        total[rows] = found
    assert total is not None  # a corpus has documents
    if queries:
        for rows, encoded in encoded_pairs(shop):
            found = _points(shop, owner, level, encoded, codes[torch.from_numpy(rows), :level])
            np.add.at(total, rows, found)
        total /= 1 + np.bincount(shop.data.pair_row, minlength=len(codes))[:, None]
    return total


def _points(
    shop: Workshop, owner: Any, level: int, encoded: EncoderOutput, prefix: Tensor
) -> np.ndarray:
    """Of a batch: of an indexer its targets, of heads that index by themselves their points."""
    prefix = prefix.to(shop.model.device)
    with torch.no_grad():
        if owner is shop.model.indexer:
            points: Tensor = owner.target(level, encoded.pooler_output, prefix)
        elif shop.model.indexer is None:
            points = shop.model.path_points(encoded, prefix)[level]
        else:
            points = owner.residual(encoded.pooler_output, prefix)
    found: np.ndarray = points.float().cpu().numpy()
    return found
