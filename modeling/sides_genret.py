"""The two sides of a retriever: which encoder reads queries, which documents, what follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_genret import GenRetConfig
from .encoders_genret import (
    EncoderOutput,
    ItemEncoder,
    ResidualAdapter,
    build_encoder,
    concatenate,
    from_vectors,
)


class GenRetEncoder(nn.Module):
    """Query side and item side: which encoder reads what, their adapters and the normalisation."""

    main_input_name = "input_ids"

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        self.query: Any = build_encoder(config.query_encoder) if config.query_encoder else None
        self.items: Any = build_encoder(config.item_encoder) if config.item_encoder else None
        self.history: Any = (
            build_encoder(config.history_encoder) if config.history_encoder else None
        )
        self.query_adapter = ResidualAdapter(config.vector_dim) if config.query_adapter else None
        self.item_adapter = ResidualAdapter(config.vector_dim) if config.item_adapter else None
        self.normalize = config.normalize
        for name in ("query", "items", "history"):
            dim = getattr(getattr(self, name), "dim", config.vector_dim)
            if dim != config.vector_dim:
                raise ValueError(
                    f"The {name} encoder emits vectors of width {dim}, "
                    f"vector_dim is {config.vector_dim}."
                )

    @property
    def item_side(self) -> nn.Module | None:
        """The encoder of documents or items: its own, or the query's."""
        return self.items if self.items is not None else self.query

    @property
    def history_of_documents(self) -> bool:
        """Whether histories are of documents by their ranker vectors, not of catalogue items."""
        return self.history is not None and not isinstance(self.items, ItemEncoder)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        query_vectors: Tensor | None = None,
        history_vectors: Tensor | None = None,
        history_mask: Tensor | None = None,
        users: Tensor | None = None,
        **_: Any,
    ) -> EncoderOutput:
        """Encode queries.

        Args:
            input_ids: [B, T], query text.
            attention_mask: [B, T].
            token_type_ids: [B, T], where the backbone wants them.
            query_vectors: [B, D], what the text encoder gave for these queries before.
            history_vectors: [B, H, D], item vectors, oldest first, padded on the left.
            history_mask: [B, H].
            users: [B], user numbers.

        Raises:
            ValueError: When there is nothing to encode.
        """
        parts = []
        if query_vectors is not None:
            parts.append(from_vectors(query_vectors))
        elif input_ids is not None and self.query is not None:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            parts.append(self.query(input_ids, mask, token_type_ids))
        if history_vectors is not None and self.history is not None:
            parts.append(self.history(history_vectors, history_mask, users))
        if not parts:
            raise ValueError(
                "A query needs text (input_ids) or a history that this model can read."
            )
        return self._finish(concatenate(parts), self.query_adapter)

    def encode_items(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        items: Tensor | None = None,
        item_vectors: Tensor | None = None,
    ) -> EncoderOutput:
        """Encode documents from text [B, T], catalogue rows [B], or earlier vectors [B, D]."""
        if item_vectors is not None:
            output = from_vectors(item_vectors)
        elif isinstance(self.item_side, ItemEncoder):
            if items is None:
                raise ValueError("This model's items are rows of its catalogue; give `items`.")
            output = self.item_side(items)
        elif input_ids is None or self.item_side is None:
            raise ValueError("A document needs text (input_ids) and a model that reads text.")
        else:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            output = self.item_side(input_ids, mask, token_type_ids)
        return self._finish(output, self.item_adapter)

    def _finish(self, output: EncoderOutput, adapter: nn.Module | None) -> EncoderOutput:
        """Adapter and normalisation; a memory of one vector stays equal to the pooled vector."""
        pooled, states = output.pooler_output, output.last_hidden_state
        single = states.shape[1] == 1
        if adapter is not None:
            pooled = adapter(pooled)
        if self.normalize:
            pooled = functional.normalize(pooled, dim=-1)
        return EncoderOutput(
            pooled.unsqueeze(1) if single else states, pooled, output.attention_mask
        )
