"""Ids for whole corpora: hierarchical clusters, residual quantization, random; and their nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize as unit
from tqdm.auto import tqdm

from hf_genret.indexing.capacity import groups
from hf_genret.indexing.kmeans import Clusters, balanced_kmeans, kmeans
from hf_genret.indexing.scratch import ScratchMatrix

_SAMPLE = 4096  # offsets from their parents' centres that shared code names are fitted on


def hierarchical_kmeans(
    x: np.ndarray,
    sizes: Sequence[int],
    *,
    seed: int,
    balanced: bool = True,
    cosine: bool = False,
    iterations: int = 15,
) -> np.ndarray:
    """Cluster all items, then the items of each cluster, level by level.

    A node with no more items than codes gives each a code of its own. Below the first level the
    names of a node's children are chosen so that the same code means a similar offset from the
    parent everywhere (the best matching to one k-means of all offsets): clusters are unchanged,
    but a decoder that shares one head among all parents has something to learn from names.

    Args:
        x: Vectors, float32 [n, d].
        sizes: Codes a level.
        seed: Of all starts.
        balanced: Every child of a node gets floor(m/k) or ceil(m/k) of its m items.
        cosine: Cluster directions instead of points.
        iterations: At most so many steps of every k-means.

    Returns:
        Codes, int32 [n, levels].

    Raises:
        ValueError: As `hf_genret.indexing.kmeans.kmeans`.
    """
    codes = np.zeros((len(x), len(sizes)), dtype=np.int32)
    nodes = np.zeros(len(x), dtype=np.int64)
    for level, k in enumerate(sizes):
        codes[:, level] = cluster_level(
            x,
            nodes,
            k,
            seed=seed + level,
            balanced=balanced,
            cosine=cosine,
            iterations=iterations,
        )
        nodes = nodes * k + codes[:, level]
    return codes


def cluster_level(
    x: np.ndarray,
    nodes: np.ndarray,
    k: int,
    *,
    seed: int,
    balanced: bool = True,
    cosine: bool = False,
    iterations: int = 15,
) -> np.ndarray:
    """One level of `hierarchical_kmeans` below nodes that are given, however they came about.

    Args:
        x: Vectors, float32 [n, d].
        nodes: The node of each item, any integers, shape [n].
        k: Codes of the level.
        seed: As in `hierarchical_kmeans`.
        balanced: As in `hierarchical_kmeans`.
        cosine: As in `hierarchical_kmeans`.
        iterations: As in `hierarchical_kmeans`.

    Returns:
        Codes, int32 [n].
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    cluster: Callable[..., Clusters] = balanced_kmeans if balanced else kmeans
    labels = np.zeros(len(x), dtype=np.int32)
    parts = groups(nodes)
    if len(parts) == 1:  # the root: no copy of all items, no names to share
        return _cluster_node(cluster, x, k, seed, cosine, iterations).labels
    ends = [0]  # of each node's stretch of offsets
    # Offsets of the children that exist: there are no more of them than items.
    with ScratchMatrix(len(x), x.shape[1]) as offsets:
        for rows in tqdm(parts, desc="Clustering", disable=len(x) < 2000, leave=False):
            found = _cluster_node(cluster, x[rows], k, seed, cosine, iterations)
            labels[rows] = found.labels
            offset = found.centroids[np.unique(found.labels)] - x[rows].mean(axis=0)
            offsets.put(ends[-1] + np.arange(len(offset)), offset)
            ends.append(ends[-1] + len(offset))
        return _shared_names(labels, parts, offsets, ends, k, seed)


def _cluster_node(
    cluster: Callable[..., Clusters],
    x: np.ndarray,
    k: int,
    seed: int,
    cosine: bool,
    iterations: int,
) -> Clusters:
    if len(x) <= k:  # also for plain k-means: distinct ids cost nothing here
        cluster = balanced_kmeans
    return cluster(x, k, seed=seed, cosine=cosine, iterations=iterations)


