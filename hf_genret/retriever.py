"""GenRetriever: one checkpoint that answers queries with documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from hf_genret import checkpoints
from hf_genret.data.schema import Documents, Queries
from hf_genret.documents import DocumentStore, as_documents, data_facts
from hf_genret.encoding import ItemSource, pooled_vectors
from hf_genret.errors import ConfigError, DataError
from hf_genret.hits import (
    BATCH,
    Hit,
    Limits,
    Only,
    check_texts,
    filters_of,
    find_hits,
    leaves_history_out,
    rows_of,
    unjudged,
)
from hf_genret.indexing.capacity import Method
from hf_genret.manifest import TRAINING_FILE
from hf_genret.modeling import GenRetModel
from hf_genret.opening import read_state
from hf_genret.state import State, Stateful, read_records

if TYPE_CHECKING:
    from hf_genret.evaluation import Run
    from hf_genret.explain import Explanation, TreeNode


__all__ = ["GenRetriever", "Hit"]


class GenRetriever(Stateful):
    """A model, its tokenizer and the documents it has ids for.

    Any number of threads may search, filter, explain and iterate one retriever, also while another
    one saves it, compresses its vectors or replaces its index: each answer is of the state that
    stood when it was asked. What was opened stays what is answered from, whatever becomes of the
    folder it came from. Retrievers can be pickled and copied; a copy holds its documents in memory.

    Args:
        model: With or without an index.
        processing_class: The tokenizer; None for a model that reads no text.
        documents: As many as the model's index has rows, in the same order.

    Example:
        >>> retriever = GenRetriever.from_pretrained("me/stdlib-genret")
        >>> for hit in retriever.search("join two paths", k=5):
        ...     print(hit.id, hit.score, hit.docid, hit.document["title"])
    """

    def __init__(
        self,
        model: GenRetModel,
        processing_class: PreTrainedTokenizerBase | None,
        documents: Documents | DocumentStore,
    ) -> None:
        store = documents
        if isinstance(store, Documents):
            store = DocumentStore.from_documents(store)
        if len(store) != model.config.num_documents:
            raise DataError(
                f"the model has ids for {model.config.num_documents} documents, "
                f"{len(store)} were given."
            )
        super().__init__(State(model.eval(), processing_class, store))

    # ---- checkpoints ----------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: torch.dtype | str | None = None,
        token: str | None = None,
        base: str | Path | None = None,
    ) -> GenRetriever:
        """Load a checkpoint, or a LoRA adapter merged into its base.

        Args:
            name_or_path: A folder, or `owner/name` on the Hub.
            revision: Branch, tag or commit on the Hub.
            device: For example `cpu` or `cuda:1`; a GPU where there is one by default.
            dtype: Of the weights; as they were saved by default.
            token: For private repositories.
            base: Of an adapter, where it is no longer where the adapter says.

        Raises:
            CheckpointError: Missing, incomplete, damaged, contradicting itself, or an adapter of
                another base.
        """
        folder = checkpoints.locate(name_or_path, revision, token)
        return cls.of_state(read_state(folder, dtype=dtype, device=device, base=base))

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        extra_manifest: Mapping[str, Any] | None = None,
        report: Mapping[str, Any] | None = None,
        beside: str | Path | None = None,
    ) -> None:
        """Save everything: weights, index, vectors, code, tokenizer, documents, card, manifest.

        The folder is written beside its place, then both change places: from outside there is the
        old checkpoint or the new one at any moment. Of what stood there only files go that its
        manifest names; others stay.

        Args:
            folder: Where the checkpoint goes.
            extra_manifest: Entries of manifest.json, for example `seed` and `data`.
            report: An evaluation report: kept as report.json, its figures go into the card.
            beside: A folder whose content becomes part of the checkpoint, for example the record
                of its training.

        Raises:
            CheckpointError: When the disk refuses, or what stands there is another kind of model or
                holds files of somebody else's with the same names.
        """
        with self._saving:
            before = self.state
            saved = replace(before, facts={**before.facts, **(extra_manifest or {})})
            records: dict[str, bytes] = {}

            def fill(fresh: Path) -> None:
                view = GenRetriever.of_state(saved)
                checkpoints.write_files(fresh, view, report=report, beside=beside)
                records.update(read_records(fresh))

            path = checkpoints.write_folder(folder, fill, before.folder)
        with self._changing:
            if self.state is before:  # else another index came into its place meanwhile
                self.state = replace(saved, folder=path, records=records)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> str:
        """Upload the checkpoint with a card as one commit; the repository is made where needed.

        A card that the checkpoint folder already has is kept, else one is generated.

        Args:
            repo_id: `owner/name`.
            private: Whether a new repository is private; the account's default by default.
            commit_message: Of the commit.
            token: One that may write.
            revision: Branch, made where needed; `main` by default.

        Returns:
            Address of the commit.

        Raises:
            CheckpointError: When the Hub or the disk refuses.
        """
        from hf_genret.hub.push import push

        return push(
            self,
            repo_id,
            private=private,
            commit_message=commit_message,
            token=token,
            revision=revision,
        )

    # ---- search ---------------------------------------------------------------------------

    @overload
    def search(
        self,
        query: str,
        k: int = 10,
        *,
        num_beams: int | None = None,
        history: Sequence[str] | None = None,
        only: Only | None = None,
    ) -> list[Hit]: ...
    @overload
    def search(
        self,
        query: list[str],
        k: int = 10,
        *,
        num_beams: int | None = None,
        history: Sequence[Sequence[str]] | None = None,
        only: Only | Sequence[Only | None] | None = None,
    ) -> list[list[Hit]]: ...
    def search(
        self,
        query: str | list[str],
        k: int = 10,
        *,
        num_beams: int | None = None,
        history: Sequence[str] | Sequence[Sequence[str]] | None = None,
        only: Only | Sequence[Only | None] | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """Documents for a query, or for each of several.

        Args:
            query: A text, or a list of texts; a very long text is cut, with one warning.
            k: Hits wanted; fewer come where the corpus (or `only`) holds fewer.
            num_beams: Leaves visited, then k hits are not promised; by default the checkpoint's
                own number, more where its leaves hold fewer than k documents, and all of them
                where no more than some hundred documents can be found.
            history: Ids of the user's earlier items, oldest first, one list a query, for a model
                that reads histories beside text.
            only: Ids that may be found, or a function that says so of a document. The result is
                that of an index rebuilt from those documents. For several queries also a list
                with one of these (or None) for each.

        Returns:
            Hits, best first; one list a query where a list was given.

        Raises:
            DataError: An empty query, an unknown id, an `only` that leaves nothing.
        """
        single = isinstance(query, str)
        texts = [query] if isinstance(query, str) else list(query)
        check_texts(texts)
        state = self.state
        if state.model.encoder.query is None:
            raise DataError("this model reads histories, not text; use recommend(history=...).")
        histories = None
        if history is not None:
            histories = rows_of(state.documents, [history] if single else history)
        if histories is not None and len(histories) != len(texts):
            raise DataError(f"found {len(histories)} histories for {len(texts)} queries.")
        filters = filters_of(state.documents, only, None if single else len(texts))
        limits = Limits(k, num_beams, *filters)
        hits = find_hits(state, unjudged(len(texts), texts, histories), limits)
        return hits[0] if single else hits

    @overload
    def recommend(
        self,
        history: list[str],
        k: int = 10,
        *,
        exclude_history: bool | None = None,
        user: int | None = None,
        num_beams: int | None = None,
        only: Only | None = None,
    ) -> list[Hit]: ...
    @overload
    def recommend(
        self,
        history: list[list[str]],
        k: int = 10,
        *,
        exclude_history: bool | None = None,
        user: Sequence[int] | None = None,
        num_beams: int | None = None,
        only: Only | Sequence[Only | None] | None = None,
    ) -> list[list[Hit]]: ...
    def recommend(
        self,
        history: list[str] | list[list[str]],
        k: int = 10,
        *,
        exclude_history: bool | None = None,
        user: int | Sequence[int] | None = None,
        num_beams: int | None = None,
        only: Only | Sequence[Only | None] | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """Items for the history of a user, or of each of several.

        Args:
            history: Ids of items, oldest first, or a list of such lists.
            k: As in `search`.
            exclude_history: Never recommend what the history holds; by default as the checkpoint
                was trained and measured (`hf_genret.hits.leaves_history_out`).
            user: Number of the user in the training data, one a history, for a model that knows
                users.
            num_beams: As in `search`.
            only: As in `search`.

        Returns:
            Hits, best first; one list a history where several were given.

        Raises:
            DataError: An unknown id, an empty history, or a model that reads none.
        """
        state = self.state
        if state.model.encoder.history is None:
            raise DataError("this model reads text, not histories; use search(query).")
        single = all(isinstance(item, str) for item in history) and not isinstance(history, str)
        histories = rows_of(state.documents, [history] if single else history)
        users = None if user is None else np.atleast_1d(np.asarray(user, dtype=np.int64))
        if users is None and any(len(rows) == 0 for rows in histories):
            raise DataError("a history is empty; at least one item was expected.")
        if users is not None and (len(users) != len(histories) or users.min(initial=0) < 0):
            raise DataError(f"expected {len(histories)} user numbers from 0, found {user}.")
        filters = filters_of(state.documents, only, None if single else len(histories))
        if exclude_history is None:
            exclude_history = leaves_history_out(state)
        limits = Limits(k, num_beams, *filters, exclude_history)
        hits = find_hits(state, unjudged(len(histories), None, histories, users), limits)
        return hits[0] if single else hits

    def search_dataset(
        self,
        queries: Queries,
        k: int = 100,
        num_beams: int | None = None,
        exclude_history: bool = False,
        batch_size: int = BATCH,
        constrained: bool = True,
        max_documents: int | None = None,
    ) -> Run:
        """Search a whole split, for evaluation; see `hf_genret.dataset_search.search_dataset`."""
        from hf_genret.dataset_search import search_dataset

        state = self.state
        return search_dataset(
            state.model,
            state.processing_class,
            queries,
            k=k,
            num_beams=num_beams,
            exclude_history=exclude_history,
            constrained=constrained,
            max_documents=max_documents,
            batch_size=batch_size,
        )

    # ---- explanations ---------------------------------------------------------------------

    @overload
    def explain(
        self,
        query: str | None,
        id: str,
        *,
        k: int = 10,
        history: Sequence[str] | None = None,
        num_beams: int | None = None,
        only: Only | None = None,
        siblings: int = 5,
    ) -> Explanation: ...
    @overload
    def explain(
        self,
        query: str | None,
        id: list[str],
        *,
        k: int = 10,
        history: Sequence[str] | None = None,
        num_beams: int | None = None,
        only: Only | None = None,
        siblings: int = 5,
    ) -> list[Explanation]: ...
    def explain(
        self,
        query: str | None,
        id: str | list[str],
        *,
        k: int = 10,
        history: Sequence[str] | None = None,
        num_beams: int | None = None,
        only: Only | None = None,
        siblings: int = 5,
    ) -> Explanation | list[Explanation]:
        """Why a search finds a document, or where it loses it.

        Level by level: the probability of the code of the document's id, the best codes that exist
        beside it, and the typical words of the documents below each (class-based TF-IDF, see
        `hf_genret.explain.PrefixWords`); then what the beam and the ranker make of it. Printing
        the result shows all of it.

        Args:
            query: A text; None for a model that reads histories alone.
            id: A document's id, or a list of ids.
            k: As in `search`, which widens its beam until it has so many hits.
            history: As in `search`; without a query what `recommend` is given.
            num_beams: As in `search`.
            only: As in `search`.
            siblings: Codes shown beside the one taken, at each level.

        Returns:
            One explanation, or a list where a list of ids was given.

        Raises:
            DataError: An empty query, an unknown id, or one that `only` leaves out.
        """
        from hf_genret.explain import explain

        found = explain(
            self.state,
            query,
            [id] if isinstance(id, str) else id,
            k=k,
            history=history,
            num_beams=num_beams,
            only=only,
            siblings=siblings,
        )
        return found[0] if isinstance(id, str) else found

    def tree(
        self, prefix: Sequence[int] = (), *, depth: int = 2, children: int = 8, words: int = 6
    ) -> TreeNode:
        """Ids as a tree with sizes and typical words; see `hf_genret.explain.docid_tree`."""
        from hf_genret.explain import docid_tree

        return docid_tree(self.state, prefix, depth=depth, children=children, words=words)

    # ---- the index ------------------------------------------------------------------------

    def index(
        self,
        documents: Documents | Sequence[Mapping[str, Any]] | str | Path,
        *,
        method: Method = "exact",
        batch_size: int = 64,
    ) -> None:
        """Give ids to another corpus with the trained model; nothing is trained.

        Args:
            documents: The corpus; records with `_id` or `id`, `title`, `text`; or a file or folder.
            method: How ids are shared out, as in `hf_genret.indexing.capacity.assign`.
            batch_size: Documents encoded at once.

        Raises:
            DataError: When the documents have a fault.
            ConfigError: For a model whose items are rows of its catalogue.
        """
        from hf_genret.indexing.by_model import ids_by_model, with_vectors

        state = self.state
        if getattr(state.model.encoder.item_side, "inputs", None) != "text":
            raise ConfigError(
                "this model knows its items by their row in the catalogue it was trained on, "
                "not by their text; it can index no other documents."
            )
        corpus = as_documents(documents)
        store = DocumentStore.from_documents(corpus)
        source = ItemSource(state.model, corpus, state.processing_class)
        source = with_vectors(state.model, source, batch_size)
        codes, rows = ids_by_model(state.model, source, method=method, batch_size=batch_size)
        vectors = pooled_vectors(state.model, source, batch_size=batch_size)
        model = state.model.twin()
        model.set_index(codes, rows, vectors=vectors)
        # Everything is there; from here on nothing can fail half-way.
        with self._changing:
            facts = {**self.state.facts, "data": data_facts(corpus)}
            self.state = State(model, state.processing_class, store, facts=facts)

    def compress_vectors(self, precision: str) -> None:
        """Keep the ranker's vectors less exactly: a half or a quarter of the bytes.

        Args:
            precision: `float32`, `float16` or `int8`.

        Raises:
            ConfigError: When it is unknown.
        """
        with self._changing:
            model = self.state.model.twin()
            try:
                model.compress_vectors(precision)
            except ValueError as error:
                raise ConfigError(str(error)) from error
            self.state = replace(self.state, model=model)

    def describe(self) -> dict[str, Any]:
        """Facts about the index; see `hf_genret.description.describe_index`."""
        from hf_genret.description import describe_index

        return describe_index(self.model)

    def plot(self, path: str | Path) -> None:
        """Draw how code distributions moved in training; see `hf_genret.plotting`."""
        from hf_genret.plotting import plot_distributions

        plot_distributions(self.state.record(TRAINING_FILE), path, self.folder)
