"""From runs to the report of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hf_genret.data import Queries
from hf_genret.evaluation import Run
from hf_genret.training.compare.layouts import lay_out
from hf_genret.training.compare.layouts.evidence import Evidence, changes
from hf_genret.training.compare.measure import DEPTH
from hf_genret.training.compare.names import System
from hf_genret.training.compare.presets import Preset
from hf_genret.training.compare.results import Results
from hf_genret.training.compare.summary import (
    Facts,
    Values,
    averaged,
    curve,
    equal_pool,
    metric_facts,
    seed_values,
)

TESTED = ("ndcg@10", "recall@10", "candidate_recall")
_AVERAGED = (
    "documents_ranked",
    "share_ranked",
    "expectation",
    "bucket",
    "seen",
    "unseen",
    "mixed",
    "frequency",
    "frequency5",
    "content",
    "ids",
    "costs",
)
_FIRST = (
    "notes",
    "fusion",
    "beams",
    "beam_weight",
    "queries",
    "unjudged",
    "facts",
    "machine",
    "id_counts",
)
_OF_A_RUN = (
    "metrics",
    "candidate_recall",
    "documents_ranked",
    "beams",
    "beam_weight",
    "fusion",
    "facts",
    "costs",
    "ids",
    "warnings",
)
"""What a report repeats of every run; the rest stands beside the run itself."""

Measured = dict[str, dict[int, Facts]]
"""System -> seed -> figures of that run."""


def main_metric(queries: Queries) -> str:
    """What systems are compared by: R@10 where histories are continued, nDCG@10 elsewhere."""
    return "ndcg@10" if queries.histories is None else "recall@10"


def assemble(
    systems: Sequence[System],
    measured: Measured,
    results: Results,
    baseline: str | None,
    presets: Mapping[str, tuple[Preset, Sequence[System]]] | None = None,
) -> Facts:
    """The parts of a report that are about systems.

    Args:
        systems: Those listed, in order.
        measured: Figures of every run that was made.
        results: Where the runs lie.
        baseline: The system that the others are tested against; None when it failed.
        presets: Those whose tables are laid out, each with its systems.

    Returns:
        `systems`, `runs`, `only_ids` (of ids by themselves), `metric`, `baseline`, `equal_pool`
        and `tables` (of presets).
    """
    found = [system for system in systems if measured.get(system.name)]
    listed = [system for system in found if system.searched]
    pool = smallest_pool(measured, [system.name for system in listed])
    out: dict[str, Facts] = {}
    values: dict[str, list[Values]] = {}
    for system in listed:
        seeds = measured[system.name]
        runs = [results.get(system, seed)[0] for seed in seeds]
        values[system.name] = seed_values(runs, results.queries)
        out[system.name] = system_facts(
            list(seeds.values()), runs, values[system.name], results.queries, pool
        )
        out[system.name]["seeds"] = list(seeds)
        if system.recipe:
            out[system.name]["command"] = results.checkpoints.command(system, min(seeds))
    metric = main_metric(results.queries)
    if baseline in out:
        add_tests(out, values, baseline)
    only_ids = {
        system.name: ids_facts(list(measured[system.name].values()))
        for system in found
        if not system.searched
    }
    return {
        "metric": metric,
        "baseline": baseline if baseline in out else None,
        "equal_pool": None if pool is None else {"documents": pool},
        "systems": out,
        "only_ids": only_ids,
        "tables": lay_out(presets or {}, evidence(listed, out, only_ids, results)),
        "runs": {
            system.name: {
                str(seed): {name: facts[name] for name in _OF_A_RUN if name in facts}
                for seed, facts in measured[system.name].items()
            }
            for system in listed
        },
    }


def evidence(
    systems: Sequence[System],
    facts: Mapping[str, Facts],
    only_ids: Mapping[str, Facts],
    results: Results,
) -> Evidence:
    """What tables of presets are made of.

    Args:
        systems: Those that answered queries.
        facts: Their figures over seeds, by name.
        only_ids: Figures of ids by themselves, by name.
        results: Where the runs lie.
    """
    by_name = {system.name: system for system in systems}

    def runs(name: str) -> list[Run]:
        return [results.get(by_name[name], seed)[0] for seed in facts[name]["seeds"]]

    def at_beams(name: str, beams: int) -> list[Run]:
        if facts[name]["beams"] == beams:
            return runs(name)
        return [results.at_beams(by_name[name], seed, beams) for seed in facts[name]["seeds"]]

    return Evidence(facts, only_ids, results.queries, runs, at_beams)


def smallest_pool(measured: Measured, names: Sequence[str]) -> int | None:
    """Documents that every system with ids ranks on average; None without such a system."""
    pools = [
        averaged([facts["documents_ranked"] for facts in measured[name].values()])
        for name in names
        if all("ids" in facts for facts in measured[name].values())
    ]
    return max(1, int(min(pools))) if pools else None


def system_facts(
    facts: Sequence[Facts],
    runs: Sequence[Run],
    values: Sequence[Values],
    queries: Queries,
    pool: int | None,
) -> Facts:
    """One system over its seeds.

    Args:
        facts: Figures of each seed.
        runs: Its runs, in the same order.
        values: Metrics of every query, in the same order.
        queries: The split.
        pool: Documents at which systems with ids are compared.
    """
    metrics = metric_facts(values)
    candidates = metrics.pop("candidate_recall", None)
    out: Facts = {"metrics": metrics, "candidate_recall": candidates}
    for name in _AVERAGED:
        if name in facts[0]:
            out[name] = averaged([seed[name] for seed in facts])
    out |= {name: facts[0][name] for name in _FIRST if name in facts[0]}
    out |= _warnings(facts)
    if pool is not None:
        out["equal_pool"] = equal_pool(runs, queries, pool)
    out["curve"] = curve(runs, queries, min(out["documents_ranked"], DEPTH))
    return out


def ids_facts(facts: Sequence[Facts]) -> Facts:
    """Ids by themselves over their seeds."""
    out: Facts = {"ids": averaged([seed["ids"] for seed in facts])}
    return out | {"seeds": len(facts), **_warnings(facts)}


def _warnings(facts: Sequence[Facts]) -> Facts:
    """What was seen of a collapse with any seed, each sentence once."""
    found = [warning for seed in facts for warning in seed.get("warnings", ())]
    return {"warnings": list({warning["message"]: warning for warning in found}.values())}


def add_tests(
    systems: dict[str, Facts], values: Mapping[str, Sequence[Values]], baseline: str
) -> None:
    """Put ratio, difference and significance against the baseline into every other system.

    Args:
        systems: Figures by name; changed in place.
        values: Metrics of every query by name, one dictionary a seed.
        baseline: Among them.
    """
    against = {name: baseline for name in systems if name != baseline}
    for name, tests in changes(lambda system: values[system], against, TESTED).items():
        for test in tests.values():
            change = test.pop("change")
            test["ratio"] = None if change is None else 1 + change
        systems[name]["against_baseline"] = tests
