"""Dev metrics during training: exhaustive ranking, and search under the present ids."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hf_genret.encoding import encode, pad_histories, pooled_vectors
from hf_genret.evaluation.metrics import candidate_recall, item_metrics
from hf_genret.modeling import GenRetModel
from hf_genret.training.batches import TrainingData


def dev_metrics(
    model: GenRetModel, data: TrainingData, *, beams: int, search: bool
) -> dict[str, float]:
    """How well the present weights do on dev.

    Args:
        model: With an index when `search` is set.
        data: Corpus and dev queries.
        beams: Leaves a query; 0 takes the model's own number.
        search: Also search under the ids: `recall` of the candidates and `pool`, their number.

    Returns:
        `ndcg@10` of the ranking (of the candidates with `search`, else of all documents), and
        `recall` and `pool` with `search`. Empty without dev queries.
    """
    if data.dev is None:
        return {}
    vectors = pooled_vectors(model, data.items)
    rows: list[np.ndarray] = []
    pools: list[np.ndarray] = []
    relevant: list[dict[int, float]] = []
    if search or model.encoder.history_of_documents:
        model.set_vectors(vectors)
    for numbers, encoded in encode(model, data.dev, batch_size=128):
        relevant += [data.dev.queries.relevant[i] for i in numbers]
        exclude = _exclusions(data, numbers) if data.exclude_history else None
        if search:
            found = model.search(
                k=10, num_beams=beams or None, exclude=exclude, encoder_outputs=encoded
            )
            rows += _without_padding(found.rows)
            pools += _without_padding(found.pool_rows)
        else:
            rows += list(_dense(encoded.pooler_output, vectors, exclude))
    metrics = {"ndcg@10": float(np.mean(item_metrics(rows, relevant, (10,))["ndcg@10"]))}
    if search:
        metrics["recall"] = float(np.mean(candidate_recall(pools, relevant)))
        metrics["pool"] = float(np.mean([len(pool) for pool in pools]))
    return metrics


def _without_padding(rows: Tensor) -> list[np.ndarray]:
    """Rows [B, n], -1 is padding, as one array a query."""
    return [row[row >= 0] for row in rows.cpu().numpy()]


def _exclusions(data: TrainingData, numbers: np.ndarray) -> Tensor | None:
    histories = data.dev.queries.histories if data.dev is not None else None
    return None if histories is None else pad_histories([histories[i] for i in numbers])


def _dense(queries: Tensor, vectors: Tensor, exclude: Tensor | None) -> np.ndarray:
    """The ten best rows of every query, [B, 10]."""
    scores = queries.float() @ vectors.to(queries.device).T  # [B, N]
    if exclude is not None:
        where = (exclude >= 0).nonzero(as_tuple=True)
        scores[where[0], exclude[where]] = -torch.inf
    return scores.topk(min(10, scores.shape[1]), dim=1).indices.cpu().numpy()
