"""nDCG@k of ranked ids, for the `evaluate` library.

Stands alone on purpose: `evaluate.load` copies this file and reads its imports.
"""

from __future__ import annotations

import math

import datasets
import evaluate

_DESCRIPTION = """\
Item-level nDCG@k over ranked document ids, with linear gain and a log2 discount; the ideal ranks
all relevant ids.
"""

_INPUTS = """\
Args:
    predictions: for each query the ids that were returned, best first, no id twice.
    references: for each query the ids that are relevant, no id twice.
    k: the cut, 10 by default.
    gains: for each query the gain of each of its references; 1 for all by default. Ids with a
        gain of 0 or less are not relevant.
Returns:
    {"ndcg@k": float}, the mean over queries with a relevant id; NaN where there is none.
Examples:
    >>> metric = evaluate.load("path/to/genret_ndcg")
    >>> metric.compute(predictions=[["b", "a"]], references=[["a"]], k=10)
    {"ndcg@10": 0.6309297535714575}
"""

_CITATION = """\
@article{jarvelin2002cumulated,
  title = {Cumulated gain-based evaluation of {IR} techniques},
  author = {J{\\"a}rvelin, Kalervo and Kek{\\"a}l{\\"a}inen, Jaana},
  journal = {ACM Transactions on Information Systems}, volume = {20}, number = {4}, year = {2002}
}
"""


class GenretNDCG(evaluate.Metric):
    """nDCG@k of ranked ids."""

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(
        self,
        predictions: list[list[str]],
        references: list[list[str]],
        k: int = 10,
        gains: list[list[float]] | None = None,
    ) -> dict[str, float]:
        _check(predictions, references, k)
        judged = _with_gains(references, gains)
        values = [
            _one_query(ranked, relevant, k)
            for ranked, relevant in zip(predictions, judged, strict=True)
            if relevant
        ]
        return {f"ndcg@{k}": sum(values) / len(values) if values else float("nan")}


def _with_gains(
    references: list[list[str]], gains: list[list[float]] | None
) -> list[dict[str, float]]:
    """For each query id -> gain; gains of 0 or less are not relevant."""
    if gains is None:
        return [dict.fromkeys(ids, 1.0) for ids in references]
    if [len(row) for row in gains] != [len(ids) for ids in references]:
        raise ValueError("gains need one number for each id of references.")
    if not all(math.isfinite(gain) for row in gains for gain in row):
        raise ValueError("gains have to be finite numbers.")
    pairs = [zip(ids, row, strict=True) for ids, row in zip(references, gains, strict=True)]
    return [{name: float(gain) for name, gain in row if gain > 0} for row in pairs]


def _one_query(ranked: list[str], gains: dict[str, float], k: int) -> float:
    """DCG@k / the best possible DCG@k, linear gain and log2 discount."""
    ideal = _dcg(sorted(gains.values(), reverse=True)[:k])
    return _dcg([gains.get(identifier, 0.0) for identifier in ranked[:k]]) / ideal


def _dcg(gains: list[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _check(predictions: list[list[str]], references: list[list[str]], k: int) -> None:
    """Refuse a cut below 1 and ids that would count twice."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k has to be a whole number of at least 1, found {k!r}.")
    for name, lists in (("predictions", predictions), ("references", references)):
        for query, ids in enumerate(lists, start=1):
            if len(set(ids)) != len(ids):
                raise ValueError(f"{name} of query {query} hold an id twice.")
