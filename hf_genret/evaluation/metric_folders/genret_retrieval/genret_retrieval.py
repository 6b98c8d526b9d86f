"""Recall@k, nDCG@k and MRR@k of ranked ids, for the `evaluate` library.

Stands alone on purpose: `evaluate.load` copies this file and reads its imports.
"""

from __future__ import annotations

import math

import datasets
import evaluate

_DESCRIPTION = """\
Item-level retrieval metrics over ranked document ids: recall@k (relevant found / all relevant),
ndcg@k (each relevant document has gain 1, log2 discount) and mrr@k (1 / rank of the first relevant
document). Means over the queries that have a relevant document.
"""

_INPUTS = """\
Args:
    predictions: for each query the ids that were returned, best first.
    references: for each query the ids that are relevant.
    k: the cut, 10 by default.
Returns:
    {"recall@k": float, "ndcg@k": float, "mrr@k": float}
Examples:
    >>> metric = evaluate.load("path/to/genret_retrieval")
    >>> metric.compute(predictions=[["b", "a"]], references=[["a"]], k=10)
    {'recall@10': 1.0, 'ndcg@10': 0.6309297535714575, 'mrr@10': 0.5}
"""

_CITATION = """\
@article{jarvelin2002cumulated,
  title = {Cumulated gain-based evaluation of {IR} techniques},
  author = {J{\\"a}rvelin, Kalervo and Kek{\\"a}l{\\"a}inen, Jaana},
  journal = {ACM Transactions on Information Systems}, volume = {20}, number = {4}, year = {2002}
}
"""


class GenretRetrieval(evaluate.Metric):
    """Item-level recall@k, nDCG@k and MRR@k of ranked document ids."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("string")),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(
        self, predictions: list[list[str]], references: list[list[str]], k: int = 10
    ) -> dict[str, float]:
        if k < 1:
            raise ValueError(f"k has to be at least 1, found {k}.")
        names = (f"recall@{k}", f"ndcg@{k}", f"mrr@{k}")
        values = [
            _one_query(ranked, set(relevant), k)
            for ranked, relevant in zip(predictions, references, strict=True)
            if len(relevant)
        ]
        if not values:
            return dict.fromkeys(names, float("nan"))
        means = (sum(column) / len(values) for column in zip(*values, strict=True))
        return dict(zip(names, means, strict=True))


def _one_query(ranked: list[str], relevant: set[str], k: int) -> tuple[float, float, float]:
    """Recall, nDCG and reciprocal rank of one query at the cut k."""
    if len(set(ranked)) != len(ranked):
        raise ValueError("an id is ranked twice for the same query.")
    ranks = [rank for rank, identifier in enumerate(ranked[:k], 1) if identifier in relevant]
    gain = sum(1.0 / math.log2(rank + 1) for rank in ranks)
    ideal = sum(1.0 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return len(ranks) / len(relevant), gain / ideal, 1.0 / ranks[0] if ranks else 0.0
