"""Indexers: what gives a document its id where that is not the decoder itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .configuration_genret import GenRetConfig
from .heads_genret import CodebookHeads, Prefix, look_up, prefix_length, similarity


class MlpIndexer(nn.Module):
    """One MLP a level on the document's vector (ASI++'s default, arXiv 2405.14280, section 3).

    The codes of an id are independent of each other given the vector.
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        dim, hidden = config.vector_dim, config.indexer_hidden or 2 * config.vector_dim
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Linear(dim, hidden),
                nn.GELU(),
                nn.Dropout(config.indexer_dropout),
                nn.Linear(hidden, size),
            )
            for size in config.codebook_sizes
        )

    def level_logits(self, level: int, vectors: Tensor, prefix: Prefix, heads: nn.Module) -> Tensor:
        """Logits of one level's codes.

        Args:
            level: From 0.
            vectors: [B, D], pooled vectors of documents (or queries).
            prefix: Codes before, [B, level], or their distributions; not needed here.
            heads: The decoder's heads; not needed here.

        Returns:
            [B, K_level].
        """
        del prefix, heads
        logits: Tensor = self.levels[level](vectors)
        return logits


class _Quantizer(nn.Module, ABC):
    """Codebooks of its own and a similarity to them."""

    def __init__(self, config: GenRetConfig, widths: Sequence[int]) -> None:
        super().__init__()
        self.cosine = config.indexer_similarity == "cosine"
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(size, width))
            for size, width in zip(config.codebook_sizes, widths, strict=True)
        )
        self.scale = nn.Parameter(torch.full((1,), float(config.indexer_scale)))

    @abstractmethod
    def target(self, level: int, vectors: Tensor, prefix: Prefix) -> Tensor:
        """What the codebook of a level has to describe, [B, width of the level]."""

    def level_logits(self, level: int, vectors: Tensor, prefix: Prefix, heads: nn.Module) -> Tensor:
        """Logits [B, K_level], as `MlpIndexer.level_logits`."""
        del heads
        points = self.target(level, vectors, prefix)
        kind = "cosine" if self.cosine else "distance"
        return self.scale * similarity(kind, points, self.codebooks[level])

    def tables(self, heads: nn.Module) -> list[Tensor]:
        """The codebooks [K, width of the level]."""
        del heads
        return list(self.codebooks)

    @torch.no_grad()
    def start(self, level: int, centres: Tensor) -> None:
        """Put a level's codebook [K, width] at the given points."""
        self.codebooks[level].copy_(centres)


class ProductIndexer(_Quantizer):
    """Product quantization: every level describes its own part of the vector (ASI++, RepCONC)."""

    def __init__(self, config: GenRetConfig) -> None:
        levels, dim = config.num_levels, config.vector_dim
        cuts = [dim * level // levels for level in range(levels + 1)]
        super().__init__(config, [cuts[i + 1] - cuts[i] for i in range(levels)])
        self._cuts = cuts

    def target(self, level: int, vectors: Tensor, prefix: Prefix) -> Tensor:
        """The level's part of the vectors."""
        del prefix
        return vectors[:, self._cuts[level] : self._cuts[level + 1]]

    def reconstruct(self, prefix: Prefix) -> Tensor:
        """Vectors [B, D] that whole ids stand for."""
        return torch.cat(look_up(list(self.codebooks), prefix), dim=-1)


class ResidualIndexer(_Quantizer):
    """Residual quantization: every level describes what those before left over (ASI++, DGI)."""

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__(config, [config.vector_dim] * config.num_levels)

    def target(self, level: int, vectors: Tensor, prefix: Prefix) -> Tensor:
        """What is left of the vectors after the codes before."""
        del level
        return vectors - self.reconstruct(prefix) if prefix_length(prefix) else vectors

    def reconstruct(self, prefix: Prefix) -> Tensor:
        """Vectors [B, D] that ids, or prefixes of them, stand for."""
        return torch.stack(look_up(list(self.codebooks), prefix)).sum(0)


class TiedIndexer(nn.Module):
    """A residual quantizer whose codebooks *are* the decoder's heads (DGI, Eq. 9, 10 and 13).

    It owns nothing but, where the configuration asks for one, a scale: each codebook stays one
    Parameter of the model.
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        self.scale = None
        if config.indexer_scale:
            self.scale = nn.Parameter(torch.full((1,), float(config.indexer_scale)))

    def level_logits(self, level: int, vectors: Tensor, prefix: Prefix, heads: nn.Module) -> Tensor:
        """Logits [B, K_level], as `MlpIndexer.level_logits`."""
        assert isinstance(heads, CodebookHeads)  # the configuration says so
        points = heads.residual(vectors, prefix)
        if self.scale is None:
            return heads.logits(level, points)
        return self.scale * similarity(heads.similarity, points, heads.centres[level])

    def tables(self, heads: nn.Module) -> list[Tensor]:
        """The codebooks of the heads, [K, D] a level."""
        assert isinstance(heads, CodebookHeads)  # the configuration says so
        return heads.tables()


INDEXERS: dict[str, type[nn.Module] | None] = {
    "decoder": None,
    "mlp": MlpIndexer,
    "pq": ProductIndexer,
    "rq": ResidualIndexer,
    "tied": TiedIndexer,
}
