"""URI's objective at one depth (ICLR 2025): the decoder indexes queries and items alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hf_genret.errors import ConfigError
from hf_genret.modeling import EncoderOutput, GenRetModel
from hf_genret.training.objectives.base import (
    Objective,
    codes_of,
    mean_over_processes,
    soft_cross_entropy,
)


def _log_difference(mean: Tensor) -> Tensor:
    """(a) |log(1/k) - log E[p]| + 1."""
    return (math.log(1 / len(mean)) - mean.log()).abs() + 1


def _literal(mean: Tensor) -> Tensor:
    """(b) |1/k - log E[p]| + 1, as the scanned formula reads."""
    return (1 / len(mean) - mean.log()).abs() + 1


def _difference(mean: Tensor) -> Tensor:
    """(c) |1/k - E[p]| + 1, as the prose reads."""
    return (1 / len(mean) - mean).abs() + 1


def _one(mean: Tensor) -> Tensor:
    """No adaptive weight (the paper's ablation)."""
    return torch.ones_like(mean)


BALANCE_READINGS = {"a": _log_difference, "b": _literal, "c": _difference, "none": _one}


@dataclass
class UriOptions:
    """Settings of `UriObjective`.

    Attributes:
        query: Weight of L_E = H(P_I, P_Q) (Eq. 8).
        item: Weight of H(P_Q, P_I) (Eq. 9).
        commitment: Weight of H(P_I) (Eq. 9).
        balance: Weight of L_balance (Eq. 10).
        memory: Weight of L_memory (Eq. 11).
        reading: How Eq. 10's weight is read: `a`, `b`, `c` or `none`.
        symmetric: Whether targets carry gradients (joint attraction) or are constants.
        random_items: Random items beside each positive one.
        by_parent: Whether balance is taken within each parent of the batch (levels from 2).
    """

    query: float = 1.0
    item: float = 1.0
    commitment: float = 1.0
    balance: float = 10.0
    memory: float = 1.0
    reading: str = "a"
    symmetric: bool = True
    random_items: float = 1.0
    by_parent: bool = False


class UriObjective(Objective):
    """L_E + L_M + L_memory at depth `level` (Eq. 8 to 11).

    Queries use the prefix of their positive item. Commitment and balance also run on random items.
    """

    Options = UriOptions
    watched = True
    options: UriOptions

    def __init__(self, context: Any, options: dict[str, Any]) -> None:
        super().__init__(context, options)
        if self.options.reading not in BALANCE_READINGS:
            raise ConfigError(
                f"reading={self.options.reading!r} is no reading of Eq. 10; "
                f"known: {', '.join(BALANCE_READINGS)}."
            )
        if context.level < 1:
            raise ConfigError("A URI stage needs the level it trains (level: 1 and so on).")

    @classmethod
    def codes_needed(cls, level: int, levels: int) -> int:
        """The prefix of the level that is trained."""
        del levels
        return level - 1

    def sample(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Random items, for commitment and balance."""
        count = round(self.options.random_items * len(rows))
        return {"random": rng.integers(self.context.num_items, size=count)} if count else {}

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted terms `query`, `item`, `commitment`, `balance`, `memory`."""
        options = self.options
        queries = model.encode_query(**batch["query"])
        items = model.encode_items(**batch["item"])
        prefix = self._prefix(batch["rows"], queries)
        query_levels = model.path_logits(queries, prefix)
        item_levels = model.path_logits(items, prefix)
        query, item = query_levels[-1], item_levels[-1]  # [B, K]
        self.count(self.context.level, item.argmax(-1))
        all_items, parents = self._with_random(model, batch, item, prefix)
        p_query, p_item = query.softmax(-1), item.softmax(-1)
        if not options.symmetric:
            p_query, p_item = p_query.detach(), p_item.detach()
        terms = {
            "query": options.query * soft_cross_entropy(p_item, query),
            "item": options.item * soft_cross_entropy(p_query, item),
            "commitment": options.commitment * soft_cross_entropy(all_items.softmax(-1), all_items),
            "balance": options.balance * self._balance(all_items.softmax(-1), parents),
        }
        if prefix.shape[1]:
            losses = [
                functional.cross_entropy(levels[i], prefix[:, i])
                for levels in (query_levels, item_levels)
                for i in range(prefix.shape[1])
            ]
            terms["memory"] = options.memory * torch.stack(losses).sum()
        return terms

    def _prefix(self, rows: Tensor, like: EncoderOutput) -> Tensor:
        """Codes of the levels above, [B, level - 1]."""
        codes = codes_of(self.context, rows, self.context.level - 1)
        return codes.to(like.pooler_output.device)

    def _with_random(
        self, model: GenRetModel, batch: dict[str, Any], item: Tensor, prefix: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of positive and random items [B + R, K], and their parents' prefixes."""
        if "random" not in batch["sampled"]:
            return item, prefix
        encoded = model.encode_items(**batch["sampled"]["random"])
        more = self._prefix(batch["sampled_rows"]["random"], encoded)
        logits = model.level_logits(encoded, more)
        return torch.cat([item, logits]), torch.cat([prefix, more])

    def _balance(self, p: Tensor, parents: Tensor) -> Tensor:
        """-(1/k) sum_j sg(w_j) log E[p_j], over the batch or within each parent."""
        if not self.options.by_parent or parents.shape[1] == 0:
            return self._balance_of(mean_over_processes(p.mean(0)))
        _, group = parents.unique(dim=0, return_inverse=True)
        groups = int(group.max()) + 1
        total = p.new_zeros(groups, p.shape[1]).index_add(0, group, p)
        count = torch.bincount(group, minlength=groups).unsqueeze(1)
        means = total / count
        return torch.stack([self._balance_of(mean) for mean in means]).mean()

    def _balance_of(self, mean: Tensor) -> Tensor:
        mean = mean.clamp(min=1e-8)
        weight = BALANCE_READINGS[self.options.reading](mean).detach()
        return -(weight * mean.log()).mean()
