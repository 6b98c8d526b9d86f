"""How many dimensions a matrix of log-probabilities has: what a bilinear score cannot match.

Scores S = Q W^T of d dimensions have rank at most d, and so have their log-probabilities but for a
shift of each row: at most d + 1. A product of several softmaxes has no such bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_genret.errors import DataError


def singular_values(matrix: np.ndarray) -> np.ndarray:
    """Singular values, falling.

    A wide matrix is first reduced to a square one of its shorter side (the R of a QR
    decomposition), which has the same values: a copy or two of the matrix are all the memory.

    Args:
        matrix: [m, n], finite.

    Returns:
        [min(m, n)] float64.

    Raises:
        DataError: When there is no matrix or a value is not finite.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise DataError(
            f"a matrix of finite values was expected, found {list(matrix.shape)} "
            f"with {int((~np.isfinite(matrix)).sum())} values that are not."
        )
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    if tall.shape[0] > 2 * tall.shape[1]:
        tall = np.asarray(np.linalg.qr(tall, mode="r"))
    values: np.ndarray = np.linalg.svd(tall, compute_uv=False)
    return values


def effective_rank(matrix: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli 2007, Eq. 3 and 4).

    Args:
        matrix: [m, n], finite.

    Returns:
        From 1 to min(m, n); 0 for a matrix of zeros.

    Raises:
        DataError: As `singular_values`.
    """
    return _effective(singular_values(matrix))


def numerical_rank(matrix: np.ndarray, tolerance: float | None = None) -> int:
    """Singular values above a tolerance.

    Args:
        matrix: [m, n], finite.
        tolerance: Relative to the largest one; max(m, n) times the rounding of float32 by default,
            in which probabilities are computed.

    Raises:
        DataError: As `singular_values`.
    """
    return _numerical(singular_values(matrix), matrix.shape, tolerance)


def residual_beyond(matrix: np.ndarray, r: int) -> float:
    """What the best matrix of rank r leaves: sum of sigma_i^2 beyond r over the sum of all.

    Args:
        matrix: [m, n], finite.
        r: Rank, at least 0.

    Returns:
        From 0 to 1 (Eckart and Young 1936).

    Raises:
        DataError: As `singular_values`.
    """
    return _residual(singular_values(matrix), r)


def centred(log_p: np.ndarray) -> np.ndarray:
    """Each row less its mean over documents, documents without an id left out.

    The shift of a row says nothing of the order of documents, and it is by far the largest
    singular value of log-probabilities, that of a matrix of ones.

    Args:
        log_p: Log-probabilities or logits [Q, N]; a document that has -inf in any row is left out.

    Returns:
        [Q, documents with an id] float64.
    """
    kept = np.isfinite(log_p).all(axis=0)
    rows = np.asarray(log_p[:, kept], dtype=np.float64)
    return rows - rows.mean(axis=1, keepdims=True) if rows.size else rows


def spectrum_report(log_p: np.ndarray, dim: int) -> dict[str, Any]:
    """Ranks of a system's log-probabilities against what d dimensions allow.

    All figures are of the centred matrix (`centred`), so that logits and their log-probabilities
    have the same. What is bilinear in d dimensions then has at most d, and d + 1 before centring.

    Args:
        log_p: Log-probabilities or logits [Q, N].
        dim: d, the width of the vectors that a dense retriever has, or would have.

    Returns:
        `effective_rank`, `numerical_rank`, `residual` (Eckart-Young share beyond d + 1), `dim`,
        `bound` (d + 1), `queries` and `documents`. No rank is above the number of queries, which
        has to be well above d.

    Raises:
        DataError: When no document has an id.
    """
    matrix = centred(log_p)
    values = singular_values(matrix)
    return {
        "effective_rank": _effective(values),
        "numerical_rank": _numerical(values, matrix.shape, None),
        "residual": _residual(values, dim + 1),
        "dim": int(dim),
        "bound": int(dim) + 1,
        "queries": matrix.shape[0],
        "documents": matrix.shape[1],
    }


def head_report(log_p: np.ndarray, codes: np.ndarray, dim: int) -> dict[str, Any]:
    """Rank of what the first level's head says, against its width.

    Args:
        log_p: Log-probabilities [Q, N], summing to one over documents.
        codes: [N], first code of each document.
        dim: Width of the head's input.

    Returns:
        `numerical_rank` of the centred log-probabilities of the codes that exist, `codes` (their
        number), `queries`, `dim` and `bound` (dim + 1; dim once centred).

    Raises:
        DataError: When codes and documents differ in number.
    """
    if log_p.ndim != 2 or codes.shape != log_p.shape[1:]:
        raise DataError(f"{list(codes.shape)} codes do not fit scores {list(log_p.shape)}.")
    order = np.argsort(codes, kind="stable")
    starts = np.unique(codes[order], return_index=True)[1]
    level = np.logaddexp.reduceat(log_p[:, order].astype(np.float64), starts, axis=1)
    matrix = centred(level)
    return {
        "numerical_rank": _numerical(singular_values(matrix), matrix.shape, None),
        "codes": matrix.shape[1],
        "queries": matrix.shape[0],
        "dim": int(dim),
        "bound": int(dim) + 1,
    }


def _effective(values: np.ndarray) -> float:
    total = values.sum()
    if total == 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _numerical(values: np.ndarray, shape: tuple[int, ...], tolerance: float | None) -> int:
    if tolerance is None:
        tolerance = max(shape) * float(np.finfo(np.float32).eps)
    return int((values > tolerance * values[0]).sum())


def _residual(values: np.ndarray, r: int) -> float:
    energy = values**2
    total = energy.sum()
    return float(energy[r:].sum() / total) if total else 0.0
