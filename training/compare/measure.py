"""One system measured on one split, with everything that a comparison says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_genret.data import Queries, RetrievalData
from hf_genret.dataset_search import search_dataset
from hf_genret.encoding import QuerySource
from hf_genret.errors import DataError
from hf_genret.evaluation import Run, as_dicts, check_ids, evaluate_run, training_counts
from hf_genret.evaluation.docids import leaf_of_row
from hf_genret.evaluation.own_documents import leave_own_out, own_documents
from hf_genret.evaluation.query_loss import query_loss
from hf_genret.modeling import GenRetModel
from hf_genret.retriever import GenRetriever
from hf_genret.training.compare.checkpoints import training_record
from hf_genret.training.given import FROM_DATA
from hf_genret.training.new_documents import NewDocuments, known_rows, without_labels
from hf_genret.training.runs import (
    UNTRAINED,
    content_labels,
    content_report,
    exhaustive_run,
    ids_report,
    row_codes,
)
from hf_genret.training.systems import same_corpus

DEPTH = 400
"""Ranks kept of a system that ranks every document; others keep all that they rank."""
ALONE = 50
"""Queries that are searched one by one, for the time that one query takes alone."""
MAX_CODES = 1024
"""Levels with more codes do not list how often each is used."""


class Measurer:
    """Measures systems on the queries of a split.

    Args:
        data: Corpus and splits.
        split: Name of the split; stands in errors.
        queries: Its queries.
        exclude_history: Whether items of a history are left out of its results.
        hidden: Documents that training did without.
    """

    def __init__(
        self,
        data: RetrievalData,
        split: str,
        queries: Queries,
        *,
        exclude_history: bool,
        hidden: NewDocuments,
    ) -> None:
        self.data, self.split, self.queries = data, split, queries
        self.exclude, self.hidden = exclude_history, hidden
        self.own = own_documents(queries, data.documents)
        self._trained: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def checkpoint(self, name: str, folder: Path, seed: int) -> tuple[Run, dict[str, Any]]:
        """The run of a checkpoint and its figures.

        Args:
            name: Of the system.
            folder: The checkpoint.
            seed: Of intervals and random ids.

        Raises:
            GenRetError: When the checkpoint does not fit the data.
        """
        retriever, record = GenRetriever.from_pretrained(folder), training_record(folder)
        run = self.run(name, retriever, record)
        model = retriever.model
        codes = row_codes(model)
        facts = self.figures(run, seed)
        labels = content_labels(folder, self.data, self.queries, codes)
        facts |= content_report(run, self.queries, labels, seed)
        facts["costs"] = {
            "latency_ms": run.latency_ms,
            "latency_alone_ms": self._alone(name, retriever, record),
            **_bytes(model),
            "training_seconds": record["seconds"],
        }
        facts["beams"] = model.default_beams()
        facts["beam_weight"] = model.config.beam_weight
        if has_ids(record):
            facts |= self.ids(model, record, facts["documents_ranked"], seed)
            source = QuerySource(model, self.queries, retriever.processing_class)
            facts["ids"]["query_loss"] = query_loss(model, source, self.queries.relevant)
        return run, facts

    def run(self, name: str, retriever: GenRetriever, record: dict[str, Any]) -> Run:
        """What a checkpoint returns: by its ids where it has some, else of all documents."""
        if same_corpus(self.data, retriever.documents) is not self.data:
            raise DataError(f"{name} has its documents in another order than the data.")
        if has_ids(record):
            found = self._search(retriever, self.queries, name)
        else:
            found = self._exhaustive(retriever, self.queries, name)
        return leave_own_out(found, self.own)

    def untrained(self, name: str, seed: int) -> tuple[Run, dict[str, Any]]:
        """The run of a system without a checkpoint, and its figures."""
        run = UNTRAINED[name](self.data, self.queries, DEPTH, self.exclude, seed)
        run = leave_own_out(run, self.own)
        facts = self.figures(run, seed)
        alone = run.latency_ms if name == "bm25" else None  # it searches one by one anyway
        facts["costs"] = {
            "latency_ms": run.latency_ms,
            "latency_alone_ms": alone,
            "index_bytes": run.bytes,
        }
        return run, facts

    def figures(self, run: Run, seed: int) -> dict[str, Any]:
        """What `evaluate_run` says, with all groups that the data allow."""
        seen, counts = self._training(seed)
        found = evaluate_run(
            run,
            self.queries,
            num_documents=len(self.data.documents),
            seen_rows=seen,
            counts=counts,
            seed=seed,
        )
        return found | {"machine": machine()}

    def _training(self, seed: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Rows that are relevant to some query of the training, and how often each is trained on.

        Both None without training queries; where documents are kept from training, a seed says
        which.
        """
        if not len(self.data.splits.get("train", ())):
            return None, None
        key = seed if self.hidden.share else 0
        if key not in self._trained:
            known = known_rows(self.data, self.hidden, seed)
            data = self.data if known.all() else without_labels(self.data, known)
            self._trained[key] = data.seen_rows, training_counts(data)
        return self._trained[key]

    def _search(
        self, retriever: GenRetriever, queries: Queries, name: str, batch_size: int = 64
    ) -> Run:
        return search_dataset(
            retriever.model,
            retriever.processing_class,
            queries,
            k=retriever.model.config.num_documents,
            exclude_history=self.exclude,
            batch_size=batch_size,
            name=name,
        )

    def _exhaustive(self, retriever: GenRetriever, queries: Queries, name: str) -> Run:
        return exhaustive_run(
            retriever.model,
            retriever.processing_class,
            queries,
            name=name,
            exclude_history=self.exclude,
            depth=min(DEPTH, len(self.data.documents)),
        )

    def _alone(self, name: str, retriever: GenRetriever, record: dict[str, Any]) -> float:
        """Milliseconds of a query that comes alone, the mean over a few."""
        few = [self.queries.take([n]) for n in range(min(ALONE, len(self.queries)))]
        if has_ids(record):
            runs = [self._search(retriever, query, name, 1) for query in few]
        else:
            runs = [self._exhaustive(retriever, query, name) for query in few]
        return float(np.mean([run.latency_ms for run in runs]))

    def ids(
        self,
        model: GenRetModel,
        record: dict[str, Any],
        pool: float | None,
        seed: int,
    ) -> dict[str, Any]:
        """Docid quality, what collapsed, and what plots of ids show.

        Args:
            model: With an index.
            record: Of its training, with the `recipe`.
            pool: Documents ranked for a query; None where nothing was searched.
            seed: Of random ids.
        """
        sizes, codes = model.config.codebook_sizes, model.index.paths.long().cpu().numpy()
        found = check_ids(codes, sizes, levels=_even_levels(record, len(sizes)))
        buckets, many = np.unique(np.bincount(leaf_of_row(codes)), return_counts=True)
        warnings = [*record.get("warnings", ()), *as_dicts(found)]
        return {
            "ids": {
                "codebook_sizes": list(sizes),
                **_paths(model),
                **ids_report(model, self.data, self.split, pool=pool, seed=seed),
            },
            "id_counts": {
                "bucket_sizes": {"documents": buckets, "buckets": many},
                "code_counts": [
                    np.bincount(codes[:, level], minlength=size) if size <= MAX_CODES else None
                    for level, size in enumerate(sizes)
                ],
            },
            "warnings": list({warning["message"]: warning for warning in warnings}.values()),
        }


