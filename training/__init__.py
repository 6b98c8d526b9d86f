"""What makes a checkpoint: trainer, objectives, curriculum and recipes."""

from __future__ import annotations

from hf_genret.training.arguments import GenRetTrainingArguments
from hf_genret.training.curriculum import Stage
from hf_genret.training.genret_trainer import GenRetTrainer

__all__ = ["GenRetTrainer", "GenRetTrainingArguments", "Stage"]
