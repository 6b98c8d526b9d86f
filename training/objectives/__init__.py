"""Objectives by name; a stage of the curriculum chooses one."""

from __future__ import annotations

from hf_genret.training.objectives.asi import AsiObjective, AsiPlusObjective
from hf_genret.training.objectives.base import Clock, Context, Objective
from hf_genret.training.objectives.cross_entropy import CrossEntropyObjective
from hf_genret.training.objectives.deep_retrieval import DeepRetrievalObjective
from hf_genret.training.objectives.dgi import DgiObjective
from hf_genret.training.objectives.dsi import DsiObjective
from hf_genret.training.objectives.genret import GenRetObjective
from hf_genret.training.objectives.nci import NciObjective
from hf_genret.training.objectives.ranker import RankerObjective
from hf_genret.training.objectives.recforest import RecForestObjective
from hf_genret.training.objectives.uri import UriObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "ranker": RankerObjective,
    "uri": UriObjective,
    "cross_entropy": CrossEntropyObjective,
    "asi": AsiObjective,
    "asi++": AsiPlusObjective,
    "genret": GenRetObjective,
    "dgi": DgiObjective,
    "dsi": DsiObjective,
    "nci": NciObjective,
    "recforest": RecForestObjective,
    "deep_retrieval": DeepRetrievalObjective,
}

__all__ = [
    "OBJECTIVES",
    "AsiObjective",
    "AsiPlusObjective",
    "Clock",
    "Context",
    "CrossEntropyObjective",
    "DeepRetrievalObjective",
    "DgiObjective",
    "DsiObjective",
    "GenRetObjective",
    "NciObjective",
    "Objective",
    "RankerObjective",
    "RecForestObjective",
    "UriObjective",
]
