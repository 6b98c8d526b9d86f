"""Heads: from the decoder's hidden state to the logits of one level's codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_genret import GenRetConfig


def node_number(codes: Tensor, sizes: list[int]) -> Tensor:
    """Number of the node that a prefix [B, l] leads to: its codes as digits of mixed radix. [B]."""
    number = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
    for level in range(codes.shape[1]):
        number = number * sizes[level] + codes[:, level].long()
    return number


class PlainHeads(nn.Module):
    """One linear map a level, or a single one for all levels (`share_levels`, URI).

    With a shared map a code's embedding is the same whatever its parent and level, which is what
    keeps token names consistent across parents.
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        sizes = config.codebook_sizes[:1] if config.share_levels else config.codebook_sizes
        self.maps = nn.ModuleList(nn.Linear(config.decoder_dim, size) for size in sizes)

    def forward(self, level: int, hidden: Tensor, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Logits [B, K] of level `level` (from 0); `vectors` and `prefix` are not needed."""
        del vectors, prefix
        return self.maps[min(level, len(self.maps) - 1)](hidden)


class ClusterHeads(nn.Module):
    """Heads in the encoder's space: similarity to the centre of each child of the prefix's node.

    logit(code | prefix) = scale_l * sim(z + r_l(h), centre[prefix, code]), where z is the pooled
    vector and r_l a linear map started at zero. With centres from clustering the documents an
    untrained model is therefore a coarse quantizer, and training moves away from it only as far
    as the data asks. A level with more than `max_head_nodes` nodes keeps one centre a code,
    compared with the residual of z after the centres above (as a residual quantizer does).
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        self.sizes = config.codebook_sizes
        self.cosine = config.head_similarity == "cosine"
        self.centres = nn.ParameterList()
        self.residuals = nn.ModuleList()
        self._flat: list[bool] = []
        nodes = 1
        for level, size in enumerate(self.sizes):
            nodes *= size
            self._flat.append(level > 0 and nodes > config.max_head_nodes)
            rows = size if self._flat[level] else nodes
            self.centres.append(nn.Parameter(torch.zeros(rows, config.vector_dim)))
            self.residuals.append(nn.Linear(config.decoder_dim, config.vector_dim))
        self.scale = nn.Parameter(torch.full((len(self.sizes),), float(config.head_scale)))

    def is_flat(self, level: int) -> bool:
        """Whether the level keeps one centre a code instead of one a node."""
        return self._flat[level]

    def forward(self, level: int, hidden: Tensor, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Logits of one level.

        Args:
            level: From 0.
            hidden: [B, d], the decoder's state at that level.
            vectors: [B, D], pooled vectors of the query or item.
            prefix: [B, level], codes so far.

        Returns:
            [B, K_level].
        """
        point = vectors + self.residuals[level](hidden)  # [B, D]
        if self.is_flat(level):
            point = point - self._above(level, prefix)
        centres = self.centres[level]
        if self.cosine:
            point = functional.normalize(point, dim=-1)
            centres = functional.normalize(centres, dim=-1)
        if level == 0 or self.is_flat(level):
            return self.scale[level] * (point @ centres.T)
        size = self.sizes[level]
        node = node_number(prefix, self.sizes)  # [B]
        children = centres.view(-1, size, centres.shape[-1])[node]  # [B, K, D]
        return self.scale[level] * torch.einsum("bd,bkd->bk", point, children)

    def _above(self, level: int, prefix: Tensor) -> Tensor:
        """What the centres of the levels above have explained already, [B, D]."""
        deepest = max(i for i in range(level) if not self.is_flat(i))
        node = node_number(prefix[:, : deepest + 1], self.sizes)
        total = self.centres[deepest][node]
        for i in range(deepest + 1, level):
            total = total + self.centres[i][prefix[:, i].long()]
        return total

    @torch.no_grad()
    def start(self, level: int, centres: Tensor) -> None:
        """Put a level's centres at the given points; the residual map goes back to zero.

        Args:
            level: From 0.
            centres: [rows, D], one a node (mixed radix order) or one a code.
        """
        self.centres[level].copy_(centres)
        for parameter in self.residuals[level].parameters():
            parameter.zero_()


HEADS: dict[str, type[nn.Module]] = {"plain": PlainHeads, "cluster": ClusterHeads}
