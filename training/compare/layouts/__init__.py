"""Tables of presets: what stands in them as figures, and how they read as a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_genret.training.compare.layouts import ablation, index_swap, scatter
from hf_genret.training.compare.layouts.evidence import Evidence
from hf_genret.training.compare.names import System
from hf_genret.training.compare.presets import Preset

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """One kind of table.

    Attributes:
        figures: What stands in it, as plain values: (preset, its systems, evidence) -> facts.
        page: The same as Markdown, part by part.
    """

    figures: Callable[[Preset, Sequence[System], Evidence], dict[str, Any]]
    page: Callable[[Facts], list[str]]


LAYOUTS = {
    "index_swap": Layout(index_swap.figures, index_swap.page),
    "ablation": Layout(ablation.figures, ablation.page),
    "scatter": Layout(scatter.figures, scatter.page),
}


def lay_out(
    presets: Mapping[str, tuple[Preset, Sequence[System]]], evidence: Evidence
) -> dict[str, dict[str, Any]]:
    """The figures of every preset's table, by name of the preset; a part of the report.

    Args:
        presets: Name -> the preset and its systems at their sizes, in order.
        evidence: What was measured.
    """
    return {
        name: {
            "layout": preset.layout,
            "description": preset.description,
            "note": preset.note,
            "left_out": {n: why for named in preset.left_out.values() for n, why in named.items()},
            **LAYOUTS[preset.layout].figures(preset, systems, evidence),
        }
        for name, (preset, systems) in presets.items()
    }


def pages(report: Facts) -> list[str]:
    """The tables of presets as Markdown, part by part.

    Args:
        report: What `compare` gave.
    """
    parts = []
    for name, facts in report.get("tables", {}).items():
        said = [facts["description"], facts["note"]]
        said += [f"Without {system}: {why}" for system, why in facts["left_out"].items()]
        parts += [f"## {name}", " ".join(said), *LAYOUTS[facts["layout"]].page(facts)]
    return parts
