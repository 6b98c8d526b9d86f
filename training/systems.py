"""Every system of a report, on one split of one data set."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import nn

from hf_genret.adapters import merge_lora
from hf_genret.data import Queries, RetrievalData
from hf_genret.dataset_search import search_dataset
from hf_genret.documents import DocumentStore
from hf_genret.encoding import ItemSource, QuerySource, pooled_vectors
from hf_genret.errors import CheckpointError, ConfigError, DataError, MissingExtraError
from hf_genret.evaluation import Run, evaluate_run
from hf_genret.evaluation.own_documents import leave_own_out, own_documents
from hf_genret.evaluation.query_loss import query_loss
from hf_genret.modeling import GenRetModel
from hf_genret.retriever import GenRetriever
from hf_genret.same_texts import check_same_texts
from hf_genret.tensor_files import read_tensors
from hf_genret.training.controls import FOLDER, load_control
from hf_genret.training.runs import (
    DEPTH,
    UNTRAINED,
    content_labels,
    content_report,
    exhaustive_run,
    ids_report,
    row_codes,
    trained_rows,
)

_ASI_DOCUMENTS = 1000  # ranked a query at most in ASI++'s evaluation
UNTRAINED_FILE = "untrained_encoder.safetensors"


class Bench:
    """A checkpoint and a split; makes the run of each system by name.

    Args:
        retriever: The checkpoint.
        folder: Where its controls lie; None when it has none.
        data: The data, rows in the checkpoint's order (`aligned`).
        split: Which queries.
        exclude_history: Whether a history's items are left out of its results.
        seed: Of the random ranking and the intervals.
    """

    def __init__(
        self,
        retriever: GenRetriever,
        folder: Path | None,
        data: RetrievalData,
        split: str,
        *,
        exclude_history: bool,
        seed: int = 0,
    ) -> None:
        self.retriever, self.folder, self.data = retriever, folder, data
        self.split, self.queries = split, data.split(split)
        self.exclude, self.seed = exclude_history, seed
        self.own = own_documents(self.queries, data.documents)
        self.depth = DEPTH + int((self.own >= 0).any())  # a rank for what is left out
        self._makers: dict[str, Callable[[], Run]] = {
            "generative": lambda: self._search(retriever.model, "generative"),
            "unconstrained": lambda: self._search(retriever.model, "unconstrained", False),
            "kmeans": lambda: self._control("kmeans"),
            "rq": lambda: self._control("rq"),
            "dense": lambda: self._dense(retriever.model, "dense"),
            "dense_untrained": lambda: self._dense(self._untrained(), "dense_untrained"),
            **{name: partial(self._untrained_run, name) for name in UNTRAINED},
        }

    def available(self) -> list[str]:
        """Systems that make sense for this data and that the checkpoint holds."""
        names = ["generative"]
        names += [ids for ids in ("kmeans", "rq") if self._has(f"{ids}.safetensors")]
        names.append("dense")
        if self.queries.texts is not None:
            names += ["dense_untrained", "bm25"]
        if self.queries.histories is not None and "train" in self.data.splits:
            names += ["cooccurrence", "popularity"]
        return [*names, "random"]

    def evaluate(self, name: str) -> dict[str, Any]:
        """One system's entry of a report.

        Raises:
            ConfigError: When the system is unknown.
            MissingExtraError: When it needs an extra that is not installed.
        """
        if name not in self._makers:
            raise ConfigError(f"Unknown system '{name}'; known: {', '.join(self._makers)}.")
        run = leave_own_out(self._makers[name](), self.own)
        result = evaluate_run(
            run,
            self.queries,
            num_documents=len(self.data.documents),
            seen_rows=trained_rows(self.folder, self.data),
            seed=self.seed,
        )
        codes = row_codes(self.retriever.model)
        labels = content_labels(self.folder, self.data, self.queries, codes)
        return result | content_report(run, self.queries, labels, self.seed)

    def evaluate_all(self, names: list[str] | None) -> dict[str, dict[str, Any]]:
        """All wished systems; else those available, without rows that need a missing extra."""
        out = {}
        for name in self.available() if names is None else names:
            try:
                out[name] = self.evaluate(name)
            except MissingExtraError:
                if names is not None:
                    raise
        return out

    def index_facts(self, pools: dict[str, float | None]) -> dict[str, Any]:
        """Docid quality of the checkpoint and its controls: use of codes, buckets, APE, loss."""
        models = {"generative": self.retriever.model}
        for ids in ("kmeans", "rq"):
            if self._has(f"{ids}.safetensors"):
                models[ids] = self._load(ids)
        source = QuerySource(self.retriever.model, self.queries, self.retriever.processing_class)
        return {
            name: {
                **ids_report(model, self.data, self.split, pool=pools.get(name), seed=self.seed),
                "query_loss": query_loss(model, source, self.queries.relevant),
            }
            for name, model in models.items()
        }

    def _has(self, file: str) -> bool:
        return self.folder is not None and (self.folder / FOLDER / file).is_file()

    def _load(self, ids: str) -> GenRetModel:
        if self.folder is None:
            raise ConfigError("This checkpoint has no folder of controls.")
        return load_control(self.retriever.model, self.folder, ids)

    def _control(self, ids: str) -> Run:
        return self._search(self._load(ids), ids)

    def _search(self, model: GenRetModel, name: str, constrained: bool = True) -> Run:
        """By ids; unconstrained as ASI decodes, at most 1,000 documents a query."""
        return search_dataset(
            model,
            self.retriever.processing_class,
            self.queries,
            k=self.depth,
            exclude_history=self.exclude,
            name=name,
            constrained=constrained,
            max_documents=None if constrained else _ASI_DOCUMENTS,
        )

    def _dense(self, model: GenRetModel, name: str) -> Run:
        return exhaustive_run(
            model,
            self.retriever.processing_class,
            self.queries,
            name=name,
            exclude_history=self.exclude,
            depth=self.depth,
        )

    def _untrained_run(self, name: str) -> Run:
        """A system without a checkpoint."""
        return UNTRAINED[name](self.data, self.queries, self.depth, self.exclude, self.seed)

    def _untrained(self) -> GenRetModel:
        """The model as it was before training: the start's encoder, no adapters."""
        model = copy.deepcopy(self.retriever.model)
        model.encoder.query_adapter = model.encoder.item_adapter = None
        if self._has(UNTRAINED_FILE) and self.folder is not None:
            encoder: nn.Module = model.encoder.query
            path = self.folder / FOLDER / UNTRAINED_FILE
            try:
                encoder.load_state_dict(read_tensors(path))
            except RuntimeError as error:
                reason = " ".join(str(error).split())
                raise CheckpointError(f"{path}: not the model's encoder ({reason}).") from error
        elif self.retriever.model.encoder.item_adapter is None:
            return model  # a frozen encoder: the items' vectors are still right
        documents = self.data.documents
        items = ItemSource(model, documents, self.retriever.processing_class)
        model.set_vectors(pooled_vectors(model, items))
        return model


