"""GenRetModel: encoder, decoder-as-indexer, ranker and id index as one PreTrainedModel."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import cached_file

from .configuration_genret import GenRetConfig
from .decoder_genret import DECODERS
from .encoders_genret import EncoderOutput, ItemEncoder
from .generation_genret import (
    TrieLogitsProcessor,
    beam_search,
    check_arguments,
    check_generation,
    pad_surplus,
)
from .heads_genret import HEADS
from .index_genret import DocidIndex
from .pretrained_genret import GenRetPreTrainedModel
from .ranking_genret import (
    Ranker,
    SearchOutput,
    load_vectors,
    rank_union,
    save_vectors,
    take_rows,
)
from .sides_genret import GenRetEncoder

VECTORS_FILE = "vectors.safetensors"


@dataclass
class GenRetOutput(Seq2SeqLMOutput):
    """Output of `GenRetModel.forward`: `loss` and `logits` [B, t, V], as in Seq2SeqLMOutput."""


class GenRetModel(GenRetPreTrainedModel, GenerationMixin):
    """A generative retriever: `generate()` writes ids that exist, `search()` ranks their documents.

    Example:
        >>> model = AutoModel.from_pretrained("me/stdlib-genret", trust_remote_code=True)
        >>> model.search(**tokens, k=10).rows
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__(config)
        self.encoder = GenRetEncoder(config)
        self.decoder = _chosen(DECODERS, config.decoder_type, "decoder_type")(config)
        self.heads = _chosen(HEADS, config.head_type, "head_type")(config)
        self.ranker = Ranker(config)
        self.index = DocidIndex(config)
        self._vectors: Tensor | None = None
        self._vectors_file: str | None = None
        # Training states are loaded into this object; their index may have other sizes.
        self.register_load_state_dict_post_hook(_follow_index)
        self.post_init()
        self.generation_config.update(
            max_new_tokens=config.num_levels,
            num_beams=config.search_beams,
            # Without beams transformers refuses to save a setting that only beams read.
            length_penalty=0.0 if config.search_beams > 1 else 1.0,
            do_sample=False,
            pad_token_id=0,
            decoder_start_token_id=0,
        )

    # ---- encoding -------------------------------------------------------------------------

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """The query encoder, as generate() asks for it."""
        del modality
        return self.encoder

    def encode_query(
        self, history: Tensor | None = None, users: Tensor | None = None, **inputs: Any
    ) -> EncoderOutput:
        """Encode queries from text, a history, or both.

        Args:
            history: [B, H], document rows, oldest first, -1 is padding (on the left).
            users: [B], user numbers.
            **inputs: Arguments of `GenRetEncoder.forward`.
        """
        if history is not None and self.encoder.history is not None:
            if history.shape[1] == 0:  # nobody in the batch has a history: one padded place
                history = functional.pad(history, (1, 0), value=-1)
            mask = history >= 0
            inputs["history_vectors"] = self._history_vectors(history.clamp(min=0))
            inputs["history_mask"] = mask
        return self.encoder(users=users, **inputs)

    def encode_items(self, **inputs: Any) -> EncoderOutput:
        """Encode documents; arguments of `GenRetEncoder.encode_items`."""
        return self.encoder.encode_items(**inputs)

    def _history_vectors(self, rows: Tensor) -> Tensor:
        """Vectors of document rows [B, H] -> [B, H, D]."""
        if isinstance(self.encoder.items, ItemEncoder):
            return self.encoder.items.vectors(rows)
        return take_rows(self.vectors, rows).to(self.dtype)

    # ---- decoding -------------------------------------------------------------------------

    def level_logits(self, encoded: EncoderOutput, codes: Tensor) -> Tensor:
        """Logits of the code after each prefix.

        Args:
            encoded: B' queries or items.
            codes: [B, l], l from 0 to L-1; B is B' times the prefixes a query has.

        Returns:
            [B, K of that level].
        """
        hidden = self.decoder(
            self._tokens(codes), encoded.last_hidden_state, encoded.attention_mask
        )
        vectors = encoded.pooler_output
        if len(codes) != len(vectors):
            vectors = vectors.repeat_interleave(len(codes) // len(vectors), dim=0)
        return self.heads(codes.shape[1], hidden[:, -1], vectors, codes)

    def path_logits(self, encoded: EncoderOutput, codes: Tensor) -> list[Tensor]:
        """Logits of every level when the codes before it are given.

        Args:
            encoded: B queries or items.
            codes: [B, l], the given codes.

        Returns:
            l + 1 tensors [B, K] (l where l = L): level i saw codes[:, :i].
        """
        levels = min(codes.shape[1] + 1, self.config.num_levels)
        hidden = self.decoder(
            self._tokens(codes[:, : levels - 1]), encoded.last_hidden_state, encoded.attention_mask
        )
        return [
            self.heads(i, hidden[:, i], encoded.pooler_output, codes[:, :i]) for i in range(levels)
        ]

    def _tokens(self, codes: Tensor) -> Tensor:
        """Codes [B, l] -> start token and tokens of generate()'s vocabulary [B, l + 1]."""
        offsets = torch.tensor(
            self.config.level_offsets[: codes.shape[1]], dtype=torch.long, device=codes.device
        )
        return functional.pad(codes.long() + offsets, (1, 0), value=0)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        history: Tensor | None = None,
        users: Tensor | None = None,
        query_vectors: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: EncoderOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        objective: Callable[[GenRetModel, Any], dict[str, Tensor]] | None = None,
        batch: Any = None,
        **kwargs: Any,
    ) -> GenRetOutput | dict[str, Tensor]:
        """Logits over generate()'s vocabulary: -inf outside the level's block.

        Args:
            input_ids: [B, T], query text.
            attention_mask: [B, T].
            token_type_ids: [B, T], where the backbone wants them.
            history: [B, H], document rows, -1 is padding.
            users: [B], user numbers.
            query_vectors: [B, D], cached output of a frozen text encoder.
            decoder_input_ids: [B, t], start token and the codes so far; with a cache still all of
                them (a head may need the whole prefix), only new positions are computed.
            encoder_outputs: Encoded queries, instead of the inputs above.
            past_key_values: Cache of generate().
            labels: [B, L], tokens of the ids to be generated; gives `loss`, the mean
                cross-entropy over levels.
            use_cache: Ignored without `past_key_values`.
            return_dict: Ignored, a dictionary-like output is always returned.
            objective: Called as `objective(model, batch)` in place of everything else. Training
                goes through here, because the wrappers of DDP and DeepSpeed only see `forward`.
            batch: What the objective reads.
            **kwargs: Ignored.

        Returns:
            `GenRetOutput` with logits [B, new positions, V].
        """
        del use_cache, return_dict, kwargs
        if objective is not None:
            return objective(self, batch)
        if encoder_outputs is None:
            encoder_outputs = self.encode_query(
                history=history,
                users=users,
                input_ids=input_ids,
                attention_mask=attention_mask,
                token_type_ids=token_type_ids,
                query_vectors=query_vectors,
            )
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("forward needs decoder_input_ids or labels.")
            decoder_input_ids = functional.pad(labels[:, :-1], (1, 0), value=0)
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        memory, mask = encoder_outputs.last_hidden_state, encoder_outputs.attention_mask
        hidden = self.decoder(decoder_input_ids, memory, mask, past_key_values)
        logits = self._vocabulary_logits(
            hidden, encoder_outputs.pooler_output, decoder_input_ids, past
        )
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        return GenRetOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            encoder_last_hidden_state=memory,
        )

    def _vocabulary_logits(
        self, hidden: Tensor, vectors: Tensor, tokens: Tensor, past: int
    ) -> Tensor:
        """Level logits at their places in the vocabulary, [B, new, V]."""
        offsets = self.config.level_offsets
        codes = tokens[:, 1:] - torch.tensor(
            offsets[: tokens.shape[1] - 1], dtype=torch.long, device=tokens.device
        )
        sizes = torch.tensor(
            self.config.codebook_sizes[: codes.shape[1]], dtype=torch.long, device=codes.device
        )
        # A row that generate() made up to fill a batch has no real prefix; any will do for it.
        codes = torch.minimum(codes.clamp(min=0), sizes - 1)
        out = hidden.new_full((len(hidden), hidden.shape[1], self.config.vocab_size), -torch.inf)
        for place in range(hidden.shape[1]):
            level = past + place
            logits = self.heads(level, hidden[:, place], vectors, codes[:, :level])
            out[:, place, offsets[level] : offsets[level] + logits.shape[1]] = logits
        return out

    # ---- generate() -----------------------------------------------------------------------

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """Pass the whole prefix at each step; the decoder computes only what its cache lacks."""
        return {
            "decoder_input_ids": input_ids,
            "encoder_outputs": kwargs.get("encoder_outputs"),
            "past_key_values": kwargs.get("past_key_values"),
            "use_cache": kwargs.get("use_cache"),
        }

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        """The trie first, so that warpers see real ids only, and last: nothing undoes it."""
        processors = super()._get_logits_processor(*args, **kwargs)
        trie = TrieLogitsProcessor(self.index, self.config.level_offsets)
        return LogitsProcessorList([trie, *processors, trie])

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        """Nothing: queries are encoded before generation starts, unknown names raise there."""

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run transformers' own loop, constrained to ids of the index.

        Args:
            inputs: Query text [B, T], as `input_ids`.
            generation_config: Settings; those that contradict ids of fixed length are refused.
            logits_processor: Further processors; the constraint acts before and after them.
            **kwargs: Query inputs (`input_ids`, `attention_mask`, `history`, `users`,
                `encoder_outputs`) and settings of generate().

        Returns:
            What transformers returns; rows beyond the number of ids that exist hold only pad.

        Raises:
            ValueError: When the index is empty or a setting contradicts ids of fixed length.
        """
        if len(self.index) == 0:
            raise ValueError("The id index is empty; index documents before generating ids.")
        encoded = kwargs.pop("encoder_outputs", None)
        query = {name: kwargs.pop(name) for name in _QUERY_INPUTS if name in kwargs}
        if inputs is not None:
            query["input_ids"] = inputs
        settings, rest = self._prepare_generation_config(generation_config, **dict(kwargs))
        check_generation(settings, self.config.num_levels)
        check_arguments(rest)
        if encoded is None:
            encoded = self.encode_query(**query)
        kwargs.pop("max_length", None)
        kwargs["max_new_tokens"] = self.config.num_levels
        start = torch.zeros(len(encoded.pooler_output), 1, dtype=torch.long, device=self.device)
        result = super().generate(
            generation_config=generation_config,
            logits_processor=logits_processor,
            encoder_outputs=encoded,
            decoder_input_ids=start,
            **kwargs,
        )
        group = settings.num_return_sequences or 1
        unique = group if (settings.num_beams or 1) > 1 else 1
        sequences = result if isinstance(result, Tensor) else result.sequences
        sequences = pad_surplus(sequences, self.index, self.config.level_offsets, unique)
        if isinstance(result, Tensor):
            return sequences
        result.sequences = sequences
        return result

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
        _follow_index(self)
        if vectors is not None:
            self.set_vectors(vectors)

    def set_vectors(self, vectors: Tensor) -> None:
        """Replace the ranker's vectors [documents, D]."""
        self._vectors = vectors.detach()
        self._vectors_file = None

    @property
    def vectors(self) -> Tensor:
        """The ranker's vectors [documents, D], read from disk at first use.

        Raises:
            ValueError: When the checkpoint has none, or too few.
        """
        if self._vectors is None:
            if self._vectors_file is None:
                raise ValueError("This model has no ranker vectors; index documents first.")
            vectors = load_vectors(self._vectors_file)
            if len(vectors) < self.config.num_documents:
                raise ValueError(
                    f"{self._vectors_file}: {len(vectors)} vectors found, the index names "
                    f"{self.config.num_documents} documents."
                )
            self._vectors = vectors
        return self._vectors

    @torch.no_grad()
    def search(
        self,
        k: int = 10,
        num_beams: int | None = None,
        exclude: Tensor | None = None,
        allowed: Tensor | None = None,
        encoder_outputs: EncoderOutput | None = None,
        **inputs: Any,
    ) -> SearchOutput:
        """Encode, visit the most probable leaves, and rank the union of their documents.

        Args:
            k: Documents to return; fewer come when the leaves hold fewer.
            num_beams: Leaves to visit; `config.search_beams` by default.
            exclude: [B, E], document rows to leave out of each query's result, -1 is padding.
            allowed: [documents] bool, the only documents that may be found; all by default.
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
        edges = None
        if allowed is not None:
            if len(allowed) < self.config.num_documents:
                raise ValueError(
                    f"allowed needs one entry for each of {self.config.num_documents} documents, "
                    f"found {len(allowed)}."
                )
            if not bool(allowed.any()):
                raise ValueError("The allowed set is empty: no document could be found.")
            edges = self.index.restrict(allowed.to(self.index.rows.device))
        width = self.config.search_beams if num_beams is None else num_beams
        beams = beam_search(self, encoded, width, edges)
        return rank_union(self, encoded.pooler_output, beams, k, exclude=exclude, allowed=allowed)

    # ---- checkpoints ----------------------------------------------------------------------

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save weights, index, configuration and code as transformers does, vectors beside."""
        vectors = self.vectors if self._vectors is not None or self._vectors_file else None
        super().save_pretrained(save_directory, **kwargs)
        if vectors is not None and kwargs.get("is_main_process", True):
            save_vectors(vectors, os.path.join(save_directory, VECTORS_FILE))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint; the index is checked, the vectors are found and read later.

        Raises:
            ValueError: When the index contradicts itself.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        wrong = model.index.check()
        if (
            wrong is None
            and len(model.index)
            and model.config.num_documents <= int(model.index.rows.max())
        ):
            wrong = "the id index names documents beyond num_documents"
        if wrong is not None:
            raise ValueError(f"{pretrained_model_name_or_path}: {wrong}.")
        if pretrained_model_name_or_path is not None:
            model._vectors_file = cached_file(
                pretrained_model_name_or_path,
                VECTORS_FILE,
                # The commit that the weights came from, should the branch have moved since.
                revision=getattr(model.config, "_commit_hash", None)
                or kwargs.get("revision")
                or "main",
                subfolder=kwargs.get("subfolder") or "",
                local_files_only=kwargs.get("local_files_only", False),
                token=kwargs.get("token"),
                cache_dir=kwargs.get("cache_dir"),
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
        return loaded


def _chosen(known: dict[str, type[nn.Module]], name: str, setting: str) -> type[nn.Module]:
    """The class that a setting names."""
    if name not in known:
        raise ValueError(f"Unknown {setting} {name!r}; known: {', '.join(known)}.")
    return known[name]


def _follow_index(model: GenRetModel, _: Any = None) -> None:
    """Let the sizes in the configuration say what the index holds."""
    index = model.index
    model.config.num_paths, model.config.num_nodes = len(index), index.num_nodes
    model.config.num_documents = int(index.rows.max()) + 1 if len(index) else 0


_QUERY_INPUTS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "history",
    "users",
    "query_vectors",
)
