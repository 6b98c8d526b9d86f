"""Estimators of a discrete choice: what stands forward, where gradients go, how much noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hf_genret.training.objectives.base import mean_over_processes, straight_through


class Estimator(ABC):
    """The weights of a level's codes that stand for a document's choice.

    Attributes:
        tau: Temperature at the beginning and at the end of a stage, unless a recipe says.
        noise: Name in `NOISES`, unless a recipe says.
    """

    tau: ClassVar[tuple[float, float]] = (1.0, 1.0)
    noise: ClassVar[str] = "none"

    @abstractmethod
    def __call__(self, probabilities: Tensor, codes: Tensor) -> Tensor:
        """Weights [B, K].

        Args:
            probabilities: [B, K], softmax((logits + noise) / tau).
            codes: [B], the most probable codes without noise.
        """


class Soft(Estimator):
    """The distribution itself, forward and backward: DGI (arXiv 2603.10409, Eq. 6)."""

    tau = (1.0, 0.1)
    noise = "gumbel"

    def __call__(self, probabilities: Tensor, codes: Tensor) -> Tensor:
        """The probabilities."""
        del codes
        return probabilities


class HardGumbel(Estimator):
    """A code drawn forward, the gradient of the distribution backward: DIGER (arXiv 2601.19711)."""

    tau = (2.0, 2.0)
    noise = "gumbel"

    def __call__(self, probabilities: Tensor, codes: Tensor) -> Tensor:
        """One-hot at the most probable code, noise included: that draws it by softmax(logits)."""
        del codes
        return straight_through(probabilities)


class StraightThrough(Estimator):
    """The most probable code forward, the gradient of the distribution backward."""

    def __call__(self, probabilities: Tensor, codes: Tensor) -> Tensor:
        """One-hot at `codes`."""
        return straight_through(probabilities, codes)


class Detached(Estimator):
    """The most probable code, and no gradient to what chose it (DGI without soft gradient)."""

    def __call__(self, probabilities: Tensor, codes: Tensor) -> Tensor:
        """One-hot at `codes`, a constant."""
        return functional.one_hot(codes, probabilities.shape[-1]).to(probabilities.dtype)


ESTIMATORS: dict[str, type[Estimator]] = {
    "soft": Soft,
    "hard_gumbel": HardGumbel,
    "straight_through": StraightThrough,
    "detached": Detached,
}


def gumbel(like: Tensor) -> Tensor:
    """Independent Gumbel(0, 1) noise of the shape of `like`."""
    return -torch.empty_like(like).exponential_().log()


class Noise:
    """What is added to the logits of a batch, level after level.

    Args:
        size: K of the first level.
        momentum: Of moving averages.
    """

    def __init__(self, size: int, momentum: float) -> None:
        self.size, self.momentum = size, momentum

    def __call__(self, level: int, logits: Tensor) -> Tensor:
        """Noise [B, K] for the logits [B, K] of a level, from 0; levels come in order."""
        del level
        return torch.zeros_like(logits)

    def observe(self, loss: Tensor) -> None:
        """Take note of a batch's next-code loss (nats a code)."""
        del loss

    def state(self) -> dict[str, Tensor]:
        """What has to survive an interruption."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        del state


class GumbelNoise(Noise):
    """Gumbel noise for every document."""

    def __call__(self, level: int, logits: Tensor) -> Tensor:
        """Gumbel noise."""
        del level
        return gumbel(logits)


class FrequencyDecay(Noise):
    """FrqUD: only documents at a hot code of the first level draw, at all their levels (DIGER).

    A code is hot when the moving average of its share of the batches is above `hot` / K, so noise
    fades as use becomes even. As in the released code the first level decides for the whole id.

    Args:
        size: K of the first level.
        momentum: Of the moving average.
        hot: Multiple of the mean use from which a code is hot.
    """

    def __init__(self, size: int, momentum: float, hot: float) -> None:
        super().__init__(size, momentum)
        self.hot = hot
        self.use = torch.full((size,), 1.0 / size)
        self._draws: Tensor | None = None

    def __call__(self, level: int, logits: Tensor) -> Tensor:
        """Gumbel noise in the rows of documents that draw, zeros elsewhere."""
        if level == 0:
            codes = logits.detach().argmax(-1)
            self.use = self.use.to(logits.device)
            self._draws = self.use[codes] > self.hot / self.size  # [B], by the batches before
            share = torch.bincount(codes, minlength=self.size) / len(codes)
            self.use = self.use.lerp(mean_over_processes(share), 1 - self.momentum)
        assert self._draws is not None  # level 0 came first
        return gumbel(logits) * self._draws.unsqueeze(-1)

    def state(self) -> dict[str, Tensor]:
        """The moving average of use."""
        return {"code_use": self.use.cpu()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on with that use."""
        self.use = state.get("code_use", self.use)


class DeviationDecay(Noise):
    """SDUD: Gumbel noise times sigma, which falls with the loss (DIGER).

    sigma minimises L / (2 (sigma + bias)^2) + log(sigma + bias) for the moving average L of the
    next-code loss, which is sigma = sqrt(L) - bias, held between 0 and 1. The released code
    descends on it by gradient; here it stands at the minimum.

    Args:
        size: K of the first level.
        momentum: Of the moving average.
        bias: lambda, about the square root of the loss at which noise shall have gone.
    """

    def __init__(self, size: int, momentum: float, bias: float) -> None:
        super().__init__(size, momentum)
        self.bias = bias
        self.loss: Tensor | None = None

    @property
    def sigma(self) -> float:
        """Present scale of the noise; 1 before the first batch."""
        if self.loss is None:
            return 1.0
        return min(max(float(self.loss.sqrt()) - self.bias, 0.0), 1.0)

    def __call__(self, level: int, logits: Tensor) -> Tensor:
        """sigma * Gumbel noise."""
        del level
        return self.sigma * gumbel(logits)

    def observe(self, loss: Tensor) -> None:
        """Move the average."""
        value = mean_over_processes(loss.detach().float()).cpu().reshape(1)
        self.loss = value if self.loss is None else self.loss.lerp(value, 1 - self.momentum)

    def state(self) -> dict[str, Tensor]:
        """The average loss, once there is one."""
        return {} if self.loss is None else {"mean_loss": self.loss}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on with that loss."""
        self.loss = state.get("mean_loss", self.loss)


NOISES = ("none", "gumbel", "frqud", "sdud")


def make_noise(name: str, size: int, *, momentum: float, hot: float, bias: float) -> Noise:
    """The noise of a name in `NOISES`; arguments as for the classes."""
    if name == "frqud":
        return FrequencyDecay(size, momentum, hot)
    if name == "sdud":
        return DeviationDecay(size, momentum, bias)
    return {"none": Noise, "gumbel": GumbelNoise}[name](size, momentum)
