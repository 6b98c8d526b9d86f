"""GenRet's objective at one step (NeurIPS 2023): codes from which a document can be found again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter, functional

from hf_genret.errors import ConfigError
from hf_genret.indexing.sinkhorn import centred, sinkhorn
from hf_genret.modeling import GenRetModel
from hf_genret.modeling.heads_genret import ClusterHeads, CodebookHeads
from hf_genret.training.objectives.base import Objective, codes_of, same_pairs

REASSIGNMENTS = ("sinkhorn", "none")
Heads = CodebookHeads | ClusterHeads


@dataclass
class GenRetOptions:
    """Settings of `GenRetObjective`; the defaults are the paper's.

    Attributes:
        reconstruction: Weight of L_Rec (Eq. 8).
        commitment: Weight of L_Com, the documents' id cross-entropy (Eq. 9).
        contrastive: Weight of the first term of L_Ret, q_T and d_T in a batch (Eq. 10).
        query: Weight of the second term of L_Ret, the queries' id cross-entropy (Eq. 10).
        earlier: Weight, within the two cross-entropies, of the codes before step T. The paper sums
            over all steps; the released code takes the mean over the earlier ones, 1 / (T - 1).
        warm_up: Whether the codebook of step T is not there yet: R reads the continuous d_T, and
            only the codes before it have a cross-entropy.
        reassignment: What a batch's codes are of: `sinkhorn` (codes used equally) or `none` (the
            most probable one).
        epsilon: Softness of Sinkhorn.
        iterations: Of Sinkhorn.
        centred: Whether Sinkhorn reads logits brought to [-1, 1] (the released code).
        by_prefix: Whether batches and the candidates of L_Rec are of one prefix (Eq. 6).
        frozen: Whether the codebooks before step T stay as they are.
    """

    reconstruction: float = 1.0
    commitment: float = 1.0
    contrastive: float = 1.0
    query: float = 1.0
    earlier: float = 1.0
    warm_up: bool = False
    reassignment: str = "sinkhorn"
    epsilon: float = 1.0
    iterations: int = 100
    centred: bool = False
    by_prefix: bool = True
    frozen: bool = True


class GenRetObjective(Objective):
    """L_Rec + L_Com + L_Ret at step T = `level` (Eq. 11); at level 0 all steps at once.

    d_T and E_T are the points and the codebook of the heads, and inner products are theirs: scaled,
    and of unit vectors where the heads say `cosine`. Codebook heads have one codebook a step, as in
    the paper; cluster heads one below each prefix, which small codebooks need.

    Of the product in Eq. 6 only step T is computed: the vectors of earlier steps stand under a
    stop-gradient on both sides (z_t is sg(z_t), the candidates are sg(d_t)), so their factors are
    constants.

    At level 0 nothing is frozen: each step reads the codes that the batch has just been given.
    """

    Options = GenRetOptions
    options: GenRetOptions

    def __init__(self, context: Any, options: dict[str, Any]) -> None:
        super().__init__(context, options)
        if self.options.reassignment not in REASSIGNMENTS:
            raise ConfigError(
                f"reassignment={self.options.reassignment!r} is unknown; "
                f"known: {', '.join(REASSIGNMENTS)}."
            )
        if self.options.warm_up and context.level < 1:
            raise ConfigError("A GenRet warm-up needs the level it prepares (level: 1 and so on).")

    @classmethod
    def codes_needed(cls, level: int, levels: int) -> int:
        """The prefix of the level that is trained."""
        del levels
        return max(level - 1, 0)

    def groups(self) -> np.ndarray | None:
        """Documents by prefix, so that most batches are of one prefix and L_Rec has candidates."""
        depth = self.context.level - 1
        if depth < 1 or not self.options.by_prefix:
            return None
        prefix = self.context.codes[:, :depth].cpu().numpy()
        group: np.ndarray = np.unique(prefix, axis=0, return_inverse=True)[1].reshape(-1)
        return group

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted terms `reconstruction`, `commitment`, `contrastive`, `query`."""
        heads = model.heads
        if not isinstance(heads, Heads):
            raise ConfigError("GenRet needs heads with vectors (head_type: cluster or codebook).")
        queries = model.encode_query(**batch["query"])
        items = model.encode_items(**batch["item"])
        level, rows = self.context.level, batch["rows"]
        prefix = codes_of(self.context, rows, max(level - 1, 0))
        steps = 1 if level else len(self.context.sizes)
        terms: dict[str, Tensor] = {}
        with still(heads.centres[: level - 1] if level and self.options.frozen else []):
            for _ in range(steps):
                q, d = model.path_points(queries, prefix), model.path_points(items, prefix)
                codes = self._codes(heads, d[-1], prefix, rows)
                for name, value in self._step(heads, q, d, prefix, codes, batch).items():
                    terms[name] = terms[name] + value if name in terms else value
                if codes is not None:
                    prefix = torch.cat([prefix, codes.unsqueeze(1)], dim=1)
        return terms

    def _step(
        self,
        heads: Heads,
        queries: list[Tensor],
        items: list[Tensor],
        prefix: Tensor,
        codes: Tensor | None,
        batch: dict[str, Any],
    ) -> dict[str, Tensor]:
        """The terms of step T; `queries` and `items` are q_1..q_T and d_1..d_T, [B, D] each."""
        options, rows, step = self.options, batch["rows"], prefix.shape[1]  # from 0
        q, d = compared(heads, queries[step]), compared(heads, items[step])
        z = d
        if codes is not None:
            vectors = heads.code_vectors(prefix.shape[1], prefix, codes)
            z = quantized(d, compared(heads, vectors))
        scale = heads.level_scale(step)
        others = ~torch.eye(len(d), dtype=torch.bool, device=d.device)
        false = same_pairs(self.context, batch["queries"], rows) & others
        terms = {
            "reconstruction": options.reconstruction
            * found_again(scale, z, d.detach(), self._elsewhere(prefix, rows) & others),
            "contrastive": options.contrastive * found_again(scale, q, d, false),
        }
        for name, points in (("commitment", items), ("query", queries)):
            weight = getattr(options, name)
            terms[name] = weight * self._cross_entropy(heads, points, prefix, codes)
        return terms

    def _cross_entropy(
        self, heads: Heads, points: list[Tensor], prefix: Tensor, codes: Tensor | None
    ) -> Tensor:
        """-sum_{t <= T} log P(z_t | z_<t), the steps before T weighted; nats, a mean over B."""
        total = points[0].new_zeros(())
        if codes is not None:
            step = prefix.shape[1]
            logits = heads.logits(step, points[step], prefix)
            total = total + functional.cross_entropy(logits, codes)
        if self.context.level:  # at level 0 each of them has been a step of its own
            for i in range(prefix.shape[1]):
                logits = heads.logits(i, points[i], prefix[:, :i])
                loss = functional.cross_entropy(logits, prefix[:, i])
                total = total + self.options.earlier * loss
        return total

    def _elsewhere(self, prefix: Tensor, rows: Tensor) -> Tensor:
        """Which documents are no candidates for which in L_Rec, [B, B]: itself, other prefixes."""
        elsewhere = rows[:, None] == rows[None, :]
        if self.options.by_prefix:
            elsewhere = elsewhere | (prefix[:, None] != prefix[None, :]).any(-1)
        return elsewhere

    @torch.no_grad()
    def _codes(self, heads: Heads, points: Tensor, prefix: Tensor, rows: Tensor) -> Tensor | None:
        """z_T of the batch's documents [B], the same wherever a document stands in it."""
        if self.options.warm_up:
            return None
        unique, place = rows.unique(return_inverse=True)
        step = prefix.shape[1] + 1
        logits = heads.logits(step - 1, points, prefix)  # [B, K]
        total = logits.new_zeros(len(unique), logits.shape[1]).index_add(0, place, logits)
        logits = total / torch.bincount(place).unsqueeze(1)  # [documents, K]; dropout differs
        probable = logits.argmax(-1)
        self.count(step, probable)
        if self.options.reassignment == "none":
            return probable[place]
        scores = centred(logits) if self.options.centred else logits
        spread = sinkhorn(
            scores, epsilon=self.options.epsilon, iterations=self.options.iterations
        ).argmax(-1)
        self.note(f"moved_{step}", (spread != probable).float().mean())
        return spread[place]


