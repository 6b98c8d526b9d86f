"""What every objective is: loss terms by name, the batches it wants, and how dev judges it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
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
        paths: [N, J, L] int64, all ids where a document owns several; None where it has one.
    """

    codes: Tensor
    level: int
    sizes: list[int]
    relevant: list[dict[int, float]]
    paths: Tensor | None = None

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.codes)


@dataclass(frozen=True)
class Clock:
    """How far a stage is.

    Attributes:
        step: Optimizer steps done.
        total: Optimizer steps of the stage.
        epoch: Passes over the training pairs done, with a fraction.
    """

    step: int = 0
    total: int = 1
    epoch: float = 0.0

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        return min(self.step / max(self.total, 1), 1.0)


class Objective(ABC):
    """Loss terms of one kind of stage; called inside `GenRetModel.forward`.

    Args:
        context: Ids, level and judgments.
        options: The recipe's settings for this objective; an unknown one is an error.

    Attributes:
        searches: Whether dev is judged by a search under the present ids, beside exhaustive
            ranking; then every document needs its whole id.
        watched: Whether a few token distributions are recorded over training.
        clock: Set before every step.
        use: How often each code was the most probable one since the last log, by level from 1.
    """

    Options: ClassVar[type]
    searches: ClassVar[bool] = False
    watched: ClassVar[bool] = False

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
        self.clock = Clock()
        self.use: dict[int, Tensor] = {}
        self._noted: dict[str, list[Tensor]] = {}

    @classmethod
    def codes_needed(cls, level: int, levels: int) -> int:
        """How many leading levels must have codes before a stage of this objective.

        Args:
            level: Level that the stage trains, from 1; 0 means all.
            levels: L.
        """
        del level
        return levels if cls.searches else 0

    def sample(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Further document rows for a batch, by name; none by default."""
        del rows, rng
        return {}

    def sample_for(
        self, queries: np.ndarray, rows: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`sample`, for objectives whose further rows depend on the query numbers too."""
        del queries
        return self.sample(rows, rng)

    def groups(self) -> np.ndarray | None:
        """For each document row the group whose pairs share batches, [N]; None for no groups."""
        return None

    def reads_all(self) -> bool:
        """Whether every step reads every item of a catalogue: then it moves all of them."""
        return False

    def state(self) -> dict[str, Tensor]:
        """What has to survive an interruption beside the weights (moving averages)."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        del state

    def count(self, level: int, codes: Tensor) -> None:
        """Note the most probable codes [B] of a batch at a level, from 1, for `use`."""
        counts = torch.bincount(codes.detach().cpu(), minlength=self.context.sizes[level - 1])
        self.use[level] = self.use.get(level, 0) + counts

    def note(self, name: str, value: Tensor) -> None:
        """Remember a figure that is no loss; its mean is logged."""
        self._noted.setdefault(name, []).append(value.detach().float().cpu())

    def figures(self) -> dict[str, float]:
        """Means of what was noted since the last call."""
        found = {name: float(torch.stack(values).mean()) for name, values in self._noted.items()}
        self._noted.clear()
        return found

    @abstractmethod
    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted loss terms by name; their sum is the loss."""


def soft_cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """H(target, softmax(logits)) averaged over rows: -sum_j target_j log p_j (nats)."""
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def codes_of(context: Context, rows: Tensor, levels: int | None = None) -> Tensor:
    """Ids of document rows [B] on the rows' device, [B, levels] (all levels by default)."""
    return context.codes[rows.cpu(), :levels].to(rows.device)


def paths_of(context: Context, rows: Tensor) -> Tensor:
    """All ids of document rows [B] on the rows' device, [B, J, L]; J = 1 where there is one."""
    if context.paths is None:
        return codes_of(context, rows)[:, None]
    return context.paths[rows.cpu()].to(rows.device)


def straight_through(weights: Tensor, hard: Tensor | None = None) -> Tensor:
    """One-hot forward, the gradient of the probabilities [B, K] backward.

    Args:
        weights: Probabilities.
        hard: [B], the codes that stand forward; the most probable ones by default.
    """
    codes = weights.argmax(-1) if hard is None else hard
    one = nn.functional.one_hot(codes, weights.shape[-1]).to(weights.dtype)
    return one - weights.detach() + weights


def same_pairs(context: Context, queries: Tensor, rows: Tensor) -> Tensor:
    """Which documents of a batch are relevant to which of its queries, [B, B] bool.

    The diagonal is True; so is every other pair that would be a false negative.
    """
    same = rows[:, None] == rows[None, :]
    lists = [context.relevant[number] for number in queries.tolist()]
    if any(len(relevant) > 1 for relevant in lists):
        known = torch.tensor(
            [[row in relevant for row in rows.tolist()] for relevant in lists], device=rows.device
        )
        same = same | known
    return same


def mean_over_processes(values: Tensor) -> Tensor:
    """Mean over processes that carries gradients; the tensor itself with one process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    total: Tensor = distributed_nn.functional.all_reduce(values)
    return total / torch.distributed.get_world_size()
