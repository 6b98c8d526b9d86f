"""A whole split searched: what `evaluate` measures, and what early stopping looks at."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from hf_genret.data.schema import Queries
from hf_genret.encoding import QuerySource, encode, pad_histories
from hf_genret.evaluation.ranking import history_note, history_rows
from hf_genret.evaluation.run import Run
from hf_genret.modeling import GenRetModel, SearchOutput


def search_dataset(
    model: GenRetModel,
    tokenizer: PreTrainedTokenizerBase | None,
    queries: Queries,
    *,
    k: int = 100,
    num_beams: int | None = None,
    exclude_history: bool = False,
    batch_size: int = 64,
    name: str = "generative",
) -> Run:
    """Search every query of a split.

    Args:
        model: With index and ranker vectors.
        tokenizer: Where the model reads text.
        queries: The split.
        k: Depth of the ranking.
        num_beams: Leaves visited; the model's own number by default, whatever `k` is.
        exclude_history: Leave out the documents of each query's history.
        batch_size: Queries searched at once.
        name: Name of the system.

    Returns:
        A run with rows, scores, candidates, buckets, milliseconds a query (tokenization and
        encoding included) and the bytes of ids and vectors.

    Raises:
        ConfigError: When histories shall be excluded and the queries have none.
        ValueError: When the queries carry nothing that the model reads, or nothing is indexed.
    """
    excluded = history_rows(queries, exclude_history)
    began = time.perf_counter()
    source = QuerySource(model, queries, tokenizer)
    seconds = time.perf_counter() - began
    run = _empty_run(name, len(queries))
    steps = encode(model, source, batch_size=batch_size, description=f"Searching ({name})")
    began = time.perf_counter()
    for numbers, encoded in steps:
        left_out = None if excluded is None else pad_histories([excluded[i] for i in numbers])
        found = model.search(k=k, num_beams=num_beams, exclude=left_out, encoder_outputs=encoded)
        found = SearchOutput(**{name: value.cpu() for name, value in found.items()})
        seconds += time.perf_counter() - began
        _take(run, model, numbers, found, excluded)
        began = time.perf_counter()
    run.latency_ms = 1000 * seconds / max(len(queries), 1)
    run.bytes = index_bytes(model)
    beams = num_beams or model.config.search_beams
    run.notes = [
        *history_note(queries, exclude_history),
        f"{beams} beams, {batch_size} queries at once",
    ]
    return run


def _empty_run(name: str, queries: int) -> Run:
    empty = np.empty(0, dtype=np.int64)
    return Run(
        name,
        rows=[empty] * queries,
        scores=[np.empty(0, dtype=np.float32)] * queries,
        pools=[empty] * queries,
        buckets=[[] for _ in range(queries)],
    )


def _take(
    run: Run,
    model: GenRetModel,
    numbers: np.ndarray,
    found: SearchOutput,
    excluded: Sequence[np.ndarray] | None,
) -> None:
    """Put one batch's results at the places of its queries."""
    assert run.scores is not None and run.pools is not None and run.buckets is not None
    rows, scores, pools = found.rows.numpy(), found.scores.numpy(), found.pool_rows.numpy()
    for place, number in enumerate(numbers):
        kept = rows[place] >= 0
        run.rows[number] = rows[place][kept]
        run.scores[number] = scores[place][kept]
        run.pools[number] = pools[place][pools[place] >= 0]
        run.buckets[number] = buckets_of(model, found.beam_leaves[place])
        if excluded is not None:
            run.buckets[number] = [
                rest
                for bucket in run.buckets[number]
                if len(rest := bucket[~np.isin(bucket, excluded[number])])
            ]


def buckets_of(model: GenRetModel, leaves: torch.Tensor) -> list[np.ndarray]:
    """Document rows of each leaf [M], in order; leaves of -1 are left out."""
    leaves = leaves[leaves >= 0].to(model.index.rows.device)
    leaf, row = model.index.bucket(leaves)
    cuts = torch.bincount(leaf, minlength=len(leaves)).cumsum(0)[:-1]
    return np.split(row.cpu().numpy(), cuts.cpu().numpy())


def index_bytes(model: GenRetModel) -> int:
    """Bytes of what a search reads beside the weights: ids and vectors."""
    buffers = sum(buffer.nbytes for buffer in model.index.buffers())
    return int(buffers + model.vectors.nbytes)
