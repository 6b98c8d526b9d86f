"""NCI's heads: an output projection that the state and the codes before it adapt."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_genret import GenRetConfig
from .heads_genret import HEADS, Prefix


class PrefixAwareHeads(nn.Module):
    """One linear map a level, adapted to what came before (NCI, NeurIPS 2022, section 3.2).

    NCI's prefix-aware weight-adaptive decoder projects with W_l^ada = A(h, prefix) W_l instead of
    W_l, so that a code's row may differ from parent to parent. Here

        logits_l = W_l (h + sum_r s_r M_r h) + b_l,  s = V gelu(U [h; norm(sum_j e_j[c_j])])

    where e_j is an embedding of the codes of level j (a code and its place are one token, as in
    NCI). The paper's A is a transformer over the prefix that emits a whole matrix; a few matrices
    M_r mixed by a small network have the same place at a fraction of the weights. They start at
    zero: an untrained model has plain heads.
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        dim, matrices = config.decoder_dim, config.head_matrices
        self.offsets = config.level_offsets
        self.maps = nn.ModuleList(nn.Linear(dim, size) for size in config.codebook_sizes)
        self.codes = nn.Embedding(config.vocab_size, dim)
        self.norm = nn.LayerNorm(dim)
        self.read, self.mix = nn.Linear(2 * dim, dim), nn.Linear(dim, matrices)
        self.matrices = nn.Parameter(torch.zeros(matrices, dim, dim))

    def adapted(self, hidden: Tensor, prefix: Prefix) -> Tensor:
        """A(h, prefix) h, [B, d].

        Args:
            hidden: [B, d], the decoder's states.
            prefix: [B, l], the codes before.

        Raises:
            ValueError: When codes are soft.
        """
        if not isinstance(prefix, Tensor):
            raise ValueError("Prefix-aware heads read codes, not distributions over them.")
        before = torch.zeros_like(hidden)
        if prefix.shape[1]:
            offsets = torch.tensor(self.offsets[: prefix.shape[1]], device=prefix.device)
            before = self.norm(self.codes(prefix.long() + offsets).sum(1))
        weights = self.mix(functional.gelu(self.read(torch.cat([hidden, before], dim=-1))))
        moved = torch.einsum("bi,rji->brj", hidden, self.matrices)
        return hidden + (weights.unsqueeze(-1) * moved).sum(1)

    def forward(self, level: int, hidden: Tensor, vectors: Tensor, prefix: Prefix) -> Tensor:
        """Logits [B, K] of level `level` (from 0); pooled vectors are not needed."""
        del vectors
        logits: Tensor = self.maps[level](self.adapted(hidden, prefix))
        return logits


HEADS["prefix_aware"] = PrefixAwareHeads
