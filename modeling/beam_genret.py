"""Our own beam search: the same ids and scores as generate(), without its detours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from .encoders_genret import EncoderOutput
from .index_genret import DocidIndex, may_ask
from .mask_genret import Allowed, Children, candidates, mask_scores

if TYPE_CHECKING:
    from .modeling_genret import GenRetModel


@dataclass
class Beams:
    """Leaves found for each query, best first.

    Attributes:
        codes: [B, M, L].
        scores: [B, M], log-probability of the path, -inf where fewer leaves exist.
        leaf: [B, M], leaf number, -1 where fewer leaves exist.
        complete: [B], whether nothing was dropped on the way: these are all leaves.
    """

    codes: Tensor
    scores: Tensor
    leaf: Tensor
    complete: Tensor


def beam_search(
    model: GenRetModel,
    encoded: EncoderOutput,
    num_beams: int,
    allowed: Allowed | None = None,
    constrained: bool = True,
    renormalize: bool = False,
) -> Beams:
    """The `num_beams` most probable ids of each query.

    The same ids and scores as generate() with beams, but one beam on step 0, the level's logits
    only, keys and values of the encoder shared by the beams of a query, and on sparse levels a
    choice among children instead of among all codes. In a forest every tree is searched by itself
    with an equal share of the beams, at least one (RecForest).

    Args:
        model: A model with an index.
        encoded: The encoder's output for B queries.
        num_beams: M, at least 1; in a forest of T trees ceil(M / T) each.
        allowed: What a filter leaves of the index.
        constrained: Whether only ids that exist are written; without, as ASI decodes, some beams
            end at no leaf (-1, with a finite score).
        renormalize: Whether probabilities are of the codes that exist after a prefix instead of
            all codes. The search then ends as soon as every beam has one way left.

    Raises:
        ValueError: When the index is empty or `num_beams` is not positive.
    """
    if len(model.index) == 0:
        raise ValueError("The id index is empty; index documents before searching.")
    if num_beams < 1:
        raise ValueError(f"num_beams must be positive, found {num_beams}.")
    with torch.inference_mode():  # a tenth less than no_grad() for as small operators as these
        search = _Search(model, encoded, num_beams, allowed, constrained, renormalize)
        for level in range(model.index.num_levels):
            if renormalize and search.only_one_way(level):
                search.run_out(level)
                break
            search.step(level)
            if level == 0 and model.config.forest:
                search.part_trees(num_beams)
        found = search.found()
    return Beams(*(part.clone() for part in found))  # what others may compute with


class _Search:
    """The beams of a search between two steps; `R` is B times the beams of the last step."""

    def __init__(
        self,
        model: GenRetModel,
        encoded: EncoderOutput,
        num_beams: int,
        allowed: Allowed | None,
        constrained: bool,
        renormalize: bool,
    ) -> None:
        self.model, self.index, self.width = model, model.index, num_beams
        self.trees = self.index.num_nodes[0] if model.config.forest else 1
        if model.config.forest:
            self.width = self.trees  # all of them go on
        self.allowed, self.constrained, self.renormalize = allowed, constrained, renormalize
        self.vectors = encoded.pooler_output  # of each beam
        self.batch, device = len(self.vectors), self.vectors.device
        self.decoder = model.decoder.steps(encoded.last_hidden_state, encoded.attention_mask)
        self.codes = torch.zeros(self.batch, 0, dtype=torch.long, device=device)  # [R, level]
        self.node = torch.zeros(self.batch, 1, dtype=torch.long, device=device)
        self.scores = torch.zeros(self.batch, 1, device=device)
        self.first = torch.arange(self.batch, device=device)[:, None]  # beam of each query

    def step(self, level: int) -> None:
        """Write the code of a level, from 0, and keep the best beams."""
        node = self.node.clamp(min=0).flatten()  # beams that lead nowhere have a score of -inf
        logits = self._logits(level)  # [R, K]
        children = Children(self.index, level, node)
        if self.constrained and children.sparse:
            code, child, scores = self._among_children(children, logits)
            best, parent, place = self._best(scores)
            code = code.view(self.batch, -1).gather(1, place)
            child = child.view(self.batch, -1).gather(1, place)
        else:
            best, parent, place = self._best(self._masked(children, logits))
            code = place % logits.shape[1]
            # Without the constraint a code may lead nowhere, and further codes then do, too.
            before = self.node.gather(1, parent).flatten()
            find = self.index.edge if self.constrained else self.index.child
            child = find(level, before, code.flatten()).view_as(code)
        self.node = child.masked_fill(best == -torch.inf, -1)
        self._keep(level, best, parent, code)

    def _logits(self, level: int) -> Tensor:
        """Logits of the next code, [R, K]."""
        last = self.codes[:, -1] if level else None
        hidden = self.decoder.step(self.model.read_code(level, last, self.vectors))
        logits = self.model.code_logits(level, hidden, self.vectors, self.codes)
        return logits.float()

    def _among_children(self, children: Children, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, child nodes and log-probabilities of the children, [R, width] each."""
        code, child, real = candidates(children, self.allowed)
        if self.renormalize:
            scores = logits.gather(1, code).masked_fill(~real, -torch.inf)
            return code, child, _log_softmax(scores)
        scores = logits.log_softmax(-1).gather(1, code)
        return code, child, scores.masked_fill_(~real, -torch.inf)

    def _masked(self, children: Children, logits: Tensor) -> Tensor:
        """Log-probabilities of all codes, [R, K]."""
        if not self.constrained:
            return logits.log_softmax(-1)
        if self.renormalize:
            return _log_softmax(mask_scores(children, logits, allowed=self.allowed))
        log_probs = logits.log_softmax(-1)
        return mask_scores(children, log_probs, allowed=self.allowed, out=log_probs)

    def _best(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best ways to go on of [R, W]: scores, beams and places among a query's, [B, M]."""
        width = scores.shape[1]
        total = scores.view(self.batch, -1, width).add_(self.scores.unsqueeze(-1)).flatten(1)
        best, place = total.topk(min(self.width, total.shape[1]), dim=1)
        return best, place // width, place

    def _keep(self, level: int, scores: Tensor, parent: Tensor, code: Tensor) -> None:
        """Go on with these beams [B, M]."""
        beams = (self.first + parent).flatten()
        if parent.shape[1] != self.scores.shape[1]:
            self.vectors = self.vectors.index_select(0, beams)
            self.first = torch.arange(self.batch, device=code.device)[:, None] * code.shape[1]
        self.codes = torch.cat([self.codes.index_select(0, beams), code.view(-1, 1)], dim=1)
        self.scores = scores
        if level + 1 < self.index.num_levels:
            self.decoder.follow(beams)

    def part_trees(self, num_beams: int) -> None:
        """Let every tree of a query, [B, trees], be a search of its own from here."""
        self.batch *= self.trees
        self.width = -(-num_beams // self.trees)
        self.node, self.scores = self.node.view(-1, 1), self.scores.view(-1, 1)
        self.first = torch.arange(self.batch, device=self.node.device)[:, None]

    def only_one_way(self, level: int) -> bool:
        """Whether every beam has a single way to its leaf from a level on."""
        if level == 0 or not self.constrained or not may_ask(self.node):
            return False
        alive = self.node[self.node >= 0]
        return bool(_chains(self.index, level)[alive].all())

    def run_out(self, level: int) -> None:
        """Write the codes that are left, each of them certain."""
        for lower in range(level, self.index.num_levels):
            edge = self.index.edges(lower, self.node.clamp(min=0).flatten())[0]
            code = self.index.level(lower)[1][edge].long().unsqueeze(-1)
            self.codes = torch.cat([self.codes, code], dim=1)
            self.node = edge.view(self.batch, -1).masked_fill(self.node < 0, -1)

    def found(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The leaves, as `Beams` has them."""
        queries = self.batch // self.trees
        codes = self.codes.view(queries, -1, self.codes.shape[1])
        scores, node = self.scores.view(queries, -1), self.node.view(queries, -1)
        if self.trees > 1:
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            node = node.gather(1, order)
            codes = codes.gather(1, order[..., None].expand_as(codes))
        return codes, scores, node, (self._leaves() <= self.width).expand(queries)

    def _leaves(self) -> Tensor:
        """How many leaves a search could have come to, [B] or one for all; of trees the most.

        Only beyond M is one dropped.
        """
        if not self.constrained:
            sizes = self.index.sizes[1:] if self.trees > 1 else self.index.sizes
            return self._count(math.prod(sizes))
        if self.allowed is None:
            if self.trees == 1:
                return self._count(self.index.num_nodes[-1])
            return _in_trees(self.index, None).max()
        edges = self.allowed.edges[-1]  # [S, leaves]
        ways = edges.sum(-1) if self.trees == 1 else _in_trees(self.index, edges).amax(-1)
        return ways[0] if self.allowed.part is None else ways[self.allowed.part]

    def _count(self, ways: int) -> Tensor:
        return torch.tensor(ways, dtype=torch.float64).to(self.scores.device)


def _log_softmax(scores: Tensor) -> Tensor:
    """log_softmax over what is not -inf; rows without anything stay -inf."""
    dead = (scores == -torch.inf).all(-1, keepdim=True)
    return functional.log_softmax(scores.masked_fill(dead, 0.0), dim=-1).masked_fill(
        dead, -torch.inf
    )


def _in_trees(index: DocidIndex, edges: Tensor | None) -> Tensor:
    """Leaves of each tree, [trees]; with `edges` [S, leaves] those that are left, [S, trees]."""

    def make() -> Tensor:  # the tree of each leaf
        first = index.paths[index.buckets[:-1].long(), 0].long()
        return torch.unique_consecutive(first, return_inverse=True)[1]

    tree = index.derived("trees", 0, make)
    if edges is None:
        return torch.zeros(index.num_nodes[0], device=tree.device).index_add(
            0, tree, torch.ones(len(tree), device=tree.device)
        )
    none = torch.zeros(len(edges), index.num_nodes[0], device=tree.device)
    return none.index_add(1, tree, edges.float())


def _chains(index: DocidIndex, level: int) -> Tensor:
    """Whether each node of a level has one leaf below it, bool [nodes]."""

    def make() -> Tensor:
        indptr = index.level(level)[0]
        single = indptr[1:] - indptr[:-1] == 1
        if level + 1 == index.num_levels:
            return single
        return single & _chains(index, level + 1)[indptr[:-1].long()]

    return index.derived("chains", level, make)
