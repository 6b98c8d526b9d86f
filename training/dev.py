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
        exclude = _exclusions(data, numbers)
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
    """Rows that may not be found for the given dev queries, [B, E]; None where there are none."""
    histories = data.dev.queries.histories if data.dev is not None else None
    left_out: list[list[np.ndarray]] = [[] for _ in numbers]
    if data.exclude_history and histories is not None:
        left_out = [[histories[i]] for i in numbers]
    if data.dev_own is not None and (data.dev_own >= 0).any():
        for rows, number in zip(left_out, numbers, strict=True):
            rows.append(data.dev_own[number : number + 1])
    if not any(left_out):
        return None
    return pad_histories([np.concatenate(rows) for rows in left_out])


def _dense(queries: Tensor, vectors: Tensor, exclude: Tensor | None) -> np.ndarray:
    """The ten best rows of every query, [B, 10]."""
    scores = queries.float() @ vectors.to(queries.device).T  # [B, N]
    if exclude is not None:
        where = (exclude >= 0).nonzero(as_tuple=True)
        scores[where[0], exclude[where]] = -torch.inf
    return scores.topk(min(10, scores.shape[1]), dim=1).indices.cpu().numpy()
