"""A whole split searched: what `evaluate` measures, and what early stopping looks at."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from hf_genret.data.schema import Queries
from hf_genret.encoding import QuerySource, encode, pad_histories
from hf_genret.errors import ConfigError
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
    constrained: bool = True,
    max_documents: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    name: str = "generative",
    source: QuerySource | None = None,
) -> Run:
    """Search every query of a split.

    Unconstrained, as ASI++ decodes (arXiv 2405.14280), beams may end at ids that no document has;
    they find nothing, and their share stands in the run's notes and in `facts["invalid_ids"]`.

    Args:
        model: With index and ranker vectors.
        tokenizer: Where the model reads text.
        queries: The split.
        k: Depth of the ranking.
        num_beams: Leaves visited; the model's own number by default, whatever `k` is: that of
            `GenRetriever.search`, every leaf of a small corpus.
        exclude_history: Leave out the documents of each query's history.
        constrained: Whether beams are held to ids that exist.
        max_documents: Documents that may be ranked for a query (ASI++: 1,000); of the bucket in
            which this cut falls, documents are drawn at random.
        seed: Of that draw.
        batch_size: Queries searched at once.
        name: Name of the system.
        source: The same queries as the model reads them, where there is one already.

    Returns:
        A run with rows, scores, candidates, buckets, milliseconds a query (tokenization and
        encoding included) and the bytes of ids and vectors.

    Raises:
        ConfigError: When histories shall be excluded and the queries have none, or
            `max_documents` is below 1.
        ValueError: When the queries carry nothing that the model reads, or nothing is indexed.
    """
    if max_documents is not None and max_documents < 1:
        raise ConfigError(f"max_documents must be at least 1, found {max_documents}.")
    excluded = history_rows(queries, exclude_history)
    began = time.perf_counter()
    source = QuerySource(model, queries, tokenizer) if source is None else source
    seconds = time.perf_counter() - began
    run = _empty_run(name, len(queries))
    invalid = np.zeros(len(queries))
    depth = k if max_documents is None else max(k, model.config.num_documents)
    steps = encode(model, source, batch_size=batch_size, description=f"Searching ({name})")
    began = time.perf_counter()
    for numbers, encoded in steps:
        left_out = None if excluded is None else pad_histories([excluded[i] for i in numbers])
        found = model.search(
            k=depth,
            num_beams=num_beams,
            exclude=left_out,
            constrained=constrained,
            encoder_outputs=encoded,
        )
        found = SearchOutput(**{name: value.cpu() for name, value in found.items()})
        seconds += time.perf_counter() - began
        _take(run, model, numbers, found, excluded)
        invalid[numbers] = (found.beam_leaves < 0).double().mean(1).numpy()
        began = time.perf_counter()
    run.latency_ms = 1000 * seconds / max(len(queries), 1)
    run.bytes = index_bytes(model)
    run.notes = [
        *history_note(queries, exclude_history),
        f"{_beams_note(model, num_beams)}, {batch_size} queries at once",
    ]
    if not constrained:
        _note_invalid(run, invalid)
    if max_documents is not None:
        _cut(run, k, max_documents, np.random.default_rng(seed))
    return run


def _beams_note(model: GenRetModel, num_beams: int | None) -> str:
    """How much was visited."""
    beams = num_beams or model.default_beams()
    if num_beams is None and model.config.num_documents <= model.config.exhaustive_up_to:
        return f"every leaf visited ({model.config.num_documents} documents)"
    return f"{beams} beams"


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
    paths = found.pool_paths.numpy()
    for place, number in enumerate(numbers):
        kept = rows[place] >= 0
        run.rows[number] = rows[place][kept]
        run.scores[number] = scores[place][kept]
        run.pools[number] = pools[place][pools[place] >= 0]
        if model.config.path_merge != "best":
            run.buckets[number] = equal_scores(pools[place], paths[place])
            continue  # what is excluded is not among them
        run.buckets[number] = buckets_of(model, found.beam_leaves[place])
        if excluded is not None:
            run.buckets[number] = [
                rest
                for bucket in run.buckets[number]
                if len(rest := bucket[~np.isin(bucket, excluded[number])])
            ]


def _note_invalid(run: Run, invalid: np.ndarray) -> None:
    """State which share of the beams ended at no id, the mean over queries."""
    share = float(invalid.mean()) if len(invalid) else 0.0
    run.facts["invalid_ids"] = share
    run.notes.append(f"unconstrained: {100 * share:.1f} % of the ids written do not exist")


def _cut(run: Run, k: int, limit: int, rng: np.random.Generator) -> None:
    """Keep `limit` documents a query, the buckets' order deciding, then `k` in the ranking."""
    assert run.scores is not None and run.pools is not None and run.buckets is not None
    cut = 0
    for number, buckets in enumerate(run.buckets):
        if len(run.pools[number]) > limit:
            run.buckets[number] = first_documents(buckets, limit, rng)
            left = np.concatenate(run.buckets[number])
            run.pools[number] = run.pools[number][np.isin(run.pools[number], left)]
            kept = np.isin(run.rows[number], left)
            run.rows[number] = run.rows[number][kept]
            run.scores[number] = run.scores[number][kept]
            cut += 1
        run.rows[number], run.scores[number] = run.rows[number][:k], run.scores[number][:k]
    run.facts["queries_cut"] = cut / max(len(run), 1)
    run.notes.append(f"at most {limit} documents a query, cut at random in the last bucket")


def first_documents(
    buckets: list[np.ndarray], limit: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """The first `limit` documents of buckets, each bucket in random order (ASI++, section 4).

    Args:
        buckets: Rows of each bucket, best bucket first; a row counts at its first bucket.
        limit: Documents kept.
        rng: Draws which documents of the last bucket are kept.

    Returns:
        Buckets of `limit` distinct rows (fewer where there are no more), rows in their old order.
    """
    kept: list[np.ndarray] = []
    seen = np.empty(0, dtype=np.int64)
    for bucket in buckets:
        fresh = bucket[~np.isin(bucket, seen)]
        room = limit - len(seen)
        if len(fresh) > room:
            fresh = fresh[np.sort(rng.permutation(len(fresh))[:room])]
        if len(fresh):
            kept.append(fresh)
        seen = np.concatenate([seen, fresh])
    return kept


def equal_scores(rows: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Documents of equal path score together, the best first: what merged ids alone can order.

    A document whose ids have several scores that are merged stands in no bucket of its own; those
    that were found in the same leaves have the same score and cannot be told apart.

    Args:
        rows: [P], document rows of a query, -1 is padding.
        scores: [P], their merged path scores.
    """
    rows, scores = rows[rows >= 0], scores[rows >= 0]
    order = np.lexsort((rows, -scores))
    cuts = np.flatnonzero(np.diff(scores[order])) + 1
    return [part for part in np.split(rows[order], cuts) if len(part)]


def buckets_of(model: GenRetModel, leaves: torch.Tensor) -> list[np.ndarray]:
    """Document rows of each leaf [M], in order; leaves of -1 are left out."""
    leaves = leaves[leaves >= 0].to(model.index.rows.device)
    leaf, row = model.index.bucket(leaves)
    cuts = torch.bincount(leaf, minlength=len(leaves)).cumsum(0)[:-1]
    return np.split(row.cpu().numpy(), cuts.cpu().numpy())


def index_bytes(model: GenRetModel) -> int:
    """Bytes of what a search reads beside the weights: ids and vectors."""
    buffers = sum(buffer.nbytes for buffer in model.index.buffers())
    return int(buffers + model.vector_bytes)
