"""Parameter groups: parts of a model may learn at rates of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from torch import nn

from hf_genret.training.curriculum import PARTS


def parameter_groups(
    model: nn.Module,
    rates: dict[str, float],
    *,
    learning_rate: float,
    weight_decay: float,
    decayed: Iterable[str],
) -> list[dict[str, Any]]:
    """What an optimizer takes in place of a flat list of parameters.

    Args:
        model: Its parameters that learn are shared out.
        rates: Multiple of `learning_rate` by part; 1 for parts that are not named.
        learning_rate: Of the stage.
        weight_decay: Of the stage.
        decayed: Names of the parameters that decay.

    Returns:
        One group for every rate and decay that occurs.
    """
    decays = set(decayed)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = next((rates[part] for part in rates if name.startswith(PARTS[part])), 1.0)
            groups[rate, weight_decay if name in decays else 0.0].append(parameter)
    return [
        {"params": parameters, "lr": rate * learning_rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
