"""Objectives by name; a stage of the curriculum chooses one."""

from __future__ import annotations

from hf_genret.training.objectives.base import Clock, Context, Objective
from hf_genret.training.objectives.cross_entropy import CrossEntropyObjective
from hf_genret.training.objectives.ranker import RankerObjective
from hf_genret.training.objectives.uri import UriObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "ranker": RankerObjective,
    "uri": UriObjective,
    "cross_entropy": CrossEntropyObjective,
}

__all__ = [
    "OBJECTIVES",
    "Clock",
    "Context",
    "CrossEntropyObjective",
    "Objective",
    "RankerObjective",
    "UriObjective",
]
