"""The code that travels with every checkpoint: flat files that need only torch and transformers."""

from __future__ import annotations

if __name__ == "modeling":
    raise ImportError("import hf_genret.modeling: a second copy of the classes would be registered")

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from .beam_genret import Beams, beam_search
from .configuration_genret import GenRetConfig
from .encoders_genret import EncoderOutput
from .generation_genret import TrieLogitsProcessor
from .index_genret import DocidIndex
from .modeling_genret import GenRetModel
from .pretrained_genret import GenRetPreTrainedModel
from .ranking_genret import SearchOutput

AutoConfig.register("genret", GenRetConfig, exist_ok=True)
AutoModel.register(GenRetConfig, GenRetModel, exist_ok=True)
AutoModelForSeq2SeqLM.register(GenRetConfig, GenRetModel, exist_ok=True)
GenRetConfig.register_for_auto_class()
GenRetModel.register_for_auto_class("AutoModelForSeq2SeqLM")

__all__ = [
    "Beams",
    "DocidIndex",
    "EncoderOutput",
    "GenRetConfig",
    "GenRetModel",
    "GenRetPreTrainedModel",
    "SearchOutput",
    "TrieLogitsProcessor",
    "beam_search",
]
