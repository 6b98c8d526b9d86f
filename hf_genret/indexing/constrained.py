"""k-means whose cluster sizes lie between bounds, and vectors freed of what their prefix says."""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from hf_genret.indexing.bounded import bounded_codes
from hf_genret.indexing.kmeans import (
    Clusters,
    as_points,
    cluster_means,
    kmeans,
    squared_distances,
)


def constrained_kmeans(
    x: np.ndarray,
    k: int,
    *,
    seed: int,
    size_min: int,
    size_max: int,
    iterations: int = 10,
    cosine: bool = False,
) -> Clusters:
    """k-means in which every cluster holds `size_min` to `size_max` items.

    The start of GenRet's codebooks (NeurIPS 2023), there as a min-cost flow between the bounds
    min(n / 2k, k / 4) and 2k. Each step assigns all items at once: at the least summed squared
    distance up to about a million cells [n, k], near it beyond, a block of rows at a time.

    Args:
        x: Vectors, float32 [n, d].
        k: Number of clusters.
        seed: Of the start.
        size_min: No cluster holds fewer items.
        size_max: No cluster holds more.
        iterations: At most so many steps; ends when no label changes.
        cosine: Cluster directions instead of points.

    Returns:
        Labels and centroids; a cluster that the bounds allow to be empty keeps its start.

    Raises:
        ValueError: As `hf_genret.indexing.kmeans.kmeans`, and when no clustering lies within the
            bounds.
    """
    points = as_points(x, k, cosine)
    n = len(points)
    # A few plain steps first: they spread the centroids at a fraction of the price.
    centroids = torch.from_numpy(kmeans(points.numpy(), k, seed=seed, iterations=3).centroids)
    labels = torch.full((n,), -1)

    def cost_of(rows: np.ndarray) -> np.ndarray:
        return np.asarray(squared_distances(points[torch.from_numpy(rows)], centroids).numpy())

    for _ in tqdm(range(iterations), desc="Constrained k-means", delay=2, leave=False):
        fresh = torch.from_numpy(bounded_codes(cost_of, n, k, size_min, size_max)).long()
        if torch.equal(fresh, labels):
            break
        labels = fresh
        centroids = cluster_means(points, labels, centroids, cosine)
    return Clusters(labels.numpy().astype(np.int32), centroids.numpy())


def prefix_centred(x: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """What a vector says beyond its prefix: less the node's mean, plus the mean of all.

    GenRet's released code clusters these for every level below the first, so that one codebook
    serves all nodes.

    Args:
        x: Vectors, float32 [n, d].
        nodes: The node of each item, any integers, shape [n].

    Returns:
        float32 [n, d]; every node's mean is the mean of all.

    Raises:
        ValueError: When `nodes` has another length.
    """
    if np.shape(nodes) != (len(x),):
        raise ValueError(f"Expected a node for each of {len(x)} items, found {np.shape(nodes)}.")
    points = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    if len(points) == 0:
        return points.numpy()
    names, place = np.unique(nodes, return_inverse=True)
    start = torch.zeros(len(names), points.shape[1])
    member = torch.from_numpy(place)
    means = cluster_means(points, member, start, cosine=False)  # [nodes, d]
    return (points - means[member] + points.mean(dim=0)).numpy()
