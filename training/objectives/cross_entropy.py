"""Cross-entropy on ids that are given: the decoder learns to write them for queries and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from hf_genret.modeling import GenRetModel
from hf_genret.training.objectives.base import Objective, codes_of


@dataclass
class CrossEntropyOptions:
    """Settings of `CrossEntropyObjective`.

    Attributes:
        query: Weight of -sum_l log P(code_l | query, codes before).
        item: The same given the item.
        indexer: The same given the item, of an indexer beside the decoder.
        label_smoothing: Share of the target spread over all codes.
    """

    query: float = 1.0
    item: float = 0.5
    indexer: float = 0.0
    label_smoothing: float = 0.0


class CrossEntropyObjective(Objective):
    """Teacher-forced cross-entropy on the present ids, all levels at once.

    It teaches the decoder and, where the model has one, the indexer. It is the E-step of URI's
    section 4.1 (hard EM) and the last phase on the final ids.
    """

    Options = CrossEntropyOptions
    searches = True
    options: CrossEntropyOptions

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted terms `query` and `item`, means over the batch of sums over levels (nats)."""
        codes = codes_of(self.context, batch["rows"])
        terms = {}
        if self.options.query:
            encoded = model.encode_query(**batch["query"])
            terms["query"] = self.options.query * self._loss(
                model.path_logits(encoded, codes), codes
            )
        if self.options.item:
            encoded = model.encode_items(**batch["item"])
            terms["item"] = self.options.item * self._loss(model.path_logits(encoded, codes), codes)
        if self.options.indexer:
            encoded = model.encode_items(**batch["item"])
            logits = [
                model.index_logits(encoded, codes[:, :level]) for level in range(codes.shape[1])
            ]
            terms["indexer"] = self.options.indexer * self._loss(logits, codes)
        return terms

    def _loss(self, logits: list[Tensor], codes: Tensor) -> Tensor:
        return path_cross_entropy(logits, codes, self.options.label_smoothing)


def path_cross_entropy(logits: list[Tensor], codes: Tensor, smoothing: float = 0.0) -> Tensor:
    """-sum_l log P(code_l | codes before), a mean over the batch (nats).

    Args:
        logits: [B, K] of each level, as `GenRetModel.path_logits` gives them.
        codes: [B, L], the ids.
        smoothing: Share of the target spread over all codes of a level.
    """
    losses = [
        functional.cross_entropy(level, codes[:, i], label_smoothing=smoothing)
        for i, level in enumerate(logits)
    ]
    return sum(losses[1:], losses[0])
