"""How far ids scatter what belongs together (APE), by kind of ids and size of the codebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_genret.training.compare.layouts.evidence import Evidence
from hf_genret.training.compare.names import System
from hf_genret.training.compare.presets import Preset
from hf_genret.training.compare.tables import find, grid, number, share

Facts = Mapping[str, Any]
_LEVELS = {"leaf": "### APE of leaves", "level_1": "### APE of level 1"}


def figures(preset: Preset, systems: Sequence[System], evidence: Evidence) -> dict[str, Any]:
    """APE, the same of random ids with equal bucket sizes, and balance.

    Args:
        preset: The preset.
        systems: Its systems, in order, at every size.
        evidence: What was measured.

    Returns:
        `kinds` of ids in order, `positives` (mean of a query), `unbucketed` (APE of unique ids),
        and `rows`: one a size, `codebook_sizes` and `ids` (kind -> figures).
    """
    del preset
    rows: dict[tuple[int, ...], dict[str, Any]] = {}
    kinds: dict[str, None] = {}
    ape: Facts = {}
    for system in systems:
        facts = (evidence.systems if system.searched else evidence.only_ids).get(system.name)
        if facts is None or "ids" not in facts:
            continue
        ids, kind = facts["ids"], system.name.partition("@")[0]
        ape, kinds[kind] = ids["ape"], None
        rows.setdefault(tuple(map(int, ids["codebook_sizes"])), {})[kind] = {
            **{level: ape[level] for level in _LEVELS},
            "buckets": ids["buckets"],
            "searched": system.searched,
        }
    return {
        "kinds": list(kinds),
        "positives": ape.get("positives"),
        "unbucketed": ape.get("unbucketed"),
        "rows": [
            {"codebook_sizes": list(sizes), "ids": ids} for sizes, ids in sorted(rows.items())
        ],
    }


def page(facts: Facts) -> list[str]:
    """APE of leaves, APE of level 1, and the buckets beside which they have to be read."""
    parts = [_about(facts)]
    for level, title in _LEVELS.items():
        parts += [title, _table(facts, lambda ids, level=level: _ape(ids, level))]
    about = "Balance of leaves (1 is even) and, in brackets, documents of the largest one."
    return [*parts, "### Buckets", about, _table(facts, _buckets)]


def _about(facts: Facts) -> str:
    alone = {
        kind for row in facts["rows"] for kind, ids in row["ids"].items() if not ids["searched"]
    }
    said = [
        "APE in nats: how far what one training query or user takes is scattered over buckets; in "
        "brackets random ids with the same bucket sizes. Lower is better at equal balance: one "
        "bucket for everything would have 0."
    ]
    if alone:
        said.append(
            f"Of {', '.join(kind for kind in facts['kinds'] if kind in alone)} nothing was trained "
            "and nothing was searched: these ids are made of the vectors of the encoder that all "
            "systems start from."
        )
    if facts["positives"] is not None:
        said.append(
            f"A query has {number(facts['positives'], 2)} documents on average, and unique ids "
            f"have {number(facts['unbucketed'], 3)}."
        )
    return " ".join(said)


def _table(facts: Facts, cell: Any) -> str:
    headings = ["codes", *facts["kinds"]]
    rows = [
        [
            "×".join(map(str, row["codebook_sizes"])),
            *(cell(row["ids"].get(kind)) for kind in facts["kinds"]),
        ]
        for row in facts["rows"]
    ]
    return grid(headings, rows)


def _ape(ids: Facts | None, level: str) -> str:
    if ids is None:
        return "-"
    return f"{number(ids[level]['ape'], 3)} ({number(ids[level]['random'], 3)})"


def _buckets(ids: Facts | None) -> str:
    if ids is None:
        return "-"
    largest = number(find(ids, "buckets", "size", "max"))
    return f"{share(find(ids, 'buckets', 'balance'))} ({largest})"