def compared(heads: Heads, vectors: Tensor) -> Tensor:
    """What inner products are taken of, [B, D]: directions where the heads say `cosine`.

    They come before the straight-through step: a gradient that passed a code's vector alone would
    not see how long d_T is, and d_T would grow without end.
    """
    return functional.normalize(vectors, dim=-1) if heads.similarity == "cosine" else vectors


def quantized(points: Tensor, vectors: Tensor) -> Tensor:
    """z_T = e + d_T - sg(d_T): the code's vector forward, gradients to it and to d_T (Eq. 8)."""
    return vectors + points - points.detach()


def found_again(scale: Tensor, points: Tensor, documents: Tensor, wrong: Tensor) -> Tensor:
    """-log softmax of each point's own document among the batch's (Eq. 6, and Eq. 10 for queries).

    Args:
        scale: Inverse temperature; the paper has none, its vectors being longer than one.
        points: [B, D], what is given.
        documents: [B, D], d_T; the one in the same row is to be found.
        wrong: [B, B] bool, documents that are no candidates; False on the diagonal.

    Returns:
        Mean over B, nats; a document without candidates adds 0.
    """
    logits = scale * points @ documents.T
    target = torch.arange(len(points), device=points.device)
    return functional.cross_entropy(logits.masked_fill(wrong, -torch.inf), target)


@contextmanager
def still(parameters: Iterable[Parameter]) -> Iterator[None]:
    """Parameters that a graph built meanwhile takes for constants."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
