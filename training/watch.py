"""Token distributions of a few queries and items over training (the URI paper's Fig. 5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hf_genret.data import Documents
from hf_genret.encoding import to_device
from hf_genret.modeling import GenRetModel
from hf_genret.training.batches import TrainingData
from hf_genret.training.objectives import Objective

WATCHED = 3


def watched_tokens(model: GenRetModel, data: TrainingData, objective: Objective) -> dict[str, Any]:
    """P_Q and P_I at the trained level for the first training pairs of different documents.

    Args:
        model: As it is now.
        data: Training pairs.
        objective: Says whether it is watched.

    Returns:
        `tokens_query` and `tokens_item`, `WATCHED` lists of K probabilities each; nothing for
        other objectives.
    """
    if not objective.watched:
        return {}
    pairs = watched_pairs(data)
    rows = data.pair_row[pairs]
    prefix = objective.context.codes[torch.from_numpy(rows), : objective.context.level - 1]
    prefix = prefix.to(model.device)
    training = model.training
    model.eval()
    with torch.no_grad():
        queries = model.encode_query(
            **to_device(data.train.batch(data.pair_query[pairs]), model.device)
        )
        items = model.encode_items(**to_device(data.items.batch(rows), model.device))
        found = {
            name: model.level_logits(encoded, prefix).float().softmax(-1).cpu()
            for name, encoded in (("tokens_query", queries), ("tokens_item", items))
        }
    model.train(training)
    return {
        name: [[round(p, 4) for p in row] for row in value.tolist()]
        for name, value in found.items()
    }


def watched_pairs(data: TrainingData) -> np.ndarray:
    """Numbers of `WATCHED` training pairs (or all) with different documents."""
    _, first = np.unique(data.pair_row, return_index=True)
    return np.sort(first)[:: max(1, len(first) // WATCHED)][:WATCHED]


def recorded(
    stages: list[dict[str, Any]], data: TrainingData, documents: Documents
) -> list[dict[str, Any]]:
    """Take the record out of the run's log, as `hf-genret inspect --plot` reads it.

    Args:
        stages: The run's log, one dictionary a stage.
        data: Training pairs.
        documents: For the names of items.

    Returns:
        For every watched query and item and every level `name`, `level` (from 1), `steps` and
        `probabilities`, one list of K numbers a step.
    """
    out = []
    pairs = watched_pairs(data)
    for stage in stages:
        found = [entry for entry in stage["history"] if "tokens_query" in entry]
        entries = [dict(entry) for entry in found]
        for entry in found:  # once is enough
            del entry["tokens_query"], entry["tokens_item"]
        for place, pair in enumerate(pairs if entries else []):
            number, row = int(data.pair_query[pair]), int(data.pair_row[pair])
            texts = data.train.queries.texts
            query = texts[number] if texts else data.train.queries.ids[number]
            item = documents.titles[row] or documents.ids[row]
            for kind, name in (("query", query), ("item", item)):
                out.append(
                    {
                        "name": f"{kind}: {name}",
                        "level": stage["level"],
                        "steps": [entry["step"] for entry in entries],
                        "probabilities": [entry[f"tokens_{kind}"][place] for entry in entries],
                    }
                )
    return out
