"""Index, ranker's vectors and search: the half of the model that stands on ids that exist."""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from torch import Tensor
from transformers.utils import cached_file

from .beam_genret import beam_search
from .digest_genret import check_signature, folder_stamp, sign
from .encoders_genret import EncoderOutput
from .index_genret import DocidIndex
from .mask_genret import Allowed
from .pretrained_genret import GenRetPreTrainedModel
from .ranking_genret import SearchOutput, rank_union
from .vectors_genret import VECTORS_FILE, compressed, load_vectors, save_vectors, take_rows

TRIES = 20  # readings of a folder that is replaced all the time


class IndexedModel(GenRetPreTrainedModel):
    """What `GenRetModel` can do once documents are indexed; needs its encoders and decoder."""

    index: DocidIndex
    encode_query: Any
    _stored: tuple[Tensor, Tensor | None] | None  # the ranker's vectors and their scales

    # ---- index, ranker and search ---------------------------------------------------------

    def set_index(
        self, codes: Tensor, rows: Tensor | None = None, vectors: Tensor | None = None
    ) -> None:
        """Replace the id index, and the ranker's vectors with it.

        Args:
            codes: [P, L].
            rows: [P], document row of each path; 0..P-1 by default.
            vectors: [documents, D], one a document row.

        Raises:
            ValueError: When codes, rows or vectors do not fit each other; nothing is changed then.
        """
        fresh = DocidIndex(self.config).to(self.index.paths.device)
        fresh.build(codes, rows)
        documents = int(fresh.rows.max()) + 1
        if vectors is not None and len(vectors) < documents:
            raise ValueError(
                f"The index names {documents} documents, {len(vectors)} have a vector."
            )
        self.index = fresh
        follow_index(self)
        if vectors is not None:
            self.set_vectors(vectors)

    def set_vectors(self, vectors: Tensor) -> None:
        """Replace the ranker's vectors [documents, D]."""
        self._stored = vectors.detach(), None

    def compress_vectors(self, precision: str) -> None:
        """Keep the ranker's vectors less exactly: a half or a quarter of the bytes.

        Args:
            precision: `float32`, `float16`, or `int8` with a scale a document.

        Raises:
            ValueError: When it is unknown, or there are no vectors.
        """
        self._stored = compressed(self.vectors, precision)

    def open_vectors(self, path: str) -> None:
        """Take the ranker's vectors from a file, which is memory-mapped where possible.

        Raises:
            ValueError: When they are not those of the index's documents.
        """
        self._stored = load_vectors(path, self.config.num_documents, self.config.vector_dim)

    def twin(self) -> Any:
        """A model that shares this one's weights and has an index and vectors of its own.

        What is set on either does not change the other, so that a search that began on this one
        ends on it while the twin gets another index.
        """
        twin = copy.copy(self)
        twin.__dict__.update(
            {name: dict(self.__dict__[name]) for name in ("_modules", "_parameters", "_buffers")}
        )
        twin.config = copy.deepcopy(self.config)
        return twin

    @property
    def vectors(self) -> Tensor:
        """The ranker's vectors [documents, D].

        Where they are kept as integers this is a copy in float32; `vector_rows` makes none.

        Raises:
            ValueError: When the model has none.
        """
        values, scales = self.stored_vectors()
        return values if scales is None else values.float() * scales.unsqueeze(-1)

    def vector_rows(self, row: Tensor) -> Tensor:
        """The ranker's vectors of document rows, on the rows' device."""
        return take_rows(*self.stored_vectors(), row)

    @property
    def vector_bytes(self) -> int:
        """Bytes of the ranker's vectors, as they are kept."""
        return sum(tensor.nbytes for tensor in self.stored_vectors() if tensor is not None)

    @property
    def has_vectors(self) -> bool:
        """Whether there are ranker vectors."""
        return self._stored is not None

    def stored_vectors(self) -> tuple[Tensor, Tensor | None]:
        """Vectors and scales as they are kept.

        Raises:
            ValueError: When the model has none.
        """
        if self._stored is None:
            raise ValueError("This model has no ranker vectors; index documents first.")
        return self._stored

    @torch.no_grad()
    def search(
        self,
        k: int = 10,
        num_beams: int | None = None,
        exclude: Tensor | None = None,
        allowed: Tensor | None = None,
        part: Tensor | None = None,
        constrained: bool = True,
        renormalize: bool = False,
        encoder_outputs: EncoderOutput | None = None,
        **inputs: Any,
    ) -> SearchOutput:
        """Encode, visit the most probable leaves, and rank the union of their documents.

        Args:
            k: Documents to return; fewer come when the leaves hold fewer.
            num_beams: Leaves to visit; `default_beams` by default.
            exclude: [B, E], document rows to leave out of each query's result, -1 is padding.
            allowed: [documents] bool, the only documents that may be found, or [S, documents] for
                several such sets; all by default.
            part: [B], which of the S sets is each query's; their own number by default.
            constrained: Whether beams are held to ids that exist. Without, as ASI decodes, beams at
                ids that do not exist find nothing.
            renormalize: Whether ids are scored among those that exist, which ends a search early
                where one way is left.
            encoder_outputs: Encoded queries, instead of `inputs`.
            **inputs: Query inputs as in `forward`.

        Returns:
            `SearchOutput`, padded with -1 where a query has fewer than k documents.

        Raises:
            ValueError: When the index or the allowed set is empty, or k is not positive.
        """
        if k < 1:
            raise ValueError(f"k must be positive, found {k}.")
        encoded = self.encode_query(**inputs) if encoder_outputs is None else encoder_outputs
        filtered = None
        if allowed is not None:
            filtered = self._filter(allowed, part, len(encoded.pooler_output))
        width = self.default_beams(allowed) if num_beams is None else num_beams
        whole: Any = self  # with the decoder and heads that the subclass adds
        beams = beam_search(whole, encoded, width, filtered, constrained, renormalize)
        return rank_union(whole, encoded.pooler_output, beams, k, exclude=exclude, allowed=filtered)

    def default_beams(self, allowed: Tensor | None = None) -> int:
        """Leaves that `search` visits by default, see `GenRetConfig.default_beams`.

        Args:
            allowed: As in `search`.
        """
        documents = self.config.num_documents
        if allowed is not None and allowed.numel():
            documents = min(documents, int(allowed.sum(-1).max()))
        beams: int = self.config.default_beams(documents)
        return beams

    def _filter(self, allowed: Tensor, part: Tensor | None, batch: int) -> Allowed:
        """What a filter leaves of the index, checked."""
        if allowed.shape[-1] < self.config.num_documents:
            raise ValueError(
                f"allowed needs one entry for each of {self.config.num_documents} documents, "
                f"found {allowed.shape[-1]}."
            )
        if not bool(allowed.any(-1).all()):
            raise ValueError("The allowed set is empty: no document could be found.")
        allowed = allowed.to(self.index.rows.device)
        if allowed.ndim == 1:
            return Allowed(allowed[None], self.index.restrict(allowed[None]))
        if part is None and len(allowed) == batch:
            part = torch.arange(batch)
        if part is None or len(part) != batch:
            raise ValueError(
                f"{len(allowed)} allowed sets need part=[..], the set of each of {batch} queries."
            )
        return Allowed(allowed, self.index.restrict(allowed), part.to(allowed.device))

    # ---- checkpoints ----------------------------------------------------------------------

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save weights, index, configuration and code as transformers does, vectors beside."""
        super().save_pretrained(save_directory, **kwargs)
        if not kwargs.get("is_main_process", True):
            return
        if self._stored is not None:
            save_vectors(*self._stored, os.path.join(save_directory, VECTORS_FILE))
        sign(os.fspath(save_directory))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint: weights, index and vectors of one save, all of them opened now.

        Raises:
            ValueError: When the index contradicts itself, or files are of different saves.
        """
        name = pretrained_model_name_or_path
        if name is None or not os.path.isdir(name):
            loaded = super().from_pretrained(name, *args, **kwargs)
            cls._finish(loaded, name, kwargs)
            return loaded
        folder = os.path.join(name, kwargs.get("subfolder") or "")
        for tries in range(TRIES):
            before = folder_stamp(folder)
            try:
                # The arguments are read again with each try; transformers takes some out.
                loaded = super().from_pretrained(name, *args, **dict(kwargs))
                cls._finish(loaded, name, kwargs)
            except Exception:
                if folder_stamp(folder) == before or tries == TRIES - 1:
                    raise
                continue
            if folder_stamp(folder) == before:
                return loaded
        raise ValueError(f"{name}: it was replaced again and again while it was read.")

    @classmethod
    def _finish(cls, loaded: Any, name: Any, kwargs: dict[str, Any]) -> None:
        """Check the index of a model that was just loaded, and open its vectors."""
        model, info = loaded if isinstance(loaded, tuple) else (loaded, {})
        wrong = model.index.check()
        if (
            wrong is None
            and len(model.index)
            and model.config.num_documents <= int(model.index.rows.max())
        ):
            wrong = "the id index names documents beyond num_documents"
        if wrong is not None:
            raise ValueError(f"{name}: {wrong}.")
        if name is None:
            return
        folder = kwargs.get("subfolder") or ""
        path = cached_file(
            name,
            VECTORS_FILE,
            # The commit that the weights came from, should the branch have moved since.
            revision=getattr(model.config, "_commit_hash", None)
            or kwargs.get("revision")
            or "main",
            subfolder=folder,
            local_files_only=kwargs.get("local_files_only", False),
            token=kwargs.get("token"),
            cache_dir=kwargs.get("cache_dir"),
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None and len(model.index):
            model.open_vectors(path)
        # Weights that are missing are somebody else's sentence.
        if os.path.isdir(name) and not info.get("missing_keys"):
            check_signature(os.path.join(name, folder), model.config)


def follow_index(model: Any, _: Any = None) -> None:
    """Let the sizes in the configuration say what the index holds."""
    index = model.index
    model.config.num_paths, model.config.num_nodes = len(index), index.num_nodes
    model.config.num_documents = int(index.rows.max()) + 1 if len(index) else 0
