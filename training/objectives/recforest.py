"""RecForest: one decoder learns to write a document's path in every tree of a forest."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hf_genret.modeling import EncoderOutput, GenRetModel
from hf_genret.training.objectives.base import paths_of
from hf_genret.training.objectives.cross_entropy import CrossEntropyObjective, CrossEntropyOptions


class RecForestObjective(CrossEntropyObjective):
    """Cross-entropy on the paths of all trees, the mean over trees (wuchao-li/RecForest).

    The code of the tree is given and not learned; the levels after it are. Ids that are in no
    forest are one tree without such a code.
    """

    Options = CrossEntropyOptions
    options: CrossEntropyOptions

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted terms `query` and `item`, means over trees and batch of sums over levels."""
        paths = paths_of(self.context, batch["rows"])  # [B, T, L]
        terms = {}
        if self.options.query:
            encoded = model.encode_query(**batch["query"])
            terms["query"] = self.options.query * self._on_paths(model, encoded, paths)
        if self.options.item:
            encoded = model.encode_items(**batch["item"])
            terms["item"] = self.options.item * self._on_paths(model, encoded, paths)
        return terms

    def _on_paths(self, model: GenRetModel, encoded: EncoderOutput, paths: Tensor) -> Tensor:
        given = int(model.config.forest)
        codes = paths.flatten(0, 1)
        logits = model.path_logits(for_each_path(encoded, paths.shape[1]), codes)
        return self._loss(logits[given:], codes[:, given:])


def for_each_path(encoded: EncoderOutput, count: int) -> EncoderOutput:
    """What encoders emitted for B queries or items, repeated for the paths of each: B * count."""
    return EncoderOutput(
        {name: value.repeat_interleave(count, dim=0) for name, value in encoded.items()}
    )
