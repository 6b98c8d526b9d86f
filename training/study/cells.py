"""One cell: measured once, kept on disk with the values of every query, known by its content."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from hf_genret.data import Queries, RetrievalData
from hf_genret.errors import CheckpointError
from hf_genret.evaluation import Run, per_query
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.expectation import expectation_metrics
from hf_genret.evaluation.report import plain
from hf_genret.files import atomic_folder
from hf_genret.modeling import GenRetModel
from hf_genret.retriever import GenRetriever
from hf_genret.sealed import seal, unseal
from hf_genret.training.build import search_beams
from hf_genret.training.compare.checkpoints import training_record
from hf_genret.training.compare.measure import Measurer, has_ids, machine
from hf_genret.training.curriculum import PARTS
from hf_genret.training.new_documents import NewDocuments
from hf_genret.training.recipes import Recipe, SearchSettings
from hf_genret.training.study.grid import Cell
from hf_genret.training.study.lines import GENERATIVE, IDS_ALONE

FORMAT = 1
"""Of a cell's figures; kept ones of another format are measured anew."""
METRICS = {
    "hits@1": "hit@1",
    "hits@10": "hit@10",
    "mrr@10": "mrr@10",
    "ndcg@10": "ndcg@10",
    "recall@100": "recall@100",
}
"""Name in a cell -> name in `item_metrics`."""
SAMPLED = 512
"""Test queries of which all scores are looked at: calibration, spectrum, leaked probability."""
_WITH_ALONE = ("corpus", "beams", "zero_shot")
_ALONE = "alone."
"""Before the names of the values by ids alone."""
FACTS, VALUES = "cell.json", "values.safetensors"

Values = dict[str, np.ndarray]
Facts = dict[str, Any]
ProbabilityFacts = Callable[[GenRetriever, Mapping[str, Any], Queries, int], Facts]
"""(retriever, record of its training, queries, seed) -> `calibration`, `spectrum`, `leaked`."""


@dataclass(frozen=True)
class Place:
    """What a cell is measured on.

    Attributes:
        data: Corpus of the test queries.
        queries: The test queries, in its rows.
    """

    data: RetrievalData
    queries: Queries


def identity_of(
    cell: Cell, place: Place, trained_on: str, recipe: Mapping[str, Any], start: object
) -> str:
    """16 hexadecimal digits of what a cell's figures are figures of.

    Args:
        cell: Of the grid; factor and label do not count, so that factors share figures.
        place: What it is measured on.
        trained_on: Fingerprint of the training data.
        recipe: The whole tree of settings that is trained.
        start: The settings of the shared start; None where the cell has none.
    """
    queries = [*place.queries.ids, *(sorted(g.items()) for g in place.queries.relevant)]
    parts = [
        FORMAT,
        trained_on,
        recipe,
        start,
        cell.seed,
        cell.beams if cell.ranked is None else {"ranked": cell.ranked},
        place.data.fingerprint,
        hashlib.sha256(json.dumps(queries, default=str).encode()).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(plain({"": parts})).encode()).hexdigest()[:16]


def save_cell(folder: Path, facts: Facts, values: Values) -> None:
    """Write a cell: complete or absent."""
    with atomic_folder(folder) as fresh:
        save_file({name: v.astype(np.float32) for name, v in values.items()}, fresh / VALUES)
        seal(fresh / FACTS, plain(facts), [fresh / VALUES])


def load_cell(folder: Path, identity: str) -> tuple[Facts, Values] | None:
    """A cell's figures; None where there are none of this identity, or damaged ones."""
    try:
        facts: Facts = unseal(folder / FACTS)
    except CheckpointError:
        return None
    return (facts, load_file(folder / VALUES)) if facts.get("identity") == identity else None


