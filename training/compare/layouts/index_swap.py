"""Every decoder on its own ids and on another system's, with the ranker and without it.

URI's Table 1 sets buckets with a ranker beside decoders of bijective ids without one. Here every
system has both, and what it ranks stands beside it: at equal beams and at equal pools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_genret.training.compare.layouts.evidence import METRICS, Evidence, changes
from hf_genret.training.compare.layouts.page import LABELS, change, ids_facts, ids_of, mean
from hf_genret.training.compare.names import INDEX_FROM, System
from hf_genret.training.compare.presets import Preset
from hf_genret.training.compare.tables import find, grid, number

Facts = Mapping[str, Any]
_TESTED = ("recall@10", "ndcg@10")
_PARTS = {
    "with_ranker": (
        "### With the ranker",
        "Every document of the leaves that are visited is ranked by the same encoder and ranker, "
        "also for bijective ids; the beam's own score counts at the weight that dev chose.",
    ),
    "ids_alone": (
        "### Ids alone",
        "Without the ranker: leaves in the order of the beam, the documents of a bucket in random "
        "order (exact expectation); nothing to choose where ids are bijective.",
    ),
}


def figures(preset: Preset, systems: Sequence[System], evidence: Evidence) -> dict[str, Any]:
    """Rows of systems with and without the ranker, their changes, and what each ranks.

    Args:
        preset: The preset.
        systems: Its systems, in order.
        evidence: What was measured.

    Returns:
        `beams` and `pool` at which systems are set side by side, and `rows`.
    """
    del preset
    there = [system for system in systems if system.name in evidence.systems]
    pairs = {system.name: _own(system) for system in there if system.index_from is not None}
    pairs = {name: own for name, own in pairs.items() if own in evidence.systems}
    tests = {
        part: changes(values, pairs, _TESTED)
        for part, values in (("with_ranker", evidence.ranked), ("ids_alone", evidence.alone))
    }
    with_ids = [evidence.systems[s.name] for s in there if "ids" in evidence.systems[s.name]]
    beams = int(min((facts["beams"] for facts in with_ids), default=0))
    pool = int(min((facts["documents_ranked"] for facts in with_ids), default=0))
    rows = []
    for system in there:
        facts = evidence.systems[system.name]
        row: dict[str, Any] = {
            "system": system.name,
            "decoder": _own(system),
            "index_from": None if system.index_from is None else system.index_from.name,
            "ids": ids_facts(facts),
            "beams": facts["beams"] if "ids" in facts else None,
            "documents_ranked": facts["documents_ranked"],
            "with_ranker": evidence.means(evidence.ranked(system.name)),
            "ids_alone": evidence.means(evidence.alone(system.name)),
            "change": {part: found.get(system.name) for part, found in tests.items()},
        }
        if with_ids:
            row["equal_pool"] = evidence.with_pool(system.name, max(pool, 1))
        if "ids" in facts:
            row["equal_beams"] = evidence.with_beams(system.name, beams)
        rows.append(row)
    return {"beams": beams or None, "pool": max(pool, 1) if with_ids else None, "rows": rows}


def page(facts: Facts) -> list[str]:
    """Three tables: with the ranker, ids alone, and what is ranked."""
    parts = [_about(facts)]
    for part, (title, about) in _PARTS.items():
        parts += [title, about, _quality(facts, part)]
    return [*parts, "### Equal beams and equal pools", _about_pools(facts), _pools(facts)]


def _own(system: System) -> str:
    """The name of the same decoder on its own ids."""
    if system.index_from is None:
        return system.name
    return system.name.partition(f":{INDEX_FROM}")[0]


def _label(row: Facts) -> str:
    if row["index_from"] is None:
        return str(row["system"])
    return f"{row['decoder']} on the ids of {row['index_from']}"


def _about(facts: Facts) -> str:
    others = dict.fromkeys(row["index_from"] for row in facts["rows"] if row["index_from"])
    said = [
        "Item-level, never by buckets. Change: against the same decoder on its own ids, with a "
        "paired randomization test over queries, Holm-corrected over the rows of the table."
    ]
    if others:
        said.append(
            f"A decoder on the ids of {' or '.join(others)} is trained anew on the ids of that "
            "checkpoint of the same seed; the row says whether a last code makes them bijective."
        )
    return " ".join(said)


def _quality(facts: Facts, part: str) -> str:
    headings = ["system", "ids", *(LABELS[metric] for metric in METRICS)]
    for metric in _TESTED:
        headings += [f"change of {LABELS[metric]}", "p"]
    rows = []
    for row in facts["rows"]:
        if not row[part]:
            continue
        cells = [_label(row), ids_of(row), *(mean(row, part, metric) for metric in METRICS)]
        for metric in _TESTED:
            cells += change(row, "change", part, metric)
        rows.append(cells)
    return grid(headings, rows)


def _about_pools(facts: Facts) -> str:
    beams, pool = facts["beams"], facts["pool"]
    if beams is None:
        return "No system has ids."
    return (
        f"With the ranker. As trained: the beams of the checkpoint; {_at(beams)}: "
        "searched again with as many beams as the fewest, which rank more documents where buckets "
        f"are larger. Of {pool:,} documents: the first {pool:,} of the leaves as trained (of the "
        "ranking, without ids); of bijective ids these are the first beams."
    )


def _at(beams: int) -> str:
    return f"at {beams} beam{'' if beams == 1 else 's'}"


def _pools(facts: Facts) -> str:
    beams, pool = facts["beams"], facts["pool"]
    if beams is None:
        return ""
    headings = ["system", "ids", "beams", "documents ranked", "R@10", "N@10"]
    headings += [f"documents {_at(beams)}", "candidate recall", "R@10", "N@10"]
    headings += [f"candidate recall of {pool:,} documents", "N@10"]
    rows = []
    for row in facts["rows"]:
        cells = [_label(row), ids_of(row), number(row["beams"]), number(row["documents_ranked"])]
        cells += [mean(row, "with_ranker", "recall@10"), mean(row, "with_ranker", "ndcg@10")]
        cells.append(number(find(row, "equal_beams", "documents")))
        names = ("candidate_recall", "recall@10", "ndcg@10")
        cells += [mean(row, "equal_beams", name) for name in names]
        cells += [mean(row, "equal_pool", name) for name in ("candidate_recall", "ndcg@10")]
        rows.append(cells)
    return grid(headings, rows)
