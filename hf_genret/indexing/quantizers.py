"""Ids from quantizers: product quantization, and the codebooks of RQ-VAE and VQ-VAE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from hf_genret.indexing.autoencoder import (
    Codebooks,
    QuantizedAutoencoder,
    ResidualCodebooks,
    SplitCodebooks,
)
from hf_genret.indexing.kmeans import as_points, kmeans


def product_quantization(
    x: np.ndarray, sizes: Sequence[int], *, seed: int, iterations: int = 20
) -> np.ndarray:
    """Product quantization: plain k-means on each group of dimensions (Jégou et al. 2011).

    Args:
        x: Vectors, float32 [n, d]; the dimensions are cut into as many groups as there are levels,
            the first groups wider by one where d is no multiple.
        sizes: Codes a level.
        seed: Of all starts.
        iterations: At most so many steps of every k-means.

    Returns:
        Codes, int32 [n, levels]; neither balanced nor unique.

    Raises:
        ValueError: As `hf_genret.indexing.kmeans.kmeans`, or with fewer dimensions than levels.
    """
    points = as_points(x, 1, cosine=False).numpy()
    groups = np.split(points, np.cumsum(_group_widths(points.shape[1], sizes))[:-1], axis=1)
    codes = np.zeros((len(points), len(sizes)), dtype=np.int32)
    steps = tqdm(zip(groups, sizes, strict=True), desc="Product quantization", delay=2, leave=False)
    for level, (group, k) in enumerate(steps):
        codes[:, level] = kmeans(group, k, seed=seed + level, iterations=iterations).labels
    return codes


def rq_vae(
    x: np.ndarray,
    sizes: Sequence[int],
    *,
    seed: int,
    steps: int = 1500,
    hidden: int = 256,
    latent: int = 32,
    batch_size: int = 256,
    lr: float = 1e-3,
) -> np.ndarray:
    """Ids of TIGER (NeurIPS 2023): an autoencoder with residual codebooks in its middle.

    A tenth of the steps trains encoder and decoder alone; then every codebook starts at k-means
    centroids, and all learn together: reconstruction, codebook and 0.25 times commitment loss. A
    code that nobody takes for 50 steps starts anew at a random item, until three quarters are done.

    Args:
        x: Vectors, float32 [n, d].
        sizes: Codes a level.
        seed: Of weights, batches and starts.
        steps: Batches to train on.
        hidden: Width of the hidden layers.
        latent: Width of what is quantized.
        batch_size: Items a step.
        lr: Learning rate of Adam.

    Returns:
        Codes, int32 [n, levels]; neither balanced nor unique.

    Raises:
        ValueError: As `hf_genret.indexing.kmeans.kmeans`, or without a step.
    """
    books = ResidualCodebooks(sizes, [latent] * len(sizes))
    return _learned(x, books, seed, steps, hidden, latent, batch_size, lr)


def vq_vae(
    x: np.ndarray,
    sizes: Sequence[int],
    *,
    seed: int,
    steps: int = 1500,
    hidden: int = 256,
    latent: int = 32,
    batch_size: int = 256,
    lr: float = 1e-3,
) -> np.ndarray:
    """Ids of a VQ-VAE (van den Oord et al. 2017) whose latent vector has one part a level.

    A VQ-VAE quantizes every latent vector by itself, and a document here needs one for each level:
    the encoder's output is cut into as many parts, each with a codebook of its own. Levels are thus
    independent and never residual, which is what sets this apart from `rq_vae`; all else is as
    there.

    Args:
        x: Vectors, float32 [n, d].
        sizes: Codes a level.
        seed: Of weights, batches and starts.
        steps: Batches to train on.
        hidden: Width of the hidden layers.
        latent: Width of all parts together.
        batch_size: Items a step.
        lr: Learning rate of Adam.

    Returns:
        Codes, int32 [n, levels]; neither balanced nor unique.

    Raises:
        ValueError: As `hf_genret.indexing.kmeans.kmeans`, without a step, or with
            `latent` below the number of levels.
    """
    books = SplitCodebooks(sizes, _group_widths(latent, sizes))
    return _learned(x, books, seed, steps, hidden, latent, batch_size, lr)


def _learned(
    x: np.ndarray,
    books: Codebooks,
    seed: int,
    steps: int,
    hidden: int,
    latent: int,
    batch_size: int,
    lr: float,
) -> np.ndarray:
    if steps < 1:
        raise ValueError(f"Expected at least 1 step, found {steps}.")
    points = as_points(x, min((len(book) for book in books.books), default=0), cosine=False)
    points = points - points.mean(dim=0)
    # One scale for all dimensions: losses and rates then fit vectors of any length.
    points = points / points.square().mean().sqrt().clamp(min=1e-12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = QuantizedAutoencoder(points.shape[1], hidden, latent, books)
    model.fit(points, seed=seed, steps=steps, batch_size=batch_size, lr=lr)
    return model.codes(points)


def _group_widths(dim: int, sizes: Sequence[int]) -> list[int]:
    """Widths of as many nearly equal groups as there are levels."""
    if not 1 <= len(sizes) <= dim:
        raise ValueError(
            f"Expected at least 1 level and a dimension for each, "
            f"found {len(sizes)} levels and {dim} dimensions."
        )
    low, extra = divmod(dim, len(sizes))
    return [low + (group < extra) for group in range(len(sizes))]
