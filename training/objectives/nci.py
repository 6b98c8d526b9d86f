"""NCI's objective (NeurIPS 2022): cross-entropy on ids, the same answer under every dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hf_genret.modeling import GenRetModel
from hf_genret.training.objectives.base import Objective, codes_of
from hf_genret.training.objectives.cross_entropy import path_cross_entropy


@dataclass
class NciOptions:
    """Settings of `NciObjective`.

    Attributes:
        query: Weight of -sum_l log P(code_l | query, codes before), a mean of two passes.
        item: The same given the document.
        consistency: Weight of what two passes of a query differ in.
        label_smoothing: Share of the target spread over all codes.
    """

    query: float = 1.0
    item: float = 0.5
    consistency: float = 0.15
    label_smoothing: float = 0.0


class NciObjective(Objective):
    """Teacher-forced cross-entropy, and consistency of two passes with dropouts of their own.

    Documents stand for what NCI writes from them (first sentences and generated queries are among
    the training queries already). The paper regularises with a contrastive term, its released code
    with the divergence of two passes (R-Drop, arXiv 2106.14448); this is the latter.
    """

    Options = NciOptions
    searches = True
    options: NciOptions

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted terms `query`, `item` and `consistency`, means over the batch (nats)."""
        options, codes = self.options, codes_of(self.context, batch["rows"])
        smoothing = options.label_smoothing
        passes = [
            model.path_logits(model.encode_query(**batch["query"]), codes)
            for _ in range(2 if options.consistency else 1)
        ]
        losses = [path_cross_entropy(logits, codes, smoothing) for logits in passes]
        terms = {"query": options.query * sum(losses[1:], losses[0]) / len(losses)}
        if options.consistency:
            terms["consistency"] = options.consistency * divergence(*passes)
        if options.item:
            logits = model.path_logits(model.encode_items(**batch["item"]), codes)
            terms["item"] = options.item * path_cross_entropy(logits, codes, smoothing)
        return terms


def divergence(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """(KL(p || q) + KL(q || p)) / 2, summed over levels, a mean over the batch (nats).

    Args:
        one: Logits [B, K] of each level in one pass.
        other: The same in another.
    """
    parts = []
    for first, second in zip(one, other, strict=True):
        log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
        parts.append(((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2)
    return sum(parts[1:], parts[0])
