"""Dev metrics during training: exhaustive ranking, and search under the present ids."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hf_genret.encoding import encode, pooled_vectors
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
    gains: list[float] = []
    recalls: list[float] = []
    pools: list[float] = []
    if search:
        model.set_vectors(vectors)
    for numbers, encoded in encode(model, data.dev, batch_size=128):
        relevant = [data.dev.queries.relevant[i] for i in numbers]
        exclude = _exclusions(data, numbers) if data.exclude_history else None
        if search:
            found = model.search(
                k=10, num_beams=beams or None, exclude=exclude, encoder_outputs=encoded
            )
            ranked = found.rows.cpu().numpy()
            for rows, gain in zip(found.pool_rows.tolist(), relevant, strict=True):
                pool = set(rows)
                recalls.append(sum(row in pool for row in gain) / len(gain))
            pools.extend(found.pool.tolist())
        else:
            ranked = _dense(encoded.pooler_output, vectors, exclude)
        gains.extend(_ndcg(row, gain) for row, gain in zip(ranked, relevant, strict=True))
    metrics = {"ndcg@10": float(np.mean(gains))}
    if search:
        metrics |= {"recall": float(np.mean(recalls)), "pool": float(np.mean(pools))}
    return metrics


def _exclusions(data: TrainingData, numbers: np.ndarray) -> Tensor | None:
    from hf_genret.encoding import pad_histories

    histories = data.dev.queries.histories if data.dev is not None else None
    return None if histories is None else pad_histories([histories[i] for i in numbers])


def _dense(queries: Tensor, vectors: Tensor, exclude: Tensor | None) -> np.ndarray:
    """The ten best rows of every query, [B, 10]."""
    scores = queries.float() @ vectors.to(queries.device).T  # [B, N]
    if exclude is not None:
        where = (exclude >= 0).nonzero(as_tuple=True)
        scores[where[0], exclude[where]] = -torch.inf
    return scores.topk(min(10, scores.shape[1]), dim=1).indices.cpu().numpy()


def _ndcg(rows: np.ndarray, gain: dict[int, float], k: int = 10) -> float:
    """nDCG@k with linear gain."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    got = sum(gain.get(int(row), 0.0) * d for row, d in zip(rows[:k], discount, strict=False))
    ideal = sum(g * d for g, d in zip(sorted(gain.values(), reverse=True), discount, strict=False))
    return got / ideal