def same_corpus(data: RetrievalData, store: DocumentStore) -> RetrievalData:
    """The data in the order of a checkpoint's documents, which have to be the same ones.

    Raises:
        DataError: Other ids, or other texts.
    """
    found = aligned(data, store.ids)
    check_same_texts(store, found.documents, data.name)
    return found


def aligned(data: RetrievalData, ids: list[str]) -> RetrievalData:
    """The data with rows in the order of `ids`, the checkpoint's documents.

    Raises:
        DataError: When the data holds documents that the checkpoint lacks, or lacks some.
    """
    if data.documents.ids == ids:
        return data
    row_of = {name: row for row, name in enumerate(data.documents.ids)}
    missing = [name for name in ids if name not in row_of]
    if missing or len(ids) != len(data.documents):
        raise DataError(
            f"{data.name} holds {len(data.documents)} documents and the checkpoint {len(ids)}, "
            "not the same ones; index this corpus first (hf-genret index)."
        )
    order = np.asarray([row_of[name] for name in ids])
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    splits = {name: _renumbered(queries, back) for name, queries in data.splits.items()}
    return RetrievalData(
        data.name, data.fingerprint, data.documents.take(order), splits, data.num_users, data.notes
    )


def _renumbered(queries: Queries, back: np.ndarray) -> Queries:
    relevant = [{int(back[row]): gain for row, gain in gains.items()} for gains in queries.relevant]
    histories = queries.histories
    return Queries(
        queries.ids,
        relevant,
        queries.texts,
        None if histories is None else [back[history] for history in histories],
        queries.users,
    )


def save_untrained(model: GenRetModel, folder: Path) -> None:
    """Keep the encoder as it is before training, for the row `dense_untrained`."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    encoder = copy.deepcopy(model.encoder.query)
    merge_lora(encoder)  # which starts at nothing
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    save_file(state, place / UNTRAINED_FILE)