def measure(
    cell: Cell, checkpoint: Path, place: Place, probabilities: ProbabilityFacts
) -> tuple[Facts, Values]:
    """The figures of a cell and the values of every query.

    Args:
        cell: Of the grid.
        checkpoint: What was trained.
        place: What it is measured on; another corpus is coded by the model first.
        probabilities: Says what of the scores of all documents; not asked about other beams, which
            do not change them.

    Returns:
        All of a cell but where it stands in the grid.
    """
    retriever, record = GenRetriever.from_pretrained(checkpoint), training_record(checkpoint)
    ids = has_ids(record)
    model, size = retriever.model, len(place.data.documents)
    # What is ranked is part of the design, also where a small corpus would be searched whole.
    model.config.fix_beams(model.config.search_beams)
    if cell.elsewhere:
        retriever.index(place.data.documents)
        model.config.fix_beams(_beams_elsewhere(model, record, size))
    if cell.beams is not None:
        model.config.fix_beams(cell.beams)
    if cell.ranked is not None:
        largest = int(model.index.buckets.diff().max())
        leaves = len(model.index.buckets) - 1
        model.config.fix_beams(max(1, min(leaves, cell.ranked // largest)))
    bench = Measurer(
        place.data, "test", place.queries, exclude_history=False, hidden=NewDocuments()
    )
    run = bench.run(cell.line, retriever, record)
    values, alone = _values(run, place.queries), _alone(run, place.queries)
    facts: Facts = {
        "documents": size,
        "queries": int((~np.isnan(values["hits@1"])).sum()),
        "parameters": trained_parameters(model, record),
        "width": model.config.vector_dim,
        "search_beams": model.default_beams() if ids else None,
        "metrics": summarise(values),
        "alone": summarise(alone),
        "documents_ranked": _ranked(run, size),
        "calibration": None,
        "spectrum": None,
        "leaked": None,
        "costs": {
            "training_seconds": record["seconds"],
            "latency_ms": run.latency_ms,
            "index_bytes": sum(b.nbytes for b in model.index.buffers()) if ids else 0,
            "vector_bytes": model.vector_bytes,
            "weight_bytes": sum(parameter.nbytes for parameter in model.parameters()),
        },
        "machine": machine(),
    }
    if cell.beams is None:
        facts |= probabilities(retriever, record, sampled(place.queries), cell.seed)
    return facts, values | {_ALONE + name: found for name, found in alone.items()}


def lines_of(slug: str, facts: Facts, values: Values) -> list[tuple[Facts, Values]]:
    """A kept cell as it stands in a report: with the ranker, and where asked by ids alone.

    Ids alone stand beside the whole system where what is ranked differs between cells; a ranker
    that orders most of a corpus hides what ids do.

    Args:
        slug: Of the cell.
        facts: As kept.
        values: As kept.

    Returns:
        One or two cells with their `slug`, each with the values of its metrics.
    """
    facts, alone = dict(facts), facts.get("alone")
    facts.pop("alone", None)
    whole = {name: found for name, found in values.items() if not name.startswith(_ALONE)}
    lines = [({"slug": slug, **facts}, whole)]
    if alone and facts["system"] == GENERATIVE and facts["factor"] in _WITH_ALONE:
        about = {"slug": f"{slug}-ids-alone", "system": IDS_ALONE, "metrics": alone}
        nothing = dict.fromkeys(("calibration", "spectrum", "leaked", "costs"))
        own = {name: values[_ALONE + name] for name in whole}
        lines.append(({**facts, **about, **nothing}, own))
    return lines


def sampled(queries: Queries) -> Queries:
    """The test queries whose scores of all documents are looked at, the same for all cells."""
    order = np.random.default_rng(31).permutation(len(queries))
    return queries.take(np.sort(order[:SAMPLED]))


def trained_parameters(model: GenRetModel, record: Mapping[str, Any]) -> int:
    """Numbers that training learned beside the encoder's own."""
    stages = [stage for stage in record["recipe"]["stages"] if not stage.get("skip")]
    parts = {part for stage in stages for part in stage["train"]} - {"encoder", "history"}
    prefixes = tuple(prefix for part in parts for prefix in PARTS[part])
    named = model.named_parameters()
    return sum(parameter.numel() for name, parameter in named if name.startswith(prefixes))


def _beams_elsewhere(model: GenRetModel, record: Mapping[str, Any], documents: int) -> int:
    """Leaves that the recipe would visit in a corpus of another size."""
    tree = record["recipe"]
    recipe = Recipe("", "", search=SearchSettings(**(tree.get("search") or {})))
    return search_beams(recipe, model.config.codebook_sizes, documents)


def drop(checkpoint: Path) -> None:
    """Remove a checkpoint that no cell needs any more."""
    shutil.rmtree(checkpoint, ignore_errors=True)


def _values(run: Run, queries: Queries) -> Values:
    found = per_query(run, queries, (1, 10, 100))
    return {name: found[own] for name, own in METRICS.items()}


def _alone(run: Run, queries: Queries) -> Values:
    """By ids without the ranker, the order inside a bucket random; empty without ids."""
    if run.buckets is None:
        return {}
    found, _ = expectation_metrics(run.buckets, queries.relevant, (1, 10, 100))
    return {name: found[own] for name, own in METRICS.items()}


def _ranked(run: Run, documents: int) -> float:
    if run.pools is None:
        return float(documents)
    return float(np.mean([len(pool) for pool in run.pools]))
