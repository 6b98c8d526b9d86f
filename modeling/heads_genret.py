"""Heads: from the decoder's hidden state to the logits of one level's codes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_genret import GenRetConfig
from .index_genret import may_ask

# Codes before a level: [B, l] int64, or one distribution [B, K] a level where they are soft.
Prefix = Tensor | Sequence[Tensor]


def prefix_length(prefix: Prefix) -> int:
    """Number of codes in a prefix, hard or soft."""
    return prefix.shape[1] if isinstance(prefix, Tensor) else len(prefix)


def look_up(tables: Sequence[Tensor], prefix: Prefix) -> list[Tensor]:
    """Rows of each level's table [K, w]; their expectation where codes are soft. A list of [B, w].

    A soft code of a table is a product with it, so gradients reach distribution and table.
    """
    if isinstance(prefix, Tensor):
        return [rows_of(tables[i], prefix[:, i]) for i in range(prefix.shape[1])]
    return [weights @ tables[i] for i, weights in enumerate(prefix)]


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Rows [B, ...] of a learned table [N, ...].

    As an embedding, for its gradient: that of plain indexing adds up in any order where several
    threads share the rows, and two trainings with one seed then differ.
    """
    return functional.embedding(index.long(), table.flatten(1)).unflatten(-1, table.shape[1:])


def similarity(kind: str, points: Tensor, centres: Tensor) -> Tensor:
    """`cosine`, `dot`, or `distance` (minus the squared one), [B, D] and [K, D] -> [B, K]."""
    if kind == "cosine":
        return functional.normalize(points, dim=-1) @ functional.normalize(centres, dim=-1).T
    if kind == "dot":
        return points @ centres.T
    square = points.square().sum(-1, keepdim=True) + centres.square().sum(-1)
    return 2 * points @ centres.T - square


def node_number(codes: Tensor, sizes: list[int]) -> Tensor:
    """Number of the node that a prefix [B, l] leads to: its codes as digits of mixed radix. [B]."""
    number = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
    for level in range(codes.shape[1]):
        number = number * sizes[level] + codes[:, level].long()
    return number


_PRODUCT = 2**14
"""Elements that are gathered in the time that one more product takes, forward and backward."""


def _by_node_pays(points: Tensor, centres: Tensor, size: int) -> bool:
    """Whether to multiply node by node on a CPU, with points [B, D] and centres [nodes * K, D]."""
    nodes, gathered = len(centres) // size, points.numel() * size
    return may_ask(points) and gathered >= _PRODUCT * nodes


