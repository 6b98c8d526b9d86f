"""Which parts of a model learn in a stage."""

from __future__ import annotations

from torch import nn

from hf_genret.modeling import GenRetModel
from hf_genret.training.curriculum import PARTS


def freeze(model: nn.Module, train: list[str]) -> None:
    """Let only the named parts learn."""
    prefixes = tuple(prefix for part in train for prefix in PARTS[part])
    lora = any("lora_" in name for name, _ in model.named_parameters())
    for name, parameter in model.named_parameters():
        learns = name.startswith(prefixes)
        if ".base_layer." in name or (lora and name.startswith("encoder.query.")):
            learns = learns and "lora_" in name  # the weights below stay as they are
        parameter.requires_grad_(learns)


def keep_frozen_still(model: GenRetModel) -> None:
    """Switch dropout off in encoders that do not learn."""
    for encoder in (model.encoder.query, model.encoder.items, model.encoder.history):
        if encoder is not None and not any(p.requires_grad for p in encoder.parameters()):
            encoder.eval()
