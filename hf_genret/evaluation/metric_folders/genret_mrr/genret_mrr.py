"""MRR@k of ranked ids, for the `evaluate` library.

Stands alone on purpose: `evaluate.load` copies this file and reads its imports.
"""

from __future__ import annotations

import datasets
import evaluate

_DESCRIPTION = """\
Item-level mean reciprocal rank over ranked document ids: 1 / rank of the first relevant id among
the first k, 0 where none stands there.
"""

_INPUTS = """\
Args:
    predictions: for each query the ids that were returned, best first, no id twice.
    references: for each query the ids that are relevant, no id twice.
    k: the cut, 10 by default.
Returns:
    {"mrr@k": float}, the mean over queries with a relevant id; NaN where there is none.
Examples:
    >>> metric = evaluate.load("path/to/genret_mrr")
    >>> metric.compute(predictions=[["b", "a"]], references=[["a"]], k=10)
    {"mrr@10": 0.5}
"""

_CITATION = """\
@inproceedings{voorhees1999trec,
  title = {The {TREC}-8 question answering track report},
  author = {Voorhees, Ellen M.}, booktitle = {TREC}, year = {1999}
}
"""


class GenretMRR(evaluate.Metric):
    """MRR@k of ranked ids."""

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(
        self, predictions: list[list[str]], references: list[list[str]], k: int = 10
    ) -> dict[str, float]:
        _check(predictions, references, k)
        values = [
            _one_query(ranked[:k], set(relevant))
            for ranked, relevant in zip(predictions, references, strict=True)
            if len(relevant)
        ]
        return {f"mrr@{k}": sum(values) / len(values) if values else float("nan")}


def _one_query(ranked: list[str], relevant: set[str]) -> float:
    """1 / rank of the first relevant id, 0 without one."""
    ranks = (rank for rank, identifier in enumerate(ranked, start=1) if identifier in relevant)
    return 1.0 / next(ranks, float("inf"))


def _check(predictions: list[list[str]], references: list[list[str]], k: int) -> None:
    """Refuse a cut below 1 and ids that would count twice."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k has to be a whole number of at least 1, found {k!r}.")
    for name, lists in (("predictions", predictions), ("references", references)):
        for query, ids in enumerate(lists, start=1):
            if len(set(ids)) != len(ids):
                raise ValueError(f"{name} of query {query} hold an id twice.")
