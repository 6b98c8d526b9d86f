"""LoRA by recipe: put on before training; merged, and kept as an adapter, when it is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_genret.adapters import BACKBONE
from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetModel

DECODER = "decoder."
PARTS = ("encoder", "model")


@dataclass
class LoraSettings:
    """Low-rank updates of linear maps (arXiv 2106.09685).

    Attributes:
        r: Rank; 0 leaves LoRA off.
        alpha: Scale of the update, relative to `r`.
        dropout: Dropout before the update.
        part: `encoder`, the pretrained text encoder; or `model`, the decoder of the checkpoint
            that `start_from` names too.
        targets: Ends of the names of the encoder's linear maps that are adapted; PEFT's own
            choice for the architecture by default. Of a decoder all are.
    """

    r: int = 0
    alpha: int = 16
    dropout: float = 0.05
    part: str = "encoder"
    targets: list[str] | None = None


def add_lora(model: GenRetModel, settings: LoraSettings) -> None:
    """Put LoRA on the model's linear maps.

    Raises:
        ConfigError: When there are none, or PEFT does not know which of them to adapt.
    """
    from peft import LoraConfig, inject_adapter_in_model

    maps = target_maps(model, settings)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=maps,
        # PEFT looks at each map by itself; said only so that it need not warn.
        fan_in_fan_out=isinstance(model.get_submodule(maps[0]), Conv1D),
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(f"LoRA cannot be put on this model ({error}).") from error


def target_maps(model: GenRetModel, settings: LoraSettings) -> list[str]:
    """Full names of the linear maps that the settings adapt, in the model's order.

    Raises:
        ConfigError: When there are none.
    """
    if settings.part not in PARTS:
        raise ConfigError(f"lora.part is '{settings.part}'; encoder or model was expected.")
    kinds = (nn.Linear, Conv1D)  # GPT-2 and its like have linear maps of their own kind
    maps = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    in_backbone = [name for name in maps if name.startswith(BACKBONE)]
    ends = settings.targets
    if in_backbone and ends is None:
        ends = _usual(model.encoder.query.backbone)
    found = [name for name in in_backbone if any(name.endswith(f".{end}") for end in ends or [])]
    if in_backbone and not found:
        raise ConfigError(
            f"LoRA cannot be put on this encoder (no linear map is called {ends}); "
            "set lora.targets."
        )
    if settings.part == "model":
        found += [name for name in maps if name.startswith(DECODER)]
    if not found and hasattr(model.encoder.query, "backbone"):
        raise ConfigError("LoRA cannot be put on this encoder: it has no linear maps.")
    if not found:
        raise ConfigError(
            "lora.r needs a pretrained text encoder (encoder=NAME), this model has none; "
            "or a whole checkpoint to adapt (lora.part=model and start_from=CHECKPOINT)."
        )
    return found


def _usual(backbone: Any) -> list[str]:
    """What PEFT adapts in an architecture.

    Raises:
        ConfigError: When it does not know.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL

    kind = backbone.config.model_type
    if not isinstance(
        USUAL.get(kind), list
    ):  # a few are patterns over whole models of several parts
        raise ConfigError(
            f"LoRA cannot be put on this encoder (PEFT knows no maps of '{kind}'); "
            "set lora.targets."
        )
    return list(USUAL[kind])
