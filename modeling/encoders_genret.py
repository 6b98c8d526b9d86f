"""Encoders: what reads a query, a document, an item or a history, and emits vectors.

Every encoder returns an `EncoderOutput`: a sequence of vectors for the decoder to attend to and
one pooled vector for the ranker. The class is chosen once, by `type` in the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel
from transformers.utils import ModelOutput


@dataclass
class EncoderOutput(ModelOutput):
    """What an encoder emits.

    Attributes:
        last_hidden_state: [B, T, D], the vectors the decoder attends to.
        pooler_output: [B, D], the vector the ranker uses.
        attention_mask: [B, T], 1 where a vector counts.
    """

    # ModelOutput wants defaults; every encoder gives all three.
    last_hidden_state: Tensor = None  # type: ignore[assignment]
    pooler_output: Tensor = None  # type: ignore[assignment]
    attention_mask: Tensor = None  # type: ignore[assignment]


def from_vectors(vectors: Tensor) -> EncoderOutput:
    """Wrap pooled vectors [B, D] as sequences of one vector."""
    mask = torch.ones(len(vectors), 1, dtype=torch.long, device=vectors.device)
    return EncoderOutput(vectors.unsqueeze(1), vectors, mask)


def concatenate(outputs: list[EncoderOutput]) -> EncoderOutput:
    """Join the sequences of several encoders of one query; pooled vectors are added."""
    if len(outputs) == 1:
        return outputs[0]
    return EncoderOutput(
        torch.cat([output.last_hidden_state for output in outputs], dim=1),
        torch.stack([output.pooler_output for output in outputs]).sum(0),
        torch.cat([output.attention_mask for output in outputs], dim=1),
    )


def without_dtype(settings: dict[str, Any]) -> dict[str, Any]:
    """A backbone's settings without the type its weights were stored in, at every depth.

    A backbone has the type of the model around it, or the two could not be multiplied.
    """
    return {
        name: without_dtype(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in ("dtype", "torch_dtype")
    }


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "Sigmoid": nn.Sigmoid,
}


class TextEncoder(nn.Module):
    """Any transformers text encoder, pooled, and mapped where it has dense layers.

    Args:
        backbone: The encoder's own configuration as a dictionary with `model_type`.
        pooling: `mean`, `cls` or `last`.
        memory: `pooled` lets the decoder see one vector, `tokens` every token's vector.
        dense: Layers after the pooling, each `size`, `bias` and `activation`; tokens' vectors go
            through them one by one.
    """

    inputs = "text"

    def __init__(
        self,
        backbone: dict[str, Any],
        pooling: str = "mean",
        memory: str = "pooled",
        dense: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "cls", "last"):
            raise ValueError(f"pooling must be mean, cls or last, found {pooling!r}.")
        if memory not in ("pooled", "tokens"):
            raise ValueError(f"memory must be pooled or tokens, found {memory!r}.")
        settings = without_dtype(backbone)
        kind = settings.pop("model_type", None)
        if kind not in CONFIG_MAPPING:
            raise ValueError(
                f"The text encoder's model_type {kind!r} is not one that transformers knows; "
                "an encoder with remote code cannot be used."
            )
        config = AutoConfig.for_model(kind, **settings)
        self.backbone = AutoModel.from_config(config)
        self.pooling, self.memory = pooling, memory
        self.dim = int(config.hidden_size)
        self.dense = nn.Sequential()
        for layer in dense or []:
            self.dense.append(nn.Linear(self.dim, layer["size"], bias=layer["bias"]))
            self.dense.append(ACTIVATIONS[layer["activation"]]())
            self.dim = int(layer["size"])

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> EncoderOutput:
        """Encode tokens [B, T] to vectors [B, T or 1, D]."""
        extra = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **extra)
        states = hidden.last_hidden_state  # [B, T, D]
        pooled = self.dense(self._pool(states, attention_mask))
        if self.memory == "pooled":
            return from_vectors(pooled)
        return EncoderOutput(self.dense(states), pooled, attention_mask)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "last":
            last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
            return states[torch.arange(len(states), device=states.device), last]
        weight = mask.unsqueeze(-1).to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp(min=1e-9)


class BagEncoder(nn.Module):
    """A bag of subwords with BM25's saturation and inverse document frequency as weights.

    pooled = sum over distinct tokens t of sat(tf_t) * idf_t * E[t], where
    sat(tf) = tf (k1 + 1) / (tf + k1 (1 - b + b * length / average_length)). Started from a
    truncated singular value decomposition it needs no pretrained weights.

    Args:
        vocab_size: Subwords, 0 is padding.
        dim: Width D.
        average_length: Mean document length in tokens.
        k1: Saturation of repeated tokens.
        b: Strength of the length normalisation.
    """

    inputs = "text"
    idf: Tensor

    def __init__(
        self,
        vocab_size: int,
        dim: int = 256,
        average_length: float = 64.0,
        k1: float = 1.2,
        b: float = 0.75,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=0)
        self.register_buffer("idf", torch.ones(vocab_size))
        self.average_length, self.k1, self.b = average_length, k1, b
        self.dim = dim

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> EncoderOutput:
        """Encode tokens [B, T] to one vector [B, 1, D]."""
        del token_type_ids
        weight = self._weights(input_ids, attention_mask)
        vectors = functional.embedding_bag(
            input_ids, self.embedding.weight, per_sample_weights=weight, mode="sum"
        )
        return from_vectors(vectors)

    def _weights(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The weight of each occurrence [B, T]; those of a token sum to the token's weight."""
        mask = attention_mask.bool()
        ordered, order = input_ids.masked_fill(~mask, 0).sort(dim=1)
        # Equal tokens stand together now; a run's length is the token's frequency.
        starts = torch.ones_like(ordered, dtype=torch.bool)
        starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        run = starts.cumsum(1) - 1  # [B, T], number of the run within its row
        lengths = torch.zeros_like(ordered).scatter_add_(1, run, torch.ones_like(ordered))
        count = torch.empty_like(ordered).scatter_(1, order, lengths.gather(1, run))
        frequency = count.to(self.idf.dtype)
        length = mask.sum(1, keepdim=True).to(self.idf.dtype)
        norm = self.k1 * (1 - self.b + self.b * length / self.average_length)
        saturated = (self.k1 + 1) / (
            frequency + norm
        )  # already divided by tf: shared by its occurrences
        return (saturated * self.idf[input_ids] * mask).to(self.embedding.weight.dtype)


