"""Use of codes, sizes of buckets and signs of collapse, for the `evaluate` library.

Stands alone on purpose: `evaluate.load` copies this file and reads its imports.
"""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """\
How well learned document ids are used: for each level the codes in use, their entropy and balance;
sizes and balance of the buckets of equal ids; and findings where a figure says that ids collapse.
"""

_INPUTS = """\
Args:
    predictions: the docid of each document, a list of L codes.
    codebook_sizes: codes of each level, L numbers.
Returns:
    {"documents", "levels": one entry a level with "level", "codes", "used", "share_used",
    "entropy" (nats), "entropy_normalised", "balance"; "buckets" with "leaves", "used", "empty",
    "size" (min, median, mean, max), "balance", "duplicate_ids", "largest_share"; "findings": one
    entry a figure beyond its threshold, with "figure", "level", "value", "threshold"}
Examples:
    >>> metric = evaluate.load("path/to/genret_docid_health")
    >>> metric.compute(predictions=[[0, 1], [0, 2], [1, 1]], codebook_sizes=[2, 4])["findings"]
    []
"""

_CITATION = """\
@inproceedings{sun2023genret,
  title = {Learning to Tokenize for Generative Retrieval},
  author = {Sun, Weiwei and others}, booktitle = {NeurIPS}, year = {2023}
}
"""

_LEAST = {"share_used": 0.5, "entropy": 0.7, "balance": 0.4}  # of what is possible, a level
_DUPLICATES, _BUCKET, _DOCUMENTS = 0.5, 0.1, 10


class GenretDocidHealth(evaluate.Metric):
    """Use of codes, sizes of buckets and signs of collapse."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Sequence(datasets.Value("int64"))}),
        )

    def _compute(self, predictions: list[list[int]], codebook_sizes: list[int]) -> dict[str, Any]:
        codes = _checked(predictions, codebook_sizes)
        counts = [
            np.bincount(codes[:, level], minlength=size)
            for level, size in enumerate(codebook_sizes)
        ]
        levels = [_level(count, level) for level, count in enumerate(counts, start=1)]
        found = [
            finding for level, count in enumerate(counts, 1) for finding in _weak(count, level)
        ]
        leaves = math.prod(codebook_sizes)
        sizes = np.unique(codes, axis=0, return_counts=True)[1]
        return {
            "documents": len(codes),
            "levels": levels,
            "buckets": _buckets(sizes, leaves),
            "findings": found + _crowded(sizes, leaves),
        }


def _checked(docids: list[list[int]], sizes: list[int]) -> np.ndarray:
    """Docids as [N, L]; refuses other lengths, codes out of range and no document at all."""
    if not len(sizes) or any(size != int(size) or size < 1 for size in sizes):
        raise ValueError(f"codebook_sizes need whole numbers of at least 1, found {sizes}.")
    wrong = next((docid for docid in docids if len(docid) != len(sizes)), None)
    if not len(docids) or wrong is not None:
        raise ValueError(f"docids need {len(sizes)} codes each, found {wrong or 'no docid'}.")
    codes = np.asarray(docids, dtype=np.int64)
    if (codes < 0).any() or (codes >= np.asarray(sizes)).any():
        raise ValueError(f"codes need to lie from 0 to below {list(sizes)}.")
    return codes


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(max(-(share * np.log(share)).sum(), 0.0))


def _balance(counts: np.ndarray, places: int) -> float:
    """1 - share of the documents that would have to move for even places (GenRet's diversity)."""
    total, used = int(counts.sum()), counts[counts > 0]
    even = total / places
    away = np.abs(used - even).sum() + (places - len(used)) * even
    return float(1.0 - away / (2 * total))


def _level(counts: np.ndarray, level: int) -> dict[str, float]:
    size, used, value = len(counts), int((counts > 0).sum()), _entropy(counts)
    return {
        "level": level,
        "codes": size,
        "used": used,
        "share_used": used / size,
        "entropy": value,
        "entropy_normalised": value / math.log(size) if size > 1 else 1.0,
        "balance": _balance(counts, size),
    }


def _buckets(sizes: np.ndarray, leaves: int) -> dict[str, Any]:
    return {
        "leaves": leaves,
        "used": len(sizes),
        "empty": leaves - len(sizes),
        "size": {
            "min": int(sizes.min()),
            "median": float(np.median(sizes)),
            "mean": float(sizes.mean()),
            "max": int(sizes.max()),
        },
        "balance": _balance(sizes, leaves),
        "duplicate_ids": int(sizes[sizes > 1].sum()),
        "largest_share": float(sizes.max() / sizes.sum()),
    }


def _finding(figure: str, level: int | None, value: float, threshold: float) -> dict[str, Any]:
    return {"figure": figure, "level": level, "value": float(value), "threshold": threshold}


def _weak(counts: np.ndarray, level: int) -> list[dict[str, Any]]:
    """Figures of a level below their threshold, relative to what so few documents allow."""
    total, used = int(counts.sum()), counts[counts > 0]
    possible = min(len(counts), total)
    if total < _DOCUMENTS or possible < 2:
        return []
    values = {
        "share_used": len(used) / possible,
        "entropy": _entropy(counts) / math.log(possible),
        "balance": _balance(used, possible),
    }
    return [
        _finding(name, level, value, _LEAST[name])
        for name, value in values.items()
        if value < _LEAST[name]
    ]


def _crowded(sizes: np.ndarray, leaves: int) -> list[dict[str, Any]]:
    """Ids that documents share without need, and one bucket that holds too many."""
    total, largest = int(sizes.sum()), int(sizes.max())
    if total < _DOCUMENTS:
        return []
    needless = (min(total, leaves) - len(sizes)) / total
    beyond = (largest - math.ceil(total / leaves)) / total
    found = []
    if needless > _DUPLICATES:
        found.append(_finding("duplicates", None, needless, _DUPLICATES))
    if beyond > _BUCKET and largest >= _DOCUMENTS:
        found.append(_finding("bucket", None, beyond, _BUCKET))
    return found
