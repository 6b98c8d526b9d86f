"""GenRetModel: encoder, decoder-as-indexer, ranker and id index as one PreTrainedModel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import Seq2SeqLMOutput

from .beam_genret import Beams  # noqa: F401  (see below)
from .configuration_genret import GenRetConfig
from .decoder_genret import DECODERS
from .digest_genret import folder_digest  # noqa: F401
from .encoders_genret import EncoderOutput
from .generation_genret import (
    TrieLogitsProcessor,
    check_arguments,
    check_decoding,
    check_generation,
    pad_surplus,
)
from .heads_genret import HEADS, Prefix, look_up, prefix_length
from .index_genret import DocidIndex
from .indexers_genret import INDEXERS
from .mask_genret import Allowed  # noqa: F401
from .mlp_genret import MlpDecoder  # noqa: F401
from .nci_genret import PrefixAwareHeads  # noqa: F401
from .pretrained_genret import GenRetPreTrainedModel  # noqa: F401
from .ranking_genret import Ranker
from .retrieval_genret import IndexedModel, follow_index
from .sides_genret import GenRetEncoder
from .steps_genret import DecoderSteps  # noqa: F401
from .tiger_genret import TigerDecoder  # noqa: F401
from .vectors_genret import VECTORS_FILE  # noqa: F401

# From a local folder transformers 5.0 takes only the files that this one imports itself, so every
# sibling is named here, used or not.


@dataclass
class GenRetOutput(Seq2SeqLMOutput):
    """Output of `GenRetModel.forward`: `loss` and `logits` [B, t, V], as in Seq2SeqLMOutput."""


class GenRetModel(IndexedModel, GenerationMixin):
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
        indexer = _chosen(INDEXERS, config.indexer, "indexer")
        self.indexer: Any = None if indexer is None else indexer(config)
        self.ranker = Ranker(config)
        self.index = DocidIndex(config)
        self._stored: tuple[Tensor, Tensor | None] | None = None
        # Training states are loaded into this object; their index may have other sizes.
        self.register_load_state_dict_post_hook(follow_index)
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
            inputs["history_vectors"] = self._history_vectors(history.clamp(min=0))
            inputs["history_mask"] = history >= 0
        encoded: EncoderOutput = self.encoder(users=users, **inputs)
        if history is None or not self._reads_codes():
            return encoded
        return self.decoder.with_codes(encoded, *self.index.codes_of(history))

    def _reads_codes(self) -> bool:
        """Whether the decoder attends to the ids of a history's items instead of their vectors.

        As long as nothing has an id there is no decoding either, and vectors will do.
        """
        return bool(getattr(self.decoder, "reads_histories", False)) and len(self.index) > 0

    def encode_items(self, **inputs: Any) -> EncoderOutput:
        """Encode documents; arguments of `GenRetEncoder.encode_items`."""
        return self.encoder.encode_items(**inputs)

    def _history_vectors(self, rows: Tensor) -> Tensor:
        """Vectors of document rows [B, H] -> [B, H, D]."""
        if self.encoder.history_of_documents:
            return self.vector_rows(rows).to(self.dtype)
        vectors: Tensor = self.encoder.items.vectors(rows)
        return vectors

    # ---- decoding -------------------------------------------------------------------------

    def level_logits(self, encoded: EncoderOutput, codes: Tensor) -> Tensor:
        """Logits of the code after each prefix.

        Args:
            encoded: B' queries or items.
            codes: [B, l], l from 0 to L-1; B is B' times the prefixes a query has.

        Returns:
            [B, K of that level].
        """
        vectors = encoded.pooler_output
        if len(codes) != len(vectors):
            vectors = vectors.repeat_interleave(len(codes) // len(vectors), dim=0)
        inputs = self._read(codes, vectors)
        hidden = self.decoder(inputs, encoded.last_hidden_state, encoded.attention_mask)
        return self.code_logits(codes.shape[1], hidden[:, -1], vectors, codes)

    def code_logits(self, level: int, hidden: Tensor, vectors: Tensor, prefix: Prefix) -> Tensor:
        """Logits [B, K] of a level's codes by the heads; the trees of a forest are all alike.

        Args:
            level: From 0.
            hidden: [B, d], the decoder's state at that level.
            vectors: [B, D], pooled vectors.
            prefix: The codes before.
        """
        if level == 0 and self.config.forest:
            return hidden.new_zeros(len(hidden), self.config.codebook_sizes[0])
        logits: Tensor = self.heads(level, hidden, vectors, prefix)
        return logits

    def index_logits(self, encoded: EncoderOutput, codes: Tensor) -> Tensor:
        """Logits of the code that documents get after each prefix: what the indexer says.

        Args:
            encoded: B documents.
            codes: [B, l], l from 0 to L-1.

        Returns:
            [B, K of that level].
        """
        if self.indexer is None:
            return self.level_logits(encoded, codes)
        logits: Tensor = self.indexer.level_logits(
            codes.shape[1], encoded.pooler_output, codes, self.heads
        )
        return logits

    def path_logits(
        self, encoded: EncoderOutput, codes: Prefix, read: Prefix | None = None
    ) -> list[Tensor]:
        """Logits of every level when the codes before it are given.

        Args:
            encoded: B queries or items.
            codes: [B, l], the given codes, or a distribution [B, K] for each of l levels.
            read: What the decoder reads instead of `codes`, likewise; the heads still see `codes`.

        Returns:
            l + 1 tensors [B, K] (l where l = L): level i saw the first i codes.
        """
        hidden = self.path_states(encoded, codes if read is None else read)
        vectors = encoded.pooler_output
        return [
            self.code_logits(i, hidden[:, i], vectors, first_codes(codes, i))
            for i in range(hidden.shape[1])
        ]

    def path_points(self, encoded: EncoderOutput, codes: Prefix) -> list[Tensor]:
        """Where queries or items stand before each level's code, for codebook heads.

        Args:
            encoded: B queries or items.
            codes: As for `path_logits`.

        Returns:
            l + 1 tensors [B, D] (l where l = L).
        """
        hidden = self.path_states(encoded, codes)
        vectors = encoded.pooler_output
        return [
            self.heads.point(i, hidden[:, i], vectors, first_codes(codes, i))
            for i in range(hidden.shape[1])
        ]

    def path_states(self, encoded: EncoderOutput, codes: Prefix) -> Tensor:
        """The decoder's states before each level's code, [B, l + 1, d] (l where l = L)."""
        levels = min(prefix_length(codes) + 1, self.config.num_levels)
        inputs = self._read(first_codes(codes, levels - 1), encoded.pooler_output)
        states: Tensor = self.decoder(inputs, encoded.last_hidden_state, encoded.attention_mask)
        return states

    def _read(self, codes: Prefix, vectors: Tensor) -> Tensor:
        """What the decoder reads: the start, then l codes [B, l + 1, d]; vectors are [B, D].

        With `decoder_inputs="codebooks"` the query's vector stands at the start and the codes'
        vectors after it (DGI, Fig. 2), else there are embeddings for all of them.
        """
        start = self.decoder.start(vectors)
        code_map = self.decoder.code_map
        if code_map is None:
            read = look_up(self._token_tables(prefix_length(codes)), codes)
        else:
            start = start + code_map(vectors)
            read = [code_map(rows) for rows in look_up(self.heads.tables(), codes)]
        return torch.stack([start, *read], dim=1)

    def read_code(self, level: int, code: Tensor | None, vectors: Tensor) -> Tensor:
        """What the decoder reads at one position, [B, d], as `path_states` has it read.

        Args:
            level: The position; 0 is that of the start.
            code: [B], the code of the level before; None at the start.
            vectors: [B, D], pooled vectors.
        """
        decoder = self.decoder
        if code is None:
            start: Tensor = decoder.start(vectors)
            return start if decoder.code_map is None else start + decoder.code_map(vectors)
        if decoder.code_map is None:
            read: Tensor = decoder.embedding.weight[code + self.config.level_offsets[level - 1]]
            return read
        mapped: Tensor = decoder.code_map(self.heads.tables()[level - 1][code])
        return mapped

    def _token_tables(self, levels: int) -> list[Tensor]:
        """The decoder's own embeddings of each level's codes, [K, d] each."""
        weight = self.decoder.embedding.weight
        places = zip(self.config.level_offsets, self.config.codebook_sizes, strict=True)
        return [weight[first : first + size] for first, size in list(places)[:levels]]

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
        codes = self._codes(decoder_input_ids)
        vectors = encoder_outputs.pooler_output
        inputs = self._read(codes, vectors)[:, past:]
        hidden = self.decoder(inputs, memory, mask, past_key_values)
        logits = self._vocabulary_logits(hidden, vectors, codes, past)
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        return GenRetOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            encoder_last_hidden_state=memory,
        )

    def _codes(self, tokens: Tensor) -> Tensor:
        """Tokens of generate()'s vocabulary, start first, [B, t] -> codes [B, t - 1]."""
        offsets = torch.tensor(
            self.config.level_offsets[: tokens.shape[1] - 1], dtype=torch.long, device=tokens.device
        )
        sizes = torch.tensor(
            self.config.codebook_sizes[: len(offsets)], dtype=torch.long, device=tokens.device
        )
        # A row that generate() made up to fill a batch has no real prefix; any will do for it.
        return torch.minimum((tokens[:, 1:] - offsets).clamp(min=0), sizes - 1)

    def _vocabulary_logits(
        self, hidden: Tensor, vectors: Tensor, codes: Tensor, past: int
    ) -> Tensor:
        """Level logits at their places in the vocabulary, [B, new, V]."""
        offsets = self.config.level_offsets
        out = hidden.new_full((len(hidden), hidden.shape[1], self.config.vocab_size), -torch.inf)
        for place in range(hidden.shape[1]):
            level = past + place
            logits = self.code_logits(level, hidden[:, place], vectors, codes[:, :level])
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
        return LogitsProcessorList([trie, *processors, trie] if processors else [trie])

    def _prepare_generation_config(
        self, generation_config: GenerationConfig | None, **kwargs: Any
    ) -> tuple[GenerationConfig, dict[str, Any]]:
        """As in transformers, and checked; ids have the length that they have."""
        settings, rest = super()._prepare_generation_config(generation_config, **kwargs)
        check_generation(settings, self.config.num_levels)
        settings.max_length, settings.max_new_tokens = None, self.config.num_levels
        return settings, rest

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
        known = self.generation_config
        check_arguments({name: kwargs[name] for name in kwargs if not hasattr(known, name)})
        given = {} if generation_config is None else generation_config.to_dict()
        check_decoding(known.to_dict(), given, kwargs)
        if encoded is None:
            encoded = self.encode_query(**query)
        start = torch.zeros(len(encoded.pooler_output), 1, dtype=torch.long, device=self.device)
        result = super().generate(
            generation_config=generation_config,
            logits_processor=logits_processor,
            # transformers repeats it for the beams in place.
            encoder_outputs=EncoderOutput(**encoded),
            decoder_input_ids=start,
            **kwargs,
        )
        sequences = result if isinstance(result, Tensor) else result.sequences
        beams = kwargs.get("num_beams") or getattr(generation_config, "num_beams", None)
        group = len(sequences) // len(start) if (beams or known.num_beams) > 1 else 1
        sequences = pad_surplus(sequences, self.index, self.config.level_offsets, group)
        if isinstance(result, Tensor):
            return sequences
        result.sequences = sequences
        return result


def first_codes(codes: Prefix, count: int) -> Prefix:
    """The first codes of a prefix, hard or soft."""
    return codes[:, :count] if isinstance(codes, Tensor) else codes[:count]


def _chosen(known: Mapping[str, Any], name: str, setting: str) -> Any:
    """The class that a setting names."""
    if name not in known:
        raise ValueError(f"Unknown {setting} {name!r}; known: {', '.join(known)}.")
    return known[name]


_QUERY_INPUTS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "history",
    "users",
    "query_vectors",
)
