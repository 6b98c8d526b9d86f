"""DGI's five losses (arXiv 2603.10409, Eq. 16 to 20), each a function of plain tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def next_token_loss(logits: Sequence[Tensor], codes: Tensor) -> Tensor:
    """L_NTP (Eq. 16): -sum_t log P(c_t | query, codes before), the mean over the batch, nats.

    Args:
        logits: One [B, K] a level.
        codes: [B, L].
    """
    losses = [functional.cross_entropy(level, codes[:, t]) for t, level in enumerate(logits)]
    return torch.stack(losses).sum()


def global_loss(vectors: Tensor, described: Tensor) -> Tensor:
    """L_Global (Eq. 17): 1 - cos(z, sum_j z~_j), the mean over the batch; both [B, D]."""
    return (1 - functional.cosine_similarity(vectors, described, dim=-1)).mean()


def local_loss(residuals: Sequence[Tensor], chosen: Sequence[Tensor], commitment: float) -> Tensor:
    """L_Local (Eq. 18): sum_j |sg(r) - e|^2 + beta |r - sg(e)|^2, the mean over the batch.

    Args:
        residuals: r_0 .. r_{L-1}, what each level has to describe, [B, D] each.
        chosen: Vectors of the hard codes, [B, D] each.
        commitment: beta.
    """
    total = residuals[0].new_zeros(())
    for residual, code in zip(residuals, chosen, strict=True):
        to_code = (residual.detach() - code).square().sum(-1)
        to_residual = (residual - code.detach()).square().sum(-1)
        total = total + (to_code + commitment * to_residual).mean()
    return total


def contrastive_loss(
    queries: Tensor, documents: Tensor, same: Tensor, temperature: float
) -> Tensor:
    """L_InfoNCE (Eq. 19): each query's own document among the batch's, by cosine; nats.

    Args:
        queries: [B, D].
        documents: [B, D], the one in the same row is the query's.
        same: [B, B] bool, documents relevant to a query; those off the diagonal are left out.
        temperature: tau_CL.
    """
    cosine = functional.normalize(queries, dim=-1) @ functional.normalize(documents, dim=-1).T
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    logits = (cosine / temperature).masked_fill(same & ~own, -torch.inf)
    return functional.cross_entropy(logits, torch.arange(len(queries), device=queries.device))


def diversity_loss(use: Sequence[Tensor], epsilon: float) -> Tensor:
    """L_Div (Eq. 20): sum_j sum_k p log(p + epsilon), minus the entropy of mean use.

    Args:
        use: Mean probability of each code of a level, [K] a level.
        epsilon: Keeps the logarithm finite.
    """
    return torch.stack([(mean * (mean + epsilon).log()).sum() for mean in use]).sum()
