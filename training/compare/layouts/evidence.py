"""What tables of presets are made of: figures and runs of every system, and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_genret.data import Queries
from hf_genret.evaluation import Run, compare_with, per_query
from hf_genret.evaluation.expectation import expectation_metrics
from hf_genret.evaluation.significance import holm
from hf_genret.training.compare.summary import Values, equal_pool, metric_facts

Facts = dict[str, Any]
METRICS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
"""Columns of the paper's tables."""
_CUTS = (10, 20)


@dataclass
class Evidence:
    """What was measured of the systems of a comparison.

    Attributes:
        systems: Figures of those that answered queries, by name.
        only_ids: Figures of ids by themselves, by name.
        queries: The split.
        runs: Name -> its runs, one a seed.
        at_beams: (name, beams) -> the same with that many beams.
    """

    systems: Mapping[str, Facts]
    only_ids: Mapping[str, Facts]
    queries: Queries
    runs: Callable[[str], list[Run]]
    at_beams: Callable[[str, int], list[Run]]
    _values: dict[str, tuple[list[Values], list[Values]]] = field(default_factory=dict)

    def ranked(self, name: str) -> list[Values]:
        """Values of every query with the ranker, one dictionary a seed."""
        return self._of(name)[0]

    def alone(self, name: str) -> list[Values]:
        """Values of every query by ids alone (`expectation_metrics`), one dictionary a seed.

        Empty for a system without ids.
        """
        return self._of(name)[1]

    def _of(self, name: str) -> tuple[list[Values], list[Values]]:
        """Both, from runs that are read once: they may be large."""
        if name not in self._values:
            runs, relevant = self.runs(name), self.queries.relevant
            self._values[name] = (
                [per_query(run, self.queries, _CUTS) for run in runs],
                [
                    expectation_metrics(run.buckets, relevant, _CUTS)[0]
                    for run in runs
                    if run.buckets is not None
                ],
            )
        return self._values[name]

    def means(self, values: Sequence[Values]) -> Facts:
        """Mean, interval and seeds of the tables' metrics; empty without values."""
        if not values:
            return {}
        return metric_facts([{name: seed[name] for name in METRICS} for seed in values])

    def with_pool(self, name: str, documents: int) -> Facts:
        """What a system finds among its first documents, as `equal_pool` takes them."""
        return equal_pool(self.runs(name), self.queries, documents)

    def with_beams(self, name: str, beams: int) -> Facts:
        """What a system ranks and finds with a number of beams."""
        runs = self.at_beams(name, beams)
        names = ("recall@10", "ndcg@10", "candidate_recall")
        found = [per_query(run, self.queries, _CUTS) for run in runs]
        ranked = [len(np.unique(pool)) for run in runs for pool in run.pools or ()]
        return {
            "beams": beams,
            "documents": float(np.mean(ranked)) if ranked else None,
            **metric_facts([{metric: seed[metric] for metric in names} for seed in found]),
        }


def changes(
    values: Callable[[str], Sequence[Values]], against: Mapping[str, str], metrics: Sequence[str]
) -> dict[str, Facts]:
    """How far each system is from its own base, and whether that could be chance.

    A system with fewer seeds than its base is held against as many of the base's first ones, so
    that luck with a seed is not taken for a difference.

    Args:
        values: Name -> values of every query, one dictionary a seed, from the first.
        against: System -> its base.
        metrics: Which.

    Returns:
        System -> metric -> what `compare_with` gives (`p` is Holm-corrected over all systems of
        `against`), with `change`, the difference as a share of the base (None where that is 0).
        Systems without values, or whose base has none, are left out.
    """
    out: dict[str, Facts] = {}
    for metric in metrics:
        found = {}
        for name, base in against.items():
            own, other = values(name), values(base)
            shared = min(len(own), len(other))
            if not shared:
                continue
            pair = {
                one: [seed[metric] for seed in seeds[:shared]]
                for one, seeds in ((name, own), (base, other))
            }
            test: Facts = dict(compare_with(pair, base)[name])
            level = float(np.nanmean(pair[base]))
            found[name] = test | {"change": test["difference"] / level if level else None}
        corrected = holm([test["p_single"] for test in found.values()])
        for (name, test), p in zip(found.items(), corrected, strict=True):
            out.setdefault(name, {})[metric] = test | {"p": float(p)}
    return out