class ItemEncoder(nn.Module):
    """Items of a catalogue from an id embedding, given features, or both.

    Args:
        num_items: Rows of the catalogue.
        dim: Width D.
        use_ids: Whether each item has an embedding of its own.
        feature_dim: Width of given features (for example of text); 0 for none.
    """

    inputs = "rows"
    features: Tensor

    def __init__(
        self,
        num_items: int,
        dim: int,
        use_ids: bool = True,
        feature_dim: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not use_ids and not feature_dim:
            raise ValueError("An item encoder needs use_ids, feature_dim, or both.")
        self.embedding = nn.Embedding(num_items, dim) if use_ids else None
        self.project = nn.Linear(feature_dim, dim) if feature_dim else None
        self.register_buffer("features", torch.zeros(num_items if feature_dim else 0, feature_dim))
        self.dropout = nn.Dropout(dropout)
        self.dim = dim

    def forward(self, items: Tensor) -> EncoderOutput:
        """Encode item rows [B] to one vector [B, 1, D]."""
        return from_vectors(self.vectors(items))

    def vectors(self, items: Tensor) -> Tensor:
        """Vectors of item rows [...] as [..., D]."""
        parts = []
        if self.embedding is not None:
            parts.append(self.embedding(items))
        if self.project is not None:
            parts.append(self.project(self.dropout(self.features[items])))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class SequenceEncoder(nn.Module):
    """A causal transformer over the items of a history, oldest first (SASRec, arXiv 1808.09781).

    Args:
        dim: Width D.
        layers: Number of blocks.
        heads: Attention heads.
        max_length: Items read, the newest ones.
        dropout: Dropout of embeddings and blocks.
    """

    inputs = "history"

    def __init__(
        self, dim: int, layers: int = 2, heads: int = 2, max_length: int = 20, dropout: float = 0.2
    ) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.position = nn.Embedding(max_length, dim)  # counted from the newest item
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.max_length, self.dim = max_length, dim

    def forward(self, items: Tensor, mask: Tensor, users: Tensor | None = None) -> EncoderOutput:
        """Encode item vectors [B, H, D] with their mask [B, H]; padding stands on the left."""
        del users
        items, mask = items[:, -self.max_length :], mask[:, -self.max_length :]
        width = items.shape[1]
        age = torch.arange(width - 1, -1, -1, device=items.device)
        hidden = self.dropout(items + self.position(age)) * mask.unsqueeze(-1)
        future = torch.ones(width, width, dtype=torch.bool, device=items.device).triu(1)
        # A padded row may see itself, so that no softmax runs over nothing.
        blocked = future | ~mask.bool()[:, None, :]
        blocked = blocked & ~torch.eye(width, dtype=torch.bool, device=items.device)
        heads = self.blocks.layers[0].self_attn.num_heads
        states = self.norm(self.blocks(hidden, mask=blocked.repeat_interleave(heads, dim=0)))
        # The newest item stands last, so the last state has read the whole history; a query
        # without one gets nothing added.
        return EncoderOutput(states, states[:, -1] * mask[:, -1:], mask.long())


class UserEncoder(nn.Module):
    """A user as an id embedding and the mean of the user's items, for general recommendation.

    Args:
        num_users: Rows of the id embedding; a user outside them has the items alone.
        dim: Width D.
        dropout: Dropout of the item side.
    """

    inputs = "history"

    def __init__(self, num_users: int, dim: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_users + 1, dim, padding_idx=num_users)
        self.project = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.max_length = 10**9
        self.dim = dim

    def forward(self, items: Tensor, mask: Tensor, users: Tensor | None = None) -> EncoderOutput:
        """Encode item vectors [B, H, D] and user numbers [B] to two vectors [B, 2, D]."""
        weight = mask.unsqueeze(-1).to(items.dtype)
        mean = (items * weight).sum(1) / weight.sum(1).clamp(min=1)
        content = mean + self.project(self.dropout(mean))
        unknown = self.embedding.num_embeddings - 1
        if users is None:
            users = torch.full((len(items),), unknown, device=items.device)
        known = (users >= 0) & (users < unknown)
        identity = self.embedding(users.masked_fill(~known, unknown))
        states = torch.stack([identity, content], dim=1)
        return EncoderOutput(
            states,
            identity + content,
            torch.ones(states.shape[:2], dtype=torch.long, device=items.device),
        )


class ResidualAdapter(nn.Module):
    """x + W x with W started at zero: nothing changes until it is trained."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, dim))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        return vectors + vectors @ self.weight.T


ENCODERS: dict[str, type[nn.Module]] = {
    "text": TextEncoder,
    "bag": BagEncoder,
    "items": ItemEncoder,
    "sequence": SequenceEncoder,
    "user": UserEncoder,
}


def build_encoder(settings: dict[str, Any]) -> nn.Module:
    """Build the encoder that a configuration describes.

    Raises:
        ValueError: When `type` names no encoder.
    """
    options = dict(settings)
    kind = options.pop("type", None)
    if kind not in ENCODERS:
        raise ValueError(f"Unknown encoder type {kind!r}; known: {', '.join(ENCODERS)}.")
    return ENCODERS[kind](**options)
