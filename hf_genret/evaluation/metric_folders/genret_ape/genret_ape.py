"""APE of learned ids, for the `evaluate` library.

Stands alone on purpose: `evaluate.load` copies this file and reads its imports.
"""

from __future__ import annotations

import math
from collections import Counter

import datasets
import evaluate

_DESCRIPTION = """\
Average prediction entropy of learned document ids (URI, Eq. 3): how far the relevant documents of a
query are scattered over buckets, in nats. Lower is better, but one bucket for everything gives 0:
read it beside balance and the size of the buckets (genret_docid_health).
"""

_INPUTS = """\
Args:
    predictions: for each query the docids of its relevant documents, each a list of L codes.
Returns:
    {"ape": of whole ids, "ape_level_1": of their first codes, "unbucketed": what unique ids would
    have, "queries": with a relevant document}; NaN where there is none.
Examples:
    >>> metric = evaluate.load("path/to/genret_ape")
    >>> metric.compute(predictions=[[[0, 1], [0, 1]], [[0, 1], [0, 2]]])
    {"ape": 0.34657359027997264, "ape_level_1": 0.0, "unbucketed": 0.6931471805599453, "queries": 2}
"""

_CITATION = """\
@inproceedings{uri2025,
  title = {Making Transformer Decoders Better Differentiable Indexers},
  booktitle = {ICLR}, year = {2025}, url = {https://openreview.net/forum?id=bePaRx0otZ}
}
"""


class GenretAPE(evaluate.Metric):
    """APE of learned ids."""

    def _info(self) -> evaluate.MetricInfo:
        docids = datasets.Sequence(datasets.Sequence(datasets.Value("int64")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": docids}),
        )

    def _compute(self, predictions: list[list[list[int]]]) -> dict[str, float | int]:
        _check(predictions)
        queries = [[tuple(docid) for docid in docids] for docids in predictions if len(docids)]
        return {
            "ape": _mean([_entropy(docids) for docids in queries]),
            "ape_level_1": _mean([_entropy([docid[:1] for docid in docids]) for docids in queries]),
            "unbucketed": _mean([math.log(len(docids)) for docids in queries]),
            "queries": len(queries),
        }


def _entropy(buckets: list[tuple[int, ...]]) -> float:
    """Entropy of the shares that the buckets hold, in nats."""
    shares = [count / len(buckets) for count in Counter(buckets).values()]
    return -sum(share * math.log(share) for share in shares) + 0.0


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _check(predictions: list[list[list[int]]]) -> None:
    """Refuse ids of several lengths, and ids without a code."""
    lengths = {len(docid) for docids in predictions for docid in docids}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"docids need one number of codes, found {sorted(lengths)}.")
