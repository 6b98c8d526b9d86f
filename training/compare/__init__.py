"""Comparison of systems: one command trains, measures and sets them side by side."""

from __future__ import annotations

from hf_genret.training.compare.names import System, known_systems, parse_systems
from hf_genret.training.compare.presets import list_presets
from hf_genret.training.compare.runner import compare
from hf_genret.training.compare.tables import quality_table
from hf_genret.training.compare.write import write_report

__all__ = [
    "System",
    "compare",
    "known_systems",
    "list_presets",
    "parse_systems",
    "quality_table",
    "write_report",
]
