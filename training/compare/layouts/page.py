"""Cells that the tables of all layouts have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_genret.training.compare.tables import find, number, p_value, share

Facts = Mapping[str, Any]
LABELS = {"recall@10": "R@10", "ndcg@10": "N@10", "recall@20": "R@20", "ndcg@20": "N@20"}


def mean(facts: Facts, *path: str) -> str:
    """The mean at a path of keys, four digits, `-` where there is none."""
    return share(find(facts, *path, "mean"), 4)


def change(facts: Facts, *path: str) -> list[str]:
    """Change in percent and p of the test at a path of keys."""
    value = find(facts, *path, "change")
    return ["-" if value is None else f"{100 * value:+.1f} %", p_value(find(facts, *path, "p"))]


def ids_facts(facts: Facts) -> dict[str, Any] | None:
    """Of the figures of a system what `ids_of` tells; None without ids."""
    if not find(facts, "ids"):
        return None
    names = ("codebook_sizes", "ids_per_document", "largest_bucket", "buckets")
    return {name: find(facts, "ids", name) for name in names}


def ids_of(facts: Facts) -> str:
    """What the ids of a system are: bijective or buckets, and how many a document has."""
    if not find(facts, "ids"):
        return "none"
    largest, several = facts["ids"]["largest_bucket"], facts["ids"]["ids_per_document"]
    size = number(find(facts, "ids", "buckets", "size", "mean"), 1)
    shown = "bijective" if largest == 1 else f"buckets of {size} (up to {number(largest)})"
    return shown if several == 1 else f"{shown}, {number(several, 1)} ids a document"
