"""k-means over vectors: plain, and with clusters of equal size."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from hf_genret.indexing import scratch
from hf_genret.indexing.capacity import assign
from hf_genret.indexing.priced import priced_codes
from hf_genret.indexing.scratch import ScratchMatrix, blocks
from hf_genret.indexing.transport import exact_codes

_CHUNK = 1 << 24  # cells of a block of distances or of gathered vectors
_MANY = 1 << 16  # vectors beyond which the start is drawn among some, and FAISS used where it is
_SAMPLE = 64  # those some, a cluster


@dataclass(frozen=True)
class Clusters:
    """The outcome of k-means.

    Attributes:
        labels: Cluster of every item, int32 [n].
        centroids: Mean of every cluster (of length 1 for cosine), float32 [k, d].
    """

    labels: np.ndarray
    centroids: np.ndarray


def kmeans(
    x: np.ndarray, k: int, *, seed: int, iterations: int = 20, cosine: bool = False
) -> Clusters:
    """Plain k-means: k-means++ start, Lloyd steps; clusters may differ in size.

    A cluster that loses all its items starts again at the item that is farthest from its own
    centroid. With fewer than k distinct items some clusters stay empty. Of more than 65,536
    vectors the start is drawn among 64 a cluster, and FAISS makes the steps where it is installed.

    Args:
        x: Vectors, float32 [n, d].
        k: Number of clusters.
        seed: Of the start.
        iterations: At most so many Lloyd steps; ends when no label changes.
        cosine: Cluster directions instead of points.

    Returns:
        Labels and centroids.

    Raises:
        ValueError: When `x` is not a matrix of at least one finite vector, or k is below 1.
    """
    points = as_points(x, k, cosine)
    centroids = _plus_plus(points, k, seed)
    if len(points) > _MANY and find_spec("faiss") is not None:
        centroids = _faiss_steps(points, centroids, iterations, cosine)
    else:
        centroids = _steps(points, centroids, iterations, cosine)
    return Clusters(_nearest(points, centroids)[1].numpy().astype(np.int32), centroids.numpy())


def _steps(
    points: torch.Tensor, centroids: torch.Tensor, iterations: int, cosine: bool
) -> torch.Tensor:
    """Centroids [k, d] after Lloyd's steps."""
    k, labels = len(centroids), torch.full((len(points),), -1)
    for _ in range(iterations):
        distance, fresh = _nearest(points, centroids)
        if torch.equal(fresh, labels):
            break
        labels = fresh
        centroids = cluster_means(points, labels, centroids, cosine)
        empty = torch.bincount(labels, minlength=k) == 0
        farthest = distance.topk(min(int(empty.sum()), len(points))).indices
        centroids[empty.nonzero()[: len(farthest), 0]] = points[farthest]
    return centroids


