"""Documents that come after training: hidden from it, then coded by the trained model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_genret.data import Queries, RetrievalData
from hf_genret.encoding import ItemSource, pooled_vectors
from hf_genret.errors import ConfigError
from hf_genret.indexing.by_model import ids_by_model, with_vectors
from hf_genret.modeling import GenRetModel

FILE = "new_documents.json"


@dataclass
class NewDocuments:
    """Which documents training does without, and how far.

    Attributes:
        share: Share of the documents, drawn at random; 0 for none.
        queries: Whether queries made of them take part in training (GenRet's protocol with
            generated queries). Without, training never sees them (its zero-shot protocol, and
            ASI's), and the trained indexer codes them afterwards.
    """

    share: float = 0.0
    queries: bool = False


def known_rows(data: RetrievalData, wish: NewDocuments, seed: int) -> np.ndarray:
    """Whether each document is known in training, [N] bool.

    Raises:
        ConfigError: When the share is none.
    """
    if not 0 <= wish.share < 1:
        raise ConfigError(
            f"new_documents.share is {wish.share}; a number from 0 to below 1 was expected."
        )
    rng = np.random.default_rng([seed, 17])
    known = np.ones(len(data.documents), dtype=bool)
    count = round(wish.share * len(known))
    known[rng.permutation(len(known))[:count]] = False
    return known


def without_labels(data: RetrievalData, known: np.ndarray) -> RetrievalData:
    """The data without training and dev queries for new documents; the corpus stays whole."""
    splits = {
        name: queries if name == "test" else _about(queries, known)
        for name, queries in data.splits.items()
    }
    return RetrievalData(
        data.name, data.fingerprint, data.documents, splits, data.num_users, data.notes
    )


def without_documents(data: RetrievalData, known: np.ndarray) -> RetrievalData:
    """A corpus of the known documents and the training and dev queries for them."""
    part = without_labels(data, known)
    row = np.cumsum(known) - 1  # where each known document stands in the part
    splits = {
        name: Queries(
            queries.ids,
            [{int(row[old]): gain for old, gain in gains.items()} for gains in queries.relevant],
            queries.texts,
        )
        for name, queries in part.splits.items()
        if name != "test"
    }
    documents = data.documents.take(np.flatnonzero(known))
    return RetrievalData(data.name, data.fingerprint, documents, splits, 0, data.notes)


def _about(queries: Queries, known: np.ndarray) -> Queries:
    """Queries all of whose relevant documents are known."""
    kept = [i for i, gains in enumerate(queries.relevant) if all(known[row] for row in gains)]
    return queries.take(kept)


def code_new(
    model: GenRetModel,
    tokenizer: PreTrainedTokenizerBase | None,
    data: RetrievalData,
    known: np.ndarray,
    ids: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and ranker's vectors of the whole corpus, new documents coded by the indexer.

    Each new document takes its most probable code at every level, whatever the loads.

    Args:
        model: Trained on the known documents.
        tokenizer: Its tokenizer.
        data: The whole corpus.
        known: [N] bool.
        ids: Codes [P, L] and rows [P] of the known documents, counted among themselves.

    Returns:
        Codes int64 [P, L], rows [P] and vectors float32 [N, D] of the whole corpus.
    """
    source = with_vectors(model, ItemSource(model, data.documents, tokenizer))
    codes, rows = ids_by_model(model, source, method="argmax")
    fresh = ~torch.from_numpy(known)[rows]
    place = torch.from_numpy(np.flatnonzero(known))
    codes = torch.cat([ids[0], codes[fresh]])
    rows = torch.cat([place[ids[1]], rows[fresh]])
    order = rows.argsort(stable=True)
    return codes[order], rows[order], pooled_vectors(model, source)
