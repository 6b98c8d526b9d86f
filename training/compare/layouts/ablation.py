"""Variants of a method, each beside what it is a change of: URI's second table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_genret.training.compare.layouts.evidence import Evidence, changes
from hf_genret.training.compare.layouts.page import LABELS, change, ids_facts, mean
from hf_genret.training.compare.names import System
from hf_genret.training.compare.presets import Preset
from hf_genret.training.compare.tables import find, grid, number, share

Facts = Mapping[str, Any]
_TESTED = ("recall@10", "recall@20")


def figures(preset: Preset, systems: Sequence[System], evidence: Evidence) -> dict[str, Any]:
    """Rows of variants with their changes against their bases.

    Args:
        preset: Says what each is a change of.
        systems: Its systems, in order.
        evidence: What was measured.

    Returns:
        `rows`.
    """
    there = [system.name for system in systems if system.name in evidence.systems]
    pairs = {name: base for name, base in preset.against.items() if {name, base} <= set(there)}
    tests = {
        part: changes(values, pairs, _TESTED)
        for part, values in (("with_ranker", evidence.ranked), ("ids_alone", evidence.alone))
    }
    rows = [
        {
            "system": name,
            "against": pairs.get(name),
            "ids": ids_facts(evidence.systems[name]),
            "with_ranker": evidence.means(evidence.ranked(name)),
            "ids_alone": evidence.means(evidence.alone(name)),
            "change": {part: found.get(name) for part, found in tests.items()},
        }
        for name in there
    ]
    return {"rows": rows}


def page(facts: Facts) -> list[str]:
    """One table."""
    headings = ["system", "against"]
    for part in ("", ", ids alone"):
        for metric in _TESTED:
            headings += [f"{LABELS[metric]}{part}", "change", "p"]
    headings += ["leaves used", "balance of leaves"]
    rows = []
    for row in facts["rows"]:
        cells = [row["system"], row["against"] or "-"]
        for part in ("with_ranker", "ids_alone"):
            for metric in _TESTED:
                cells += [mean(row, part, metric), *change(row, "change", part, metric)]
        cells.append(number(find(row, "ids", "buckets", "used")))
        cells.append(share(find(row, "ids", "buckets", "balance")))
        rows.append(cells)
    about = (
        "Item-level, with the ranker and by ids alone (random order inside a bucket, exact "
        "expectation). Change: against the system named, with a paired randomization test over "
        "queries, Holm-corrected over the rows."
    )
    return [about, grid(headings, rows)]