def _shared_names(
    labels: np.ndarray,
    parts: list[np.ndarray],
    offsets: ScratchMatrix,
    ends: list[int],
    k: int,
    seed: int,
) -> np.ndarray:
    """Labels renamed inside every node so that children match one codebook of offsets."""
    rng = np.random.default_rng(seed)
    known = offsets.take(rng.permutation(ends[-1])[:_SAMPLE])
    book = kmeans(known, k, seed=seed).centroids
    codes = np.empty_like(labels)
    for rows, stretch in zip(parts, pairwise(ends), strict=True):
        _, child = np.unique(labels[rows], return_inverse=True)
        offset = offsets.take(np.arange(*stretch))  # [children, d]
        cost = np.square(book).sum(axis=1) - 2 * offset @ book.T  # [children, k]
        codes[rows] = linear_sum_assignment(cost)[1][child]
    return codes


def residual_kmeans(
    x: np.ndarray, sizes: Sequence[int], *, seed: int, iterations: int = 20
) -> np.ndarray:
    """Residual quantization: plain k-means of what the levels before left over.

    Args:
        x: Vectors, float32 [n, d].
        sizes: Codes a level.
        seed: Of all starts.
        iterations: At most so many steps of every k-means.

    Returns:
        Codes, int32 [n, levels]; neither balanced nor unique.
    """
    rest = np.array(x, dtype=np.float32)
    codes = np.zeros((len(rest), len(sizes)), dtype=np.int32)
    for level, k in enumerate(tqdm(sizes, desc="residual k-means", disable=len(rest) < 50_000)):
        found = kmeans(rest, k, seed=seed + level, iterations=iterations)
        codes[:, level] = found.labels
        rest -= found.centroids[found.labels]
    return codes


def random_codes(n: int, sizes: Sequence[int], *, seed: int) -> np.ndarray:
    """Random ids with balanced nodes: what an index without any meaning costs.

    Args:
        n: Number of items.
        sizes: Codes a level.
        seed: Of the permutations.

    Returns:
        Codes, int32 [n, levels]; every child of a node with m items has floor(m/k) or ceil(m/k).
    """
    rng = np.random.default_rng(seed)
    codes = np.zeros((n, len(sizes)), dtype=np.int32)
    nodes = np.zeros(n, dtype=np.int64)
    for level, k in enumerate(sizes):
        for rows in groups(nodes):
            names = rng.permutation(k)  # so that no name is the one that gets the odd items
            codes[rng.permutation(rows), level] = names[np.arange(len(rows)) % k]
        nodes = nodes * k + codes[:, level]
    return codes


def node_numbers(codes: np.ndarray, sizes: Sequence[int], level: int) -> np.ndarray:
    """The node of every item on one level, as a mixed-radix number of its first codes.

    Args:
        codes: Shape [n, levels].
        sizes: Codes a level.
        level: 0 for the first level.

    Returns:
        int64 [n], values 0 to prod(sizes[:level + 1]) - 1.
    """
    nodes = np.zeros(len(codes), dtype=np.int64)
    for column, k in zip(codes.T[: level + 1], sizes, strict=False):
        nodes = nodes * k + column
    return nodes


def running_numbers(nodes: np.ndarray) -> np.ndarray:
    """The number of every item among those of its node, from 0, in the order they stand in.

    Args:
        nodes: The node of each item, any integers, shape [n].

    Returns:
        int64 [n].
    """
    order = np.argsort(nodes, kind="stable")
    first = np.searchsorted(nodes[order], nodes[order])
    number = np.empty(len(nodes), dtype=np.int64)
    number[order] = np.arange(len(nodes)) - first
    return number


def node_centroids(
    x: np.ndarray, codes: np.ndarray, sizes: Sequence[int], level: int, *, normalize: bool = False
) -> np.ndarray:
    """Mean vector of every node of one level.

    Args:
        x: Vectors, float32 [n, d].
        codes: Shape [n, levels].
        sizes: Codes a level.
        level: 0 for the first level.
        normalize: Bring the means to length 1.

    Returns:
        float32 [prod(sizes[:level + 1]), d] in the order of `node_numbers`; a node without items
        has the mean of its parent.
    """
    points = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    means = points.mean(dim=0, keepdim=True)
    for depth in range(level + 1):
        nodes = torch.from_numpy(node_numbers(codes, sizes, depth))
        parents = means.repeat_interleave(sizes[depth], dim=0)  # [nodes, d]
        sums = torch.zeros_like(parents).index_add_(0, nodes, points)
        counts = torch.bincount(nodes, minlength=len(parents))[:, None]
        means = torch.where(counts > 0, sums / counts.clamp(min=1), parents)
    return (unit(means, dim=1) if normalize else means).numpy()
