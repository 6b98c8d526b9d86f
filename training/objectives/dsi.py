"""DSI's objective (NeurIPS 2022): indexing and retrieval as one task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetModel
from hf_genret.training.objectives.base import Objective, codes_of
from hf_genret.training.objectives.cross_entropy import path_cross_entropy


@dataclass
class DsiOptions:
    """Settings of `DsiObjective`.

    Attributes:
        ratio: Indexing examples for each retrieval example.
        label_smoothing: Share of the target spread over all codes.
    """

    ratio: float = 1.0
    label_smoothing: float = 0.0


class DsiObjective(Objective):
    """-log P(id | text), teacher-forced, over a mixture of documents and queries.

    An indexing example is a document of the whole corpus, drawn at random, whether a query of the
    batch asks for it or not; a retrieval example is a query with a relevant document. All examples
    count the same (DSI, section 3.1).
    """

    Options = DsiOptions
    searches = True
    options: DsiOptions

    def __init__(self, context: Any, options: dict[str, Any]) -> None:
        super().__init__(context, options)
        if self.options.ratio < 0:
            raise ConfigError(f"ratio is {self.options.ratio}; 0 or above was expected.")

    def sample(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The documents to index, drawn from all of them."""
        count = round(self.options.ratio * len(rows))
        return {"indexing": rng.integers(self.context.num_items, size=count)} if count else {}

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Terms `retrieval` and `indexing`; together the mean over all examples (nats)."""
        rows, indexed = batch["rows"], batch["sampled_rows"].get("indexing")
        total = len(rows) + (0 if indexed is None else len(indexed))
        queries = model.encode_query(**batch["query"])
        terms = {"retrieval": len(rows) / total * self._loss(model, queries, rows)}
        if indexed is not None:
            documents = model.encode_items(**batch["sampled"]["indexing"])
            terms["indexing"] = len(indexed) / total * self._loss(model, documents, indexed)
        return terms

    def _loss(self, model: GenRetModel, encoded: Any, rows: Tensor) -> Tensor:
        codes = codes_of(self.context, rows)
        logits = model.path_logits(encoded, codes)
        return path_cross_entropy(logits, codes, self.options.label_smoothing)
