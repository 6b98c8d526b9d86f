"""Deep Retrieval: a document is likely when any of its paths is (arXiv 2007.07203)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_genret.indexing.paths import distinct
from hf_genret.modeling import EncoderOutput, GenRetModel
from hf_genret.training.objectives.base import Objective, paths_of
from hf_genret.training.objectives.recforest import for_each_path


@dataclass
class DeepRetrievalOptions:
    """Settings of `DeepRetrievalObjective`.

    Attributes:
        query: Weight of -log sum_j P(path_j | query).
        item: The same given the item; 0 as published.
    """

    query: float = 1.0
    item: float = 0.5


class DeepRetrievalObjective(Objective):
    """-log sum_j P(path_j(y) | x), the E-step of Deep Retrieval (section 3.2, Eq. 4).

    With one id a document it is cross-entropy.
    """

    Options = DeepRetrievalOptions
    searches = True
    options: DeepRetrievalOptions

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted terms `query` and `item`, means over the batch (nats)."""
        paths = paths_of(self.context, batch["rows"])  # [B, J, L]
        terms = {}
        if self.options.query:
            encoded = model.encode_query(**batch["query"])
            terms["query"] = self.options.query * -log_probability(model, encoded, paths).mean()
        if self.options.item:
            encoded = model.encode_items(**batch["item"])
            terms["item"] = self.options.item * -log_probability(model, encoded, paths).mean()
        return terms


def log_probability(model: GenRetModel, encoded: EncoderOutput, paths: Tensor) -> Tensor:
    """log sum_j P(path_j | x) of documents with paths [B, J, L], equal paths once: [B]."""
    codes = paths.flatten(0, 1)
    logits = model.path_logits(for_each_path(encoded, paths.shape[1]), codes)
    steps = [
        level.float().log_softmax(-1).gather(1, codes[:, i, None])[:, 0]
        for i, level in enumerate(logits)
    ]
    log_p = torch.stack(steps).sum(0).view(paths.shape[:2])  # [B, J]
    return log_p.masked_fill(~distinct(paths), -torch.inf).logsumexp(1)
