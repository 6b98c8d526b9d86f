"""Vectors that say what documents are asked for, to be clustered in place of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import norm as sparse_norm
from tqdm.auto import tqdm

_SPARE = 10  # directions beyond those asked for, dropped at the end
_ROUNDS = 8  # subspace iterations
_FAINT = 1e-3  # share of an item's interactions below which what the directions keep is noise


def query_aware_vectors(
    vectors: np.ndarray, query_vectors: np.ndarray, pair_query: np.ndarray, pair_row: np.ndarray
) -> np.ndarray:
    """The mean of each document's own vector and those of the queries that it answers.

    Bottleneck-minimal indexing (ICML 2024): ids lose least about the queries when the queries are
    what is clustered. Only training queries belong here.

    Args:
        vectors: Of the documents, float32 [N, D].
        query_vectors: Of the queries, in the same space, float32 [Q, D].
        pair_query: Query number of each judgment, int [P].
        pair_row: Document row of each judgment, int [P]; a pair given twice counts twice.

    Returns:
        float32 [N, D], of length 1 where all documents came so; a document without a query keeps
        its vector.

    Raises:
        ValueError: When shapes differ or numbers are out of range.
    """
    vectors = _matrix(vectors, "document vectors")
    query_vectors = _matrix(query_vectors, "query vectors")
    if vectors.shape[1] != query_vectors.shape[1]:
        raise ValueError(
            f"Expected queries and documents in one space, found {query_vectors.shape[1]} and "
            f"{vectors.shape[1]} dimensions."
        )
    pair_query = _numbers(pair_query, len(query_vectors), "query numbers")
    pair_row = _numbers(pair_row, len(vectors), "document rows")
    if len(pair_query) != len(pair_row):
        raise ValueError(f"Expected pairs, found {len(pair_query)} and {len(pair_row)} numbers.")
    ones = np.ones(len(pair_row), dtype=np.float32)
    shape = (len(vectors), len(query_vectors))
    asked = sparse.csr_matrix((ones, (pair_row, pair_query)), shape=shape)
    counts = np.bincount(pair_row, minlength=len(vectors)).astype(np.float32)
    mean = (vectors + asked @ query_vectors) / (1 + counts)[:, None]
    return _unit(mean) if _all_unit(vectors) else mean


def collaborative_vectors(
    vectors: np.ndarray, relevant: Sequence[Mapping[int, float]], *, dim: int, seed: int
) -> np.ndarray:
    """Each document's own vector beside what its queries or users say about it.

    An entry of the matrix of documents and queries (or users) is log(1 + gain) log(1 + N / n_q),
    n_q documents being relevant to the query: one that takes everything says little. Its truncated
    singular value decomposition gives the second part. Queries that have one document each share
    nothing, so that this helps where they have several: baskets, users, graded judgments. Only
    training queries belong here.

    Args:
        vectors: Of the documents, float32 [N, D].
        relevant: For each query or user document row -> gain; gains of 0 or less do not count.
        dim: Directions of the decomposition, at most min(N, Q) are used.
        seed: Of the start of the subspace iteration.

    Returns:
        float32 [N, D + min(dim, N, Q)], each of the two parts of length 1; the second is zero for
        a document without interactions, or whose interactions none of the directions keeps.

    Raises:
        ValueError: When `vectors` is no matrix, `dim` is below 1, or a row is out of range.
    """
    vectors = _matrix(vectors, "document vectors")
    if dim < 1:
        raise ValueError(f"Expected at least 1 dimension, found {dim}.")
    taken = _interactions(relevant, len(vectors))
    found = _directions(taken, min(dim, *taken.shape), seed)  # [N, dim]
    kept = np.linalg.norm(found, axis=1) / np.maximum(sparse_norm(taken, axis=1), 1e-12)
    found[kept < _FAINT] = 0.0
    return np.concatenate([_unit(vectors), _unit(found)], axis=1)


def _interactions(relevant: Sequence[Mapping[int, float]], n: int) -> sparse.csr_matrix:
    """The weighted matrix of documents and queries, float32 [N, Q]."""
    entries = [
        (row, query, gain)
        for query, gains in enumerate(relevant)
        for row, gain in gains.items()
        if gain > 0
    ]
    table = np.array(entries, dtype=np.float64).reshape(-1, 3)
    row = _numbers(table[:, 0].astype(np.int64), n, "document rows")
    query = table[:, 1].astype(np.int64)
    items = np.bincount(query, minlength=len(relevant))  # n_q
    weight = np.log1p(table[:, 2]) * np.log1p(n / items[query])
    return sparse.csr_matrix((weight.astype(np.float32), (row, query)), shape=(n, len(relevant)))


def _directions(matrix: sparse.csr_matrix, dim: int, seed: int) -> np.ndarray:
    """U S of the truncated decomposition, [N, dim], by subspace iteration (Halko et al. 2011)."""
    width = min(dim + _SPARE, matrix.shape[1])
    start = np.random.default_rng(seed).standard_normal((matrix.shape[1], width))
    basis = start.astype(np.float32)  # [Q, width]
    turned = matrix.T.tocsr()
    for _ in tqdm(range(_ROUNDS), desc="Decomposing interactions", delay=2, leave=False):
        basis = np.linalg.qr(turned @ (matrix @ basis))[0]
    image = matrix @ basis  # [N, width]
    _, order = np.linalg.eigh(image.T @ image)  # ascending
    return np.asarray(image @ order[:, ::-1][:, :dim], dtype=np.float32)


def _matrix(x: np.ndarray, name: str) -> np.ndarray:
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 2:
        raise ValueError(f"Expected {name} [rows, dimensions], found shape {x.shape}.")
    return x


def _numbers(numbers: np.ndarray, count: int, name: str) -> np.ndarray:
    numbers = np.asarray(numbers, dtype=np.int64)
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= count):
        raise ValueError(
            f"Expected {name} from 0 to {count - 1}, found {numbers.min()} to {numbers.max()}."
        )
    return numbers


def _all_unit(x: np.ndarray) -> bool:
    return bool(np.allclose(np.linalg.norm(x, axis=1), 1.0, atol=1e-3))


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; zeros stay zeros."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1.0), dtype=np.float32)
