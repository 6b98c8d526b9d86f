"""Loss terms of ASI and ASI++ (arXiv 2310.12455 and 2405.14280) as functions of tensors alone.

An id is L distributions over codes, one tensor [B, K_l] a level. `D` between two ids is the summed
squared distance of their distributions, from 0 to 2 L.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Levels = Sequence[Tensor]
_SMALL = 1e-6


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances of rows [A, D] and [B, D], [A, B]."""
    square = a.square().sum(-1, keepdim=True) + b.square().sum(-1)
    return (square - 2 * a @ b.T).clamp(min=0)


def id_distances(a: Levels, b: Levels) -> Tensor:
    """D(id_a, id_b) = sum_i |p(id_a,i) - p(id_b,i)|^2, [A, B]."""
    return distances(torch.cat(list(a), dim=-1), torch.cat(list(b), dim=-1))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is True; 0, with a gradient of 0, where it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def contrastive_margin(queries: Levels, items: Levels, same: Tensor, alpha: float) -> Tensor:
    """L_c (Eq. 1, its lost minus put back): max(0, D(q, d+) - D(q, d-) + alpha).

    Args:
        queries: Distributions of B queries' ids.
        items: The same of their positive documents.
        same: [B, B] bool, which documents are no negatives of which queries.
        alpha: The margin; D reaches 2 L.

    Returns:
        The mean over all pairs of a query and a negative document.
    """
    distance = id_distances(queries, items)  # [B, B]
    return masked_mean((distance.diagonal()[:, None] - distance + alpha).clamp(min=0), ~same)


def generation(logits: Levels, targets: Levels) -> Tensor:
    """L_CE (Eq. 2): -sum_i sum_v y_i,v log p_dec(v | codes before, query), mean over the batch.

    Args:
        logits: The decoder's, one [B, K] a level.
        targets: One-hot codes or distributions, likewise; they may carry gradients.
    """
    pairs = zip(logits, targets, strict=True)
    return torch.stack(
        [-(target * level.log_softmax(-1)).sum(-1).mean() for level, target in pairs]
    ).sum()


def _spread(log_p: Tensor, codes: Tensor) -> Tensor:
    """-1/(V-1) sum_{v != v'} log p_v for rows of `log_p` [A, K] against codes v' [B], [A, B]."""
    rest = log_p.sum(-1, keepdim=True) - log_p[:, codes]
    return -rest / max(log_p.shape[-1] - 1, 1)


def _bounded(log_p: Tensor, codes: Tensor) -> Tensor:
    """-log(1 - p_v'), the same with the mass of the other codes taken together."""
    return -(1 - log_p[:, codes].exp() + _SMALL).log()


def _attraction(log_p: Tensor, codes: Tensor) -> Tensor:
    """-log p_v', plain cross-entropy (Eq. 5 as printed)."""
    return -log_p[:, codes]


REPULSIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "reverse": _spread,
    "bounded": _bounded,
}


def repulsion(log_p: Levels, codes: Tensor, form: str = "reverse") -> Tensor:
    """Reverse cross-entropy of ids against codes of others, summed over levels, [A, B].

    Args:
        log_p: Log-probabilities of A ids.
        codes: [B, L], codes they are to keep away from.
        form: `reverse`, -1/(V-1) sum_{v != v'} log p_v (Pang et al. 2018, as read for ASI), whose
            best answer is even over the other codes; or `bounded`, -log(1 - p_v'), which leaves
            the choice among them free.
    """
    found = [REPULSIONS[form](level, codes[:, i]) for i, level in enumerate(log_p)]
    return torch.stack(found).sum(0)


def density(
    log_p: Levels, codes: Tensor, apart: Tensor, form: str = "reverse", weight: str = "close"
) -> Tensor:
    """L_di (Eq. 5 with the sign that its text asks for): ids that do not belong together part.

    mean_{d != d'} w(d, d') RCE(id_d, id_d'), w = 1 - D / 2L without gradient: the closer two ids,
    the more they are pushed.

    Args:
        log_p: Log-probabilities of B ids.
        codes: [B, L], their codes.
        apart: [B, B] bool, which pairs are to part; never a row with itself.
        form: As in `repulsion`.
        weight: `close` for 1 - D / 2L, `far` for D / 2L as printed.
    """
    with torch.no_grad():
        p = [level.exp() for level in log_p]
        share = id_distances(p, p) / (2 * len(log_p))  # [B, B], 0 to 1
        share = 1 - share if weight == "close" else share
    return masked_mean(share * repulsion(log_p, codes, form), apart)


def literal_density(log_p: Levels, codes: Tensor, apart: Tensor) -> Tensor:
    """L_di as Eq. 5 is printed: E[D / D_max] times the cross-entropy of ids; it pulls together.

    Args:
        log_p: Log-probabilities of B ids.
        codes: [B, L], their codes.
        apart: [B, B] bool, the pairs that are looked at.
    """
    p = [level.exp() for level in log_p]
    share = masked_mean(id_distances(p, p) / (2 * len(log_p)), apart)
    losses = [_attraction(level, codes[:, i]) for i, level in enumerate(log_p)]
    return share * masked_mean(torch.stack(losses).sum(0), apart)


def info_nce(queries: Tensor, items: Tensor, same: Tensor, temperature: float) -> Tensor:
    """In-batch InfoNCE of unit vectors [B, D]; other relevant documents are no negatives."""
    logits = queries @ items.T / temperature
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    target = torch.arange(len(logits), device=logits.device)
    return functional.cross_entropy(logits.masked_fill(same & ~own, -torch.inf), target)


def crowding(vectors: Tensor, apart: Tensor, floor: float = 1e-2) -> Tensor:
    """E[1 / (D + floor)] of vectors [B, D] that do not belong together (Eq. 6)."""
    return masked_mean(1 / (distances(vectors, vectors) + floor), apart)


def information(vectors: Tensor, sigma: float) -> Tensor:
    """L_ib (Eq. 9): E KL(N(e_d, sigma^2) | N(mu, sigma_B^2)), mu and sigma_B of the batch, nats.

    Its gradient is zero where every coordinate's spread over the batch is `sigma`; a wider batch is
    drawn together, a narrower one is spread.

    Args:
        vectors: [B, D].
        sigma: Spread of one document's density, which a deterministic encoder does not have.
    """
    mean = vectors.mean(0)
    variance = vectors.var(0, unbiased=False) + _SMALL
    square = (vectors - mean).square()
    terms = 0.5 * (variance.log() + (sigma**2 + square) / variance - 1) - math.log(sigma)
    return terms.sum(-1).mean()


def quantization(vectors: Tensor, reconstructed: Tensor) -> Tensor:
    """|e - e^q|^2, mean over the batch."""
    return (vectors - reconstructed).square().sum(-1).mean()


def ramp(epoch: float, start: float, end: float, length: float = 1.0) -> float:
    """Lambda: linear from `start` to `end` over the first `length` epochs, then `end`."""
    return start + (end - start) * min(epoch / length, 1.0) if length > 0 else end