def machine() -> str:
    """What times were measured on."""
    threads = torch.get_num_threads()
    where = f"{threads} CPU thread{'s' if threads > 1 else ''}"
    return f"{where} and one {torch.cuda.get_device_name()}" if torch.cuda.is_available() else where


def has_ids(record: dict[str, Any]) -> bool:
    """Whether a trained system searches by ids; the dense baseline ranks every document."""
    return bool(record["recipe"].get("ids") != "none")


def _even_levels(record: dict[str, Any], levels: int) -> list[int]:
    """Levels that should be even: not those of words, nor one that tells equal ids apart."""
    recipe = record["recipe"]
    kind = str(recipe.get("ids") or "").partition(":")[0]
    if (kind in FROM_DATA and kind != "atomic") or recipe.get("index_from"):
        return []
    actions = [
        {**(stage.get("before") or {}), **(stage.get("after") or {})} for stage in recipe["stages"]
    ]
    apart = bool(recipe.get("position_code")) or any(
        action.get("disambiguate") for action in actions
    )
    return list(range(1, levels + (not apart)))


def _paths(model: GenRetModel) -> dict[str, float]:
    """How many ids a document has, and how many documents share an id at most."""
    return {
        "ids_per_document": len(model.index) / max(model.config.num_documents, 1),
        "largest_bucket": int(model.index.buckets.diff().max()),
    }


def _bytes(model: GenRetModel) -> dict[str, int]:
    """Bytes of the id index, of the ranker's vectors and of the weights."""
    return {
        "index_bytes": sum(buffer.nbytes for buffer in model.index.buffers()),
        "vector_bytes": model.vector_bytes,
        "weight_bytes": sum(parameter.nbytes for parameter in model.parameters()),
    }
