"""What an action at the border of a stage works on."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_genret.encoding import pooled_vectors
from hf_genret.errors import ConfigError
from hf_genret.evaluation.health import Finding
from hf_genret.indexing import node_numbers
from hf_genret.indexing.collaborative import query_aware_vectors
from hf_genret.modeling import GenRetModel
from hf_genret.training.batches import TrainingData
from hf_genret.training.curriculum import RunState, Stage

Facts = dict[str, Any]


class Workshop:
    """What an action works on.

    Args:
        model: The model, not wrapped.
        data: Items and training pairs.
        state: Ids so far; actions change them in place.
        stage: The stage before or after which the action stands.
        seed: Of the run.

    Attributes:
        findings: What actions saw that somebody should know.
    """

    def __init__(
        self, model: GenRetModel, data: TrainingData, state: RunState, stage: Stage, seed: int
    ) -> None:
        self.model, self.data, self.state, self.stage, self.seed = model, data, state, stage, seed
        self.sizes = list(model.config.codebook_sizes)
        self.findings: list[Finding] = []
        self._vectors: np.ndarray | None = None

    @property
    def bucket_sizes(self) -> list[int]:
        """K of the levels that lead to a bucket: of all but a position code."""
        return self.sizes[:-1] if self.data.position_code else self.sizes

    @property
    def vectors(self) -> np.ndarray:
        """The ranker's vectors of all items, float32 [N, D]."""
        if self._vectors is None:
            self._vectors = pooled_vectors(self.model, self.data.items).numpy()
        return self._vectors

    @property
    def query_aware_vectors(self) -> np.ndarray:
        """Items as their training queries see them, float32 [N, D]."""
        queries = pooled_vectors(self.model, self.data.train).numpy()
        return query_aware_vectors(self.vectors, queries, self.data.pair_query, self.data.pair_row)

    @property
    def cosine(self) -> bool:
        """Whether clusters are of directions."""
        return bool(self.model.config.head_similarity == "cosine")

    @property
    def levels(self) -> list[int]:
        """The levels that the stage is about, from 0: one, or all of them."""
        level = self.stage.level
        return [level - 1] if level else list(range(len(self.sizes)))

    def index(self) -> None:
        """Let the model search by the present ids."""
        self.model.set_index(*self.state.ids())

    def one_id_each(self) -> None:
        """Refuse to change a code of documents that own several ids.

        Raises:
            ConfigError: Naming the stage.
        """
        if self.state.paths is not None:
            raise ConfigError(
                f"Stage '{self.stage.name}' changes codes of one id a document, and there are "
                f"{self.state.paths.shape[1]}."
            )

    def parents(self, level: int) -> np.ndarray:
        """Node of each item above `level` (from 0), int64 [N]."""
        codes = self.state.codes.numpy()
        if level == 0:
            return np.zeros(len(codes), dtype=np.int64)
        return node_numbers(codes, self.sizes, level - 1)
