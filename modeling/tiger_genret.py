"""TIGER's decoder: what it attends to of a history are the codes of its items."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configuration_genret import GenRetConfig
from .decoder_genret import DECODERS, TransformerDecoder
from .encoders_genret import EncoderOutput

_GROUPS, _ALIKE = 4, 32
"""Groups of histories of similar length that a batch is read in, and how many one has at least."""


class TigerDecoder(TransformerDecoder):
    """The transformer decoder with an encoder of its own for histories (TIGER, NeurIPS 2023).

    A history's items are written one after another as their codes, oldest first, and a small
    bidirectional transformer reads them: L vectors an item take the place of the sequence encoder's
    one. Codes have the same embedding there and in ids that are being written. The pooled vector,
    which the ranker compares, stays the sequence encoder's; a query's text is left as it is.

    Histories that are a set (a user encoder's) have no order to read and are left alone, too.
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__(config)
        settings = config.history_encoder or {}
        self.reads_histories = settings.get("type") == "sequence"
        if not self.reads_histories:
            return
        dim, heads = config.decoder_dim, config.decoder_heads
        self.offsets = config.level_offsets
        self.max_items = int(settings.get("max_length", 20))
        block = nn.TransformerEncoderLayer(
            dim,
            heads,
            4 * dim,
            config.decoder_dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.history_blocks = nn.TransformerEncoder(
            block, config.decoder_layers, enable_nested_tensor=False
        )
        # Counted from the newest code, which stands last.
        self.history_position = nn.Embedding(self.max_items * config.num_levels, dim)
        self.history_norm = nn.LayerNorm(dim)
        self.history_output = nn.Linear(dim, config.vector_dim)
        self.history_dropout = nn.Dropout(config.decoder_dropout)

    def with_codes(self, encoded: EncoderOutput, codes: Tensor, mask: Tensor) -> EncoderOutput:
        """The encoder's output with codes in the place of the items of a history.

        Args:
            encoded: Of queries whose history, if it is the last of what was encoded, has one vector
                an item.
            codes: [B, H, L], the ids of the items, oldest first.
            mask: [B, H], where there is an item; padding stands on the left.

        Returns:
            The same pooled vectors; a memory of what stood before the history, then min(H, items
            read) * L vectors.
        """
        codes, mask = codes[:, -self.max_items :], mask[:, -self.max_items :]
        states = self.read_history(codes, mask)
        rest = encoded.last_hidden_state.shape[1] - codes.shape[1]  # the text's, if there is one
        seen = mask.long().repeat_interleave(codes.shape[2], dim=1)
        return EncoderOutput(
            torch.cat([encoded.last_hidden_state[:, :rest], states], dim=1),
            encoded.pooler_output,
            torch.cat([encoded.attention_mask[:, :rest], seen], dim=1),
        )

    def read_history(self, codes: Tensor, mask: Tensor) -> Tensor:
        """Vectors [B, H * L, D] of histories of codes [B, H, L]; items count where `mask` says.

        Histories of similar length are read together, so that short ones are not padded to the
        longest of the batch. Places before a history's oldest item stay zero.
        """
        items, levels = codes.shape[1:]
        length = items - mask.long().argmax(dim=1)  # from the oldest item on; all of none
        vectors = self.history_output.weight.new_zeros(
            len(codes), items * levels, self.history_output.out_features
        )
        for rows in length.argsort().split(max(_ALIKE, -(-len(codes) // _GROUPS))):
            longest = int(length[rows].max())
            read = self._read(codes[rows, -longest:], mask[rows, -longest:])
            vectors[rows, -longest * levels :] = read.to(vectors.dtype)
        return vectors

    def _read(self, codes: Tensor, mask: Tensor) -> Tensor:
        """`read_history` of a few, all padded to the longest."""
        offsets = torch.tensor(self.offsets, device=codes.device)
        tokens = (codes.long() + offsets).flatten(1)  # [B, H * L]
        seen = mask.bool().repeat_interleave(codes.shape[2], dim=1)
        width = tokens.shape[1]
        age = torch.arange(width - 1, -1, -1, device=codes.device)
        states = self.embedding(tokens) + self.history_position(age)
        states = self.history_dropout(states * seen.unsqueeze(-1))
        # A padded place may see itself, so that no softmax runs over nothing.
        own = torch.eye(width, dtype=torch.bool, device=codes.device)
        blocked = (~seen[:, None, :] & ~own).repeat_interleave(self._heads(), dim=0)
        states = self.history_norm(self.history_blocks(states, mask=blocked))
        vectors: Tensor = self.history_output(states)
        return vectors

    def _heads(self) -> int:
        heads: int = self.history_blocks.layers[0].self_attn.num_heads
        return heads


DECODERS["tiger"] = TigerDecoder
