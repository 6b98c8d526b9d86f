"""What every objective is: loss terms by name, the items it samples, and how dev judges it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.distributed import nn as distributed_nn

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetModel


@dataclass
class Context:
    """What an objective may look at besides its batch.

    Attributes:
        codes: [N, L] int64, ids so far, -1 where none was assigned.
        level: Level that is trained, from 1; 0 means all.
        sizes: K_1 .. K_L.
        relevant: For each training query its relevant rows, to tell false negatives.
    """

    codes: Tensor
    level: int
    sizes: list[int]
    relevant: list[dict[int, float]]

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.codes)


class Objective(ABC):
    """Loss terms of one kind of stage; called inside `GenRetModel.forward`.

    Args:
        context: Ids, level and judgments.
        options: The recipe's settings for this objective; an unknown one is an error.
    """

    Options: ClassVar[type]

    def __init__(self, context: Context, options: dict[str, Any]) -> None:
        known = {item.name for item in dataclasses.fields(self.Options)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise ConfigError(
                f"{type(self).__name__} knows no setting {', '.join(unknown)}; "
                f"known: {', '.join(sorted(known))}."
            )
        self.context = context
        self.options = self.Options(**options)

    def sample(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Further document rows for a batch, by name; none by default."""
        del rows, rng
        return {}

    @abstractmethod
    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted loss terms by name; their sum is the loss."""


def soft_cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """H(target, softmax(logits)) averaged over rows: -sum_j target_j log p_j (nats)."""
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def mean_over_processes(values: Tensor) -> Tensor:
    """Mean over processes that carries gradients; the tensor itself with one process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    total: Tensor = distributed_nn.functional.all_reduce(values)
    return total / torch.distributed.get_world_size()