def _faiss_steps(
    points: torch.Tensor, centroids: torch.Tensor, iterations: int, cosine: bool
) -> torch.Tensor:
    """The same by FAISS, over all points; a cluster that loses all its items splits another."""
    import faiss

    clustering = faiss.Kmeans(
        points.shape[1],
        len(centroids),
        niter=iterations,
        spherical=cosine,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    clustering.train(points.numpy(), init_centroids=centroids.numpy())
    return torch.from_numpy(clustering.centroids)


def balanced_kmeans(
    x: np.ndarray,
    k: int,
    *,
    seed: int,
    iterations: int = 15,
    cosine: bool = False,
    assignment: Literal["exact", "greedy"] = "exact",
) -> Clusters:
    """k-means in which every cluster holds floor(n/k) or ceil(n/k) items.

    Each step assigns all items at once under these sizes; the exact assignment is the one of the
    least summed squared distance, so that no step makes the clustering worse. Beyond
    `hf_genret.indexing.scratch.BUDGET` cells [n, k] distances stand in a scratch file, and `exact`
    is near the least sum (`hf_genret.indexing.priced.priced_codes`).

    Args:
        x: Vectors, float32 [n, d].
        k: Number of clusters.
        seed: Of the start.
        iterations: At most so many steps; ends when no label changes.
        cosine: Cluster directions instead of points.
        assignment: `exact`, or `greedy` as in `hf_genret.indexing.capacity.assign`.

    Returns:
        Labels and centroids; with fewer items than clusters every item has its own, and the
        centroids of empty clusters are the mean of all items.

    Raises:
        ValueError: As `kmeans`.
    """
    points = as_points(x, k, cosine)
    if len(points) <= k:
        return _singles(points, k, seed, cosine)
    # A few plain steps first: they spread the centroids at a fraction of the price.
    centroids = torch.from_numpy(kmeans(points.numpy(), k, seed=seed, iterations=3).centroids)
    labels, prices = torch.full((len(points),), -1), None
    share = _share if len(points) * k <= scratch.BUDGET else _share_by_blocks
    for _ in tqdm(range(iterations), desc="Balanced k-means", delay=2, leave=False):
        codes, prices = share(points, centroids, assignment, prices, seed)
        fresh = torch.from_numpy(codes).long()
        if torch.equal(fresh, labels):
            break
        labels = fresh
        centroids = cluster_means(points, labels, centroids, cosine)
    return Clusters(labels.numpy().astype(np.int32), centroids.numpy())


def _share(
    points: torch.Tensor,
    centroids: torch.Tensor,
    assignment: str,
    prices: np.ndarray | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Codes of equal loads, and prices for the next step; all distances at once."""
    cost = squared_distances(points, centroids).numpy()
    if assignment == "exact":
        return exact_codes(cost, prices=prices, seed=seed)
    return assign(-cost, method="greedy").codes, None


def _share_by_blocks(
    points: torch.Tensor,
    centroids: torch.Tensor,
    assignment: str,
    prices: np.ndarray | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """As `_share`; distances are found once and read from a file."""
    n, k = len(points), len(centroids)
    with ScratchMatrix(n, k) as scores:
        for rows in blocks(n, k):
            block = points[rows[0] : rows[-1] + 1]
            scores.put(rows, -squared_distances(block, centroids).numpy())
        if assignment == "exact":
            codes, fitted, _ = priced_codes(
                lambda rows: -scores.take(rows), n, k, prices=prices, seed=seed
            )
            return codes, fitted
        return assign(scores, method="greedy").codes, None


def as_points(x: np.ndarray, k: int, cosine: bool) -> torch.Tensor:
    """Vectors as every k-means here takes them: checked, float32, of length 1 for cosine.

    Args:
        x: Shape [n, d].
        k: Number of clusters.
        cosine: Cluster directions instead of points.

    Raises:
        ValueError: When `x` is not a matrix of at least one finite vector, or k is below 1.
    """
    x = np.asarray(x, dtype=np.float32)
    if k < 1 or x.ndim != 2 or len(x) == 0:
        raise ValueError(f"Expected at least 1 cluster and 1 vector, found {k} and {x.shape}.")
    for rows in blocks(len(x), x.shape[1], _CHUNK):
        bad = ~np.isfinite(x[rows]).all(axis=1)
        if bad.any():
            row = int(rows[bad.argmax()])
            raise ValueError(f"Expected finite vectors, found infinite or NaN values in row {row}.")
    points = torch.from_numpy(np.ascontiguousarray(x))
    return normalize(points, dim=1) if cosine else points


def _singles(points: torch.Tensor, k: int, seed: int, cosine: bool) -> Clusters:
    labels = np.random.default_rng(seed).permutation(k)[: len(points)]
    centre = points.mean(dim=0, keepdim=True)
    centroids = (normalize(centre, dim=1) if cosine else centre).repeat(k, 1)
    centroids[torch.from_numpy(labels)] = points
    return Clusters(labels.astype(np.int32), centroids.numpy())


def squared_distances(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Squared distances less each point's own square, which no choice changes.

    Args:
        points: Shape [n, d].
        centroids: Shape [k, d].

    Returns:
        Shape [n, k]; the caller chooses n so that it fits.
    """
    return centroids.square().sum(dim=1) - 2 * points @ centroids.T


def _nearest(points: torch.Tensor, centroids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance [n] and number [n] of the nearest centroid, a block of rows at a time."""
    step = max(1, _CHUNK // len(centroids))
    parts = [squared_distances(block, centroids).min(dim=1) for block in points.split(step)]
    distance = torch.cat([part.values for part in parts]) + _squares(points)
    return distance, torch.cat([part.indices for part in parts])


def _squares(points: torch.Tensor) -> torch.Tensor:
    """Squared length of every point [n], a block of rows at a time."""
    step = max(1, _CHUNK // max(1, points.shape[1]))
    return torch.cat([block.square().sum(dim=1) for block in points.split(step)])


def _plus_plus(points: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    """k-means++ (Arthur and Vassilvitskii 2007): each start drawn by its squared distance."""
    rng = np.random.default_rng(seed)
    if len(points) > _MANY:  # each start is a pass over all of them
        some = min(len(points), max(_SAMPLE * k, 1 << 14))
        points = points[np.sort(rng.choice(len(points), some, replace=False))]
    square = _squares(points)
    first = int(rng.integers(len(points)))
    chosen, nearest = [first], torch.full((len(points),), torch.inf)
    while len(chosen) < k:
        last = points[chosen[-1]]
        away = (square - 2 * points @ last + last.dot(last)).clamp_(min=0)
        nearest = torch.minimum(nearest, away)
        mass = nearest.double().cumsum(0).numpy()
        pick = int(np.searchsorted(mass, rng.random() * mass[-1], side="right"))
        chosen.append(min(pick, len(points) - 1))
    return points[chosen].clone()


def cluster_means(
    points: torch.Tensor, labels: torch.Tensor, before: torch.Tensor, cosine: bool
) -> torch.Tensor:
    """Mean of each cluster; an empty one keeps its centroid.

    Args:
        points: Shape [n, d].
        labels: Cluster of every point, int64 [n].
        before: The centroids so far, shape [k, d].
        cosine: Bring the means to length 1.

    Returns:
        Shape [k, d].
    """
    sums = torch.zeros_like(before).index_add_(0, labels, points)
    counts = torch.bincount(labels, minlength=len(before))[:, None]
    means = torch.where(counts > 0, sums / counts.clamp(min=1), before)
    return normalize(means, dim=1) if cosine else means
