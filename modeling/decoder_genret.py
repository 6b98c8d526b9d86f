"""The decoder: reads a prefix of codes and what the encoder emitted, and says what comes next."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import EncoderDecoderCache

from .configuration_genret import GenRetConfig
from .mlp_genret import MlpDecoder
from .steps_genret import DecoderSteps


class Attention(nn.Module):
    """Multi-head attention of a decoder block, over itself or over the encoder's vectors."""

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.heads = config.decoder_heads
        self.dropout = config.decoder_dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def split(self, states: Tensor) -> Tensor:
        """[B, T, d] -> [B, heads, T, d / heads]."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of `states` [B, T, d]."""
        return self.split(self.key(states)), self.split(self.value(states))

    def forward(self, states: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from `states` [B, T, d]; `mask` is True where a key may be seen."""
        attended = functional.scaled_dot_product_attention(
            self.split(self.query(states)),
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(attended.transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    """Self-attention, attention over the encoder's vectors, feed-forward; each normalised first."""

    def __init__(self, config: GenRetConfig, layer: int) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.layer = layer
        self.self_norm, self.self_attention = nn.LayerNorm(dim), Attention(config)
        self.cross_norm, self.cross_attention = nn.LayerNorm(dim), Attention(config)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )
        self.dropout = nn.Dropout(config.decoder_dropout)

    def forward(
        self,
        states: Tensor,
        memory: Tensor,
        self_mask: Tensor,
        memory_mask: Tensor,
        cache: EncoderDecoderCache | None,
    ) -> Tensor:
        """Update `states` [B, t, d]; with a cache only the new positions are passed."""
        normed = self.self_norm(states)
        keys, values = self.self_attention.keys_values(normed)
        if cache is not None:
            keys, values = cache.self_attention_cache.update(keys, values, self.layer)
        states = states + self.dropout(self.self_attention(normed, keys, values, self_mask))
        keys, values = self._memory_keys(memory, cache)
        # The beams of a query stand one after another: [B' * M, t, d] -> [B', M * t, d].
        folded = self.cross_norm(states).reshape(len(memory), -1, states.shape[-1])
        attended = self.cross_attention(folded, keys, values, memory_mask)
        states = states + self.dropout(attended.reshape(states.shape))
        return states + self.dropout(self.feed_forward(self.feed_norm(states)))

    def _memory_keys(
        self, memory: Tensor, cache: EncoderDecoderCache | None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's vectors, computed once a cache."""
        if cache is not None and cache.is_updated.get(self.layer):
            layer = cache.cross_attention_cache.layers[self.layer]
            return layer.keys, layer.values
        keys, values = self.cross_attention.keys_values(memory)
        if cache is not None:
            keys, values = cache.cross_attention_cache.update(keys, values, self.layer)
            cache.is_updated[self.layer] = True
        return keys, values


class TransformerDecoder(nn.Module):
    """A small transformer over code prefixes (URI: 2 layers of width 96).

    Position 0 reads the start token and predicts the code of level 1, and so on.
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.embedding = nn.Embedding(config.vocab_size, dim)
        self.code_map: nn.Module | None = None
        if config.decoder_inputs == "codebooks":
            self.code_map = nn.Linear(config.vector_dim, dim)
        self.position = nn.Embedding(config.num_levels, dim)
        self.memory = nn.Linear(config.vector_dim, dim)
        self.memory_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(DecoderBlock(config, i) for i in range(config.decoder_layers))
        self.norm = nn.LayerNorm(dim)

    def start(self, vectors: Tensor) -> Tensor:
        """What position 0 reads for queries or items whose pooled vectors are [B, D]: [B, d]."""
        return self.embedding.weight[0].expand(len(vectors), -1)

    def steps(self, memory: Tensor, memory_mask: Tensor) -> DecoderSteps:
        """A search: one position after another, for B' queries and the beams of each."""
        return DecoderSteps(self, memory, memory_mask)

    def forward(
        self,
        inputs: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Hidden states of the positions that are not in the cache.

        Args:
            inputs: [B, new, d], what stands at the new positions: the start, then the codes.
            memory: [B', T, D], the encoder's vectors; B may be B' times a number of beams, then
                the beams of a query share its keys and values (without a cache).
            memory_mask: [B', T], 1 where a vector counts.
            cache: Keys and values of earlier positions, from generate().

        Returns:
            [B, new, d].
        """
        past = cache.get_seq_length() if cache is not None else 0
        total = past + inputs.shape[1]
        where = torch.arange(past, total, device=inputs.device)
        states = inputs + self.position(where)
        self_mask = torch.arange(total, device=inputs.device) <= where[:, None]  # [new, t]
        seen = memory_mask.bool()[:, None, None, :]  # [B', 1, 1, T]
        memory = self.memory_norm(self.memory(memory))
        for block in self.blocks:
            states = block(states, memory, self_mask, seen, cache)
        return self.norm(states)


DECODERS: dict[str, type[nn.Module]] = {"transformer": TransformerDecoder, "mlp": MlpDecoder}