def _by_node(points: Tensor, node: Tensor, centres: Tensor) -> Tensor:
    """Products of points [B, D] with the children of their nodes [nodes, K, D]: [B, K].

    Gathering the children of each point would copy K vectors a point, and their gradients back.
    """
    order = node.argsort(stable=True)
    parts = rows_of(points, order).split(node.bincount(minlength=len(centres)).tolist())
    found = [part @ children.T for part, children in zip(parts, centres, strict=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return rows_of(torch.cat(found), place)


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
        self.similarity = config.head_similarity
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
        return self.logits(level, self.point(level, hidden, vectors, prefix), prefix)

    def point(self, level: int, hidden: Tensor, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Where a query or document stands before a level's code is chosen, [B, D]."""
        moved: Tensor = vectors + self.residuals[level](hidden)
        return moved - self._above(level, prefix) if self.is_flat(level) else moved

    def code_vectors(self, level: int, prefix: Tensor, codes: Tensor) -> Tensor:
        """Vectors of codes [B] after prefixes [B, level], [B, D]."""
        row = codes
        if level and not self.is_flat(level):
            row = node_number(prefix, self.sizes) * self.sizes[level] + codes
        return rows_of(self.centres[level], row)

    def _children(self, level: int, prefix: Tensor, centres: Tensor) -> Tensor:
        if level == 0 or self.is_flat(level):
            return centres
        return rows_of(self._nodes(level, centres), node_number(prefix, self.sizes))

    def _nodes(self, level: int, centres: Tensor) -> Tensor:
        """Centres [rows, D] as [nodes, K, D]."""
        return centres.view(-1, self.sizes[level], centres.shape[-1])

    def level_scale(self, level: int) -> Tensor:
        """The level's inverse temperature."""
        return self.scale[level]

    def logits(self, level: int, points: Tensor, prefix: Tensor) -> Tensor:
        """Logits [B, K_level] of points [B, D]."""
        centres = self.centres[level]
        if self.similarity == "cosine":  # once a centre, not once a query
            points = functional.normalize(points, dim=-1)
            centres = functional.normalize(centres, dim=-1)
        if level and not self.is_flat(level) and _by_node_pays(points, centres, self.sizes[level]):
            node = node_number(prefix, self.sizes)
            return self.level_scale(level) * _by_node(points, node, self._nodes(level, centres))
        codebook = self._children(level, prefix, centres)
        if codebook.ndim == 2:
            return self.level_scale(level) * (points @ codebook.T)
        return self.level_scale(level) * torch.einsum("bd,bkd->bk", points, codebook)

    def _above(self, level: int, prefix: Tensor) -> Tensor:
        """What the centres of the levels above have explained already, [B, D]."""
        deepest = max(i for i in range(level) if not self.is_flat(i))
        node = node_number(prefix[:, : deepest + 1], self.sizes)
        total = rows_of(self.centres[deepest], node)
        for i in range(deepest + 1, level):
            total = total + rows_of(self.centres[i], prefix[:, i])
        return total

    @torch.no_grad()
    def start(self, level: int, centres: Tensor, *, keep: bool = False) -> None:
        """Put a level's centres at the given points.

        Args:
            level: From 0.
            centres: [rows, D], one a node (mixed radix order) or one a code.
            keep: Whether the residual map, which moved those points, stays; else it goes back to
                zero.
        """
        self.centres[level].copy_(centres)
        if not keep:
            for parameter in self.residuals[level].parameters():
                parameter.zero_()


class CodebookHeads(nn.Module):
    """One codebook a level, the same below every parent, in the encoder's space.

    The decoder says where a query or document stands, point_l = z + r_l(h) - (codes above), and a
    code's logit is the scaled similarity of that point and the code's vector. GenRet's d_t and E_t
    (arXiv 2304.04171, Eq. 3) and DGI's heads (arXiv 2603.10409, Eq. 10) have this form; r_l is
    started at zero, so that an untrained model is a residual quantizer.
    """

    _LARGEST_SCALE = 100.0

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        self.similarity, self.unit = config.head_similarity, config.normalize_codes
        self.centres = nn.ParameterList(
            nn.Parameter(torch.zeros(size, config.vector_dim)) for size in config.codebook_sizes
        )
        self.residuals = nn.ModuleList(
            nn.Linear(config.decoder_dim, config.vector_dim) for _ in config.codebook_sizes
        )
        self.log_scale = nn.Parameter(torch.full((1,), math.log(config.head_scale)))

    @property
    def scale(self) -> Tensor:
        """The one learnable inverse temperature of all levels, at most 100."""
        return self.log_scale.exp().clamp(max=self._LARGEST_SCALE)

    def tables(self) -> list[Tensor]:
        """The codebooks [K, D] as they count in residuals and as what the decoder reads."""
        if self.unit:
            return [functional.normalize(centres, dim=-1) for centres in self.centres]
        return list(self.centres)

    def residual(self, vectors: Tensor, prefix: Prefix) -> Tensor:
        """What the codes so far leave of vectors [B, D]."""
        if not prefix_length(prefix):
            return vectors
        return vectors - torch.stack(look_up(self.tables(), prefix)).sum(0)

    def point(self, level: int, hidden: Tensor, vectors: Tensor, prefix: Prefix) -> Tensor:
        """Where a query or document stands before a level's code is chosen, [B, D].

        Args:
            level: From 0.
            hidden: [B, d], the decoder's state at that level.
            vectors: [B, D], pooled vectors.
            prefix: Codes before, [B, level], or their distributions.
        """
        moved: Tensor = self.residuals[level](hidden)
        return self.residual(vectors, prefix) + moved

    def code_vectors(self, level: int, prefix: Prefix, codes: Tensor) -> Tensor:
        """Vectors of codes [B], the same after every prefix, [B, D]."""
        del prefix
        return rows_of(self.centres[level], codes)

    def level_scale(self, level: int) -> Tensor:
        """The inverse temperature, the same at every level."""
        del level
        return self.scale

    def logits(self, level: int, points: Tensor, prefix: Prefix = ()) -> Tensor:
        """Logits [B, K_level] of points [B, D]; the prefix does not matter."""
        del prefix
        return self.scale * similarity(self.similarity, points, self.centres[level])

    def forward(self, level: int, hidden: Tensor, vectors: Tensor, prefix: Prefix) -> Tensor:
        """Logits [B, K_level]; arguments as for `point`."""
        return self.logits(level, self.point(level, hidden, vectors, prefix))

    @torch.no_grad()
    def start(self, level: int, centres: Tensor) -> None:
        """Put a level's codebook [K, D] at the given points."""
        self.centres[level].copy_(centres)


HEADS: dict[str, type[nn.Module]] = {
    "plain": PlainHeads,
    "cluster": ClusterHeads,
    "codebook": CodebookHeads,
}
