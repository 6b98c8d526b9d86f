"""The other ways to search the same documents: BM25 and every vector."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from hf_genret.documents import full_text
from hf_genret.encoding import QuerySource, pooled_vectors
from hf_genret.errors import ConfigError, MissingExtraError
from hf_genret.hits import leaves_history_out, unjudged

if TYPE_CHECKING:
    from hf_genret.evaluation.baselines import BM25
    from hf_genret.retriever import GenRetriever

_CHUNK = 65_536  # vectors compared at once


@dataclass(frozen=True)
class Ranked:
    """What one system finds.

    Attributes:
        rows: Document rows, best first.
        scores: Their scores.
        milliseconds: Wall time of the search.
        missing: Why there is nothing, a sentence; None where the system answered.
    """

    rows: list[int]
    scores: list[float]
    milliseconds: float
    missing: str | None = None


class Others:
    """BM25 and dense search over a retriever's documents; the BM25 index is built at first use.

    Args:
        retriever: Gives documents, encoder and vectors.
    """

    def __init__(self, retriever: GenRetriever) -> None:
        self.retriever = retriever
        self._bm25: BM25 | None = None
        self._building = threading.Lock()

    def bm25(self, query: str, k: int, allowed: torch.Tensor | None = None) -> Ranked:
        """BM25, as in evaluation tables."""
        from hf_genret.evaluation.baselines import BM25  # its neighbours import a second long

        try:
            with self._building:
                if self._bm25 is None:
                    self._bm25 = BM25([full_text(one) for one in self.retriever.documents])
        except (MissingExtraError, ConfigError) as error:
            return Ranked([], [], 0.0, str(error))
        mask = None if allowed is None else allowed.numpy()
        began = time.perf_counter()
        ((rows, scores),) = self._bm25.rank([query], k, mask)
        return Ranked(rows.tolist(), scores.tolist(), 1000 * (time.perf_counter() - began))

    @torch.no_grad()
    def dense(
        self,
        query: str | None,
        k: int,
        history: np.ndarray | None = None,
        allowed: torch.Tensor | None = None,
    ) -> Ranked:
        """The same encoder and similarity, over every document.

        Args:
            query: A text, or None.
            k: Documents wanted.
            history: Rows of a history for a model that reads those; they are left out where the
                search leaves them out.
            allowed: [documents] bool.
        """
        model = self.retriever.model
        began = time.perf_counter()
        histories = None if history is None else [history]
        asked = unjudged(1, None if query is None else [query], histories)
        source = QuerySource(model, asked, self.retriever.processing_class)
        kind = model.ranker.similarity
        device = model.device
        vector = kind.queries(pooled_vectors(model, source).to(device, model.dtype))  # [1, D]
        parts = []
        for rows in torch.arange(model.config.num_documents, device=device).split(_CHUNK):
            items = kind.items(model.vector_rows(rows).to(vector.dtype))
            parts.append((vector @ items.T)[0].float().cpu())
        scores = torch.cat(parts)
        if allowed is not None:
            scores.masked_fill_(~allowed, -torch.inf)
        if query is None and history is not None and leaves_history_out(self.retriever.state):
            scores[torch.from_numpy(history)] = -torch.inf
        best, rows = scores.topk(min(k, int((scores > -torch.inf).sum())))
        return Ranked(rows.tolist(), best.tolist(), 1000 * (time.perf_counter() - began))
