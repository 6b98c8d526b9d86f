"""LoRA on a pretrained text encoder: put on before training, merged into it before publishing."""

from __future__ import annotations

from dataclasses import dataclass

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetModel


@dataclass
class LoraSettings:
    """Low-rank updates of the text encoder (arXiv 2106.09685).

    Attributes:
        r: Rank; 0 leaves LoRA off.
        alpha: Scale of the update, relative to `r`.
        dropout: Dropout before the update.
        targets: Names of the linear maps that are adapted; PEFT's own choice for the
            architecture by default.
    """

    r: int = 0
    alpha: int = 16
    dropout: float = 0.05
    targets: list[str] | None = None


def add_lora(model: GenRetModel, settings: LoraSettings) -> None:
    """Put LoRA on the model's text encoder; from then on only its matrices learn there.

    Raises:
        ConfigError: When PEFT does not know which maps of this architecture to adapt.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
    )
    encoder = model.encoder.query
    try:
        encoder.backbone = get_peft_model(encoder.backbone, config)
    except ValueError as error:
        raise ConfigError(
            f"LoRA cannot be put on this encoder ({error}); set lora.targets."
        ) from error


def merge_lora(model: GenRetModel) -> None:
    """Fold LoRA into the weights; a model without it stays as it is."""
    backbone = getattr(model.encoder.query, "backbone", None)
    if backbone is not None and hasattr(backbone, "merge_and_unload"):
        model.encoder.query.backbone = backbone.merge_and_unload()
