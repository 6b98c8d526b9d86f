"""Ranking the union: buckets of the best leaves are expanded and ordered by the ranker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils import ModelOutput

from .beam_genret import Beams
from .configuration_genret import GenRetConfig
from .mask_genret import Allowed

if TYPE_CHECKING:
    from .modeling_genret import GenRetModel


class Dot(nn.Module):
    """<q, d>."""

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        del config

    def queries(self, vectors: Tensor) -> Tensor:
        """Query vectors [.., D] as they are multiplied with documents."""
        return vectors

    def items(self, vectors: Tensor) -> Tensor:
        """Document vectors [.., D] as they are multiplied with queries."""
        return vectors


class Cosine(Dot):
    """<q, d> / (|q| |d|); the ranker's scale makes it the scaled cosine."""

    def queries(self, vectors: Tensor) -> Tensor:
        """Unit vectors."""
        return functional.normalize(vectors, dim=-1)

    def items(self, vectors: Tensor) -> Tensor:
        """Unit vectors."""
        return functional.normalize(vectors, dim=-1)


class Bilinear(Dot):
    """q^T (I + M) d with a full matrix M, started at zero."""

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__(config)
        self.change = nn.Parameter(torch.zeros(config.vector_dim, config.vector_dim))

    def queries(self, vectors: Tensor) -> Tensor:
        """q^T (I + M)."""
        return vectors + vectors @ self.change


class LowRank(Dot):
    """q^T A B^T d with A and B of `ranker_rank` columns, started equal and random."""

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__(config)
        rank = min(config.ranker_rank, config.vector_dim)
        self.left = nn.Parameter(torch.zeros(config.vector_dim, rank))
        self.right = nn.Parameter(torch.zeros(config.vector_dim, rank))

    def queries(self, vectors: Tensor) -> Tensor:
        """q^T A B^T."""
        return vectors @ self.left @ self.right.T


SIMILARITIES: dict[str, type[Dot]] = {
    "dot": Dot,
    "cosine": Cosine,
    "bilinear": Bilinear,
    "low_rank": LowRank,
}


class Ranker(nn.Module):
    """Similarity of query and item vectors; the scale is the softmax's inverse temperature.

    Every similarity is an inner product once its queries and its items are prepared, so search
    needs nothing but stored vectors.
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        if config.ranker_similarity not in SIMILARITIES:
            raise ValueError(
                f"Unknown ranker_similarity {config.ranker_similarity!r}; "
                f"known: {', '.join(SIMILARITIES)}."
            )
        self.scale = nn.Parameter(torch.full((1,), float(config.ranker_scale)))
        self.similarity = SIMILARITIES[config.ranker_similarity](config)

    def forward(self, queries: Tensor, items: Tensor) -> Tensor:
        """Logits [B, N] of queries [B, D] against items [N, D] shared or [B, N, D] of their own."""
        queries, items = self.similarity.queries(queries), self.similarity.items(items)
        if items.ndim == 3:
            return self.scale * torch.einsum("bd,bnd->bn", queries, items)
        return self.scale * (queries @ items.T)


@dataclass
class SearchOutput(ModelOutput):
    """Ranked documents of B queries.

    Attributes:
        rows: [B, n], document rows, best first, -1 where there are fewer; n is k, or the
            largest pool of the batch where that is less.
        scores: [B, n], final scores, -inf where there are fewer.
        codes: [B, n, L], the id through which each document was found, -1 where there are fewer.
        path_scores: [B, n], log-probability of that id, or what those of several ids come to
            (`path_merge`), -inf where there are fewer.
        pool: [B], documents ranked for each query.
        pool_rows: [B, P], those documents, best first, -1 is padding.
        pool_paths: [B, P], their path scores, -inf is padding.
        beam_codes: [B, M, L], the leaves visited, best first.
        beam_scores: [B, M], their log-probabilities, -inf where there are fewer.
        beam_leaves: [B, M], their numbers, -1 where there are fewer.
        complete: [B], whether these are all leaves that could be found: no beam was dropped.
    """

    # ModelOutput wants defaults; search() gives all of them.
    rows: Tensor = None  # type: ignore[assignment]
    scores: Tensor = None  # type: ignore[assignment]
    codes: Tensor = None  # type: ignore[assignment]
    path_scores: Tensor = None  # type: ignore[assignment]
    pool: Tensor = None  # type: ignore[assignment]
    pool_rows: Tensor = None  # type: ignore[assignment]
    pool_paths: Tensor = None  # type: ignore[assignment]
    beam_codes: Tensor = None  # type: ignore[assignment]
    beam_scores: Tensor = None  # type: ignore[assignment]
    beam_leaves: Tensor = None  # type: ignore[assignment]
    complete: Tensor = None  # type: ignore[assignment]


def rank_union(
    model: GenRetModel,
    queries: Tensor,
    beams: Beams,
    k: int,
    exclude: Tensor | None = None,
    allowed: Allowed | None = None,
) -> SearchOutput:
    """Order the documents of the beams' leaves by ranker and beam.

    score = similarity(query, document) + beam_weight * log P(id | query). With
    `ranking="lexicographic"` (DGI, arXiv 2603.10409) it is log P(id | query), and the similarity
    decides among documents of equal score. Of a document with several ids log P(id | query) is
    that of the best one, or what `path_merge` makes of all that were found (`MERGES`).

    Args:
        model: Gives index, vectors and `beam_weight`.
        queries: [B, D], pooled query vectors.
        beams: Leaves of each query.
        k: Documents to return.
        exclude: [B, E], rows left out, -1 is padding.
        allowed: Documents that may be returned.
    """
    batch, width = beams.leaf.shape
    beam, row = model.index.bucket(beams.leaf.flatten())  # flat lists of E candidates
    query = beam // width
    keep = torch.ones_like(row, dtype=torch.bool)
    if allowed is not None:
        keep &= allowed.rows[allowed.of(query, batch), row]
    if exclude is not None and exclude.shape[1]:
        keep &= ~(exclude.to(row.device)[query] == row[:, None]).any(1)
    beam, query, row = beam[keep], query[keep], row[keep]
    merged = MERGES[model.config.path_merge](_Found(model, beams, beam, query, row))
    keep = _first_of_each(query, row, model.config.num_documents)
    beam, query, row, path_score = beam[keep], query[keep], row[keep], merged[keep]
    pool = torch.bincount(query, minlength=batch)
    pads = _Pads(query, pool)
    similarity = _similarities(model, queries, query, row, pads)
    by_beam = model.config.ranking == "lexicographic"
    total = path_score if by_beam else similarity + model.config.beam_weight * path_score
    score = pads.spread(total.float(), -torch.inf)
    order = _best_first(score, pads.spread(similarity, -torch.inf) if by_beam else None)
    size = min(k, score.shape[1])
    pool_rows = pads.spread(row, -1).gather(1, order)
    best_beam = pads.spread(beam, -1).gather(1, order[:, :size])
    codes = beams.codes.flatten(0, 1)[best_beam.clamp(min=0)].masked_fill(
        best_beam[..., None] < 0, -1
    )
    pool_paths = pads.spread(path_score, -torch.inf).gather(1, order)
    return SearchOutput(
        rows=pool_rows[:, :size].contiguous(),
        scores=score.gather(1, order[:, :size]),
        codes=codes,
        path_scores=pool_paths[:, :size].contiguous(),
        pool=pool,
        pool_rows=pool_rows,
        pool_paths=pool_paths,
        beam_codes=beams.codes,
        beam_scores=beams.scores,
        beam_leaves=beams.leaf,
        complete=beams.complete,
    )


@dataclass
class _Found:
    """Documents in the leaves of the beams, a document once for every leaf, E in all.

    Attributes:
        model: Says what trees there are.
        beams: Leaves of each query, best first.
        beam: [E], the leaf's beam, counted over all queries.
        query: [E].
        row: [E], the document.
    """

    model: GenRetModel
    beams: Beams
    beam: Tensor
    query: Tensor
    row: Tensor

    @property
    def scores(self) -> Tensor:
        """log P(id | query) of each, [E]."""
        return self.beams.scores.flatten()[self.beam]

    @property
    def pair(self) -> Tensor:
        """Number of each (query, document) among those there are, [E]."""
        key = self.query * max(self.model.config.num_documents, 1) + self.row
        return torch.unique(key, return_inverse=True)[1]


def _best(found: _Found) -> Tensor:
    """Every id's own score: the best one stands first."""
    return found.scores


def _log_sum_exp(found: _Found) -> Tensor:
    """log sum_j P(id_j | query) over the ids found (Deep Retrieval, arXiv 2007.07203), [E]."""
    pair, scores = found.pair, found.scores
    none = scores.new_full((len(scores),), -torch.inf)
    top = none.scatter_reduce(0, pair, scores, "amax")
    own = _first_of_each(found.beam, found.row, found.model.config.num_documents)
    shares = (scores - top[pair]).exp() * own  # an id that stands twice in the index is one
    total = torch.zeros_like(scores).index_add(0, pair, shares)
    return top[pair] + total[pair].log()


def _sum_over_trees(found: _Found) -> Tensor:
    """Summed log P(id | query) over the trees of a forest (RecForest), [E].

    A tree that did not come to the document counts with the worst leaf that it visited: the
    document's own can be no better in an exact search of that tree. Ids that are in no forest
    stand in one tree.
    """
    beams, config = found.beams, found.model.config
    trees = config.codebook_sizes[0] if config.forest else 1
    batch = len(beams.scores)
    tree = beams.codes[..., 0] if config.forest else torch.zeros_like(beams.leaf)
    tree = (torch.arange(batch, device=tree.device)[:, None] * trees + tree).flatten()  # [B * M]
    visited = beams.scores.flatten().masked_fill(beams.leaf.flatten() < 0, torch.inf)
    worst = visited.new_full((batch * trees,), torch.inf).scatter_reduce(0, tree, visited, "amin")
    worst = worst.masked_fill(worst == torch.inf, 0.0)  # a tree that a filter left nothing of
    of_tree = tree[found.beam]
    first = _first_of_each(of_tree, found.row, config.num_documents)
    above = (found.scores - worst[of_tree]).masked_fill(~first, 0.0)
    pair = found.pair
    total = torch.zeros_like(above).index_add(0, pair, above)[pair]
    return worst.view(batch, trees).sum(1)[found.query] + total


MERGES: dict[str, Callable[[_Found], Tensor]] = {
    "best": _best,
    "sum": _sum_over_trees,
    "logsumexp": _log_sum_exp,
}
"""Path scores [E] of documents in the beams' leaves, equal for all ids of one under a query but
under `best`, where the first of a document counts."""


def _best_first(score: Tensor, then: Tensor | None) -> Tensor:
    """Places [B, W] by falling score, equal ones by falling `then`, the rest as they stood."""
    if then is None:
        return score.sort(dim=1, descending=True, stable=True).indices
    order = then.sort(dim=1, descending=True, stable=True).indices
    again = score.gather(1, order).sort(dim=1, descending=True, stable=True).indices
    return order.gather(1, again)


class _Pads:
    """Candidates of several queries as one flat list, and side by side a row a query.

    Args:
        query: [E], the query of each, in order.
        pool: [B], how many each query has.
    """

    def __init__(self, query: Tensor, pool: Tensor) -> None:
        self.shape = len(pool), max(int(pool.max()) if len(pool) else 0, 1)
        first = pool.cumsum(0) - pool
        inside = torch.arange(len(query), device=query.device) - first[query]
        self.place = query * self.shape[1] + inside

    def spread(self, values: Tensor, fill: float) -> Tensor:
        """Flat values [E] -> [B, widest]."""
        out = values.new_full((self.shape[0] * self.shape[1],), fill)
        out[self.place] = values
        return out.view(self.shape)


# Nanoseconds on a CPU, for each element of a vector: to fetch a candidate's and multiply it, to
# read a document's, and to multiply a document with a query.
_FETCH, _READ, _MULTIPLY = 2.0, 0.5, 0.02


def _similarities(
    model: GenRetModel, queries: Tensor, query: Tensor, row: Tensor, pads: _Pads
) -> Tensor:
    """Similarity of each candidate, a query number and a document row [E], to its query: [E].

    Where candidates are much of the corpus, one product with all of it is the faster way.
    """
    kind = model.ranker.similarity
    queries = kind.queries(queries)
    batch, width = pads.shape
    if model.config.num_documents * (_READ + batch * _MULTIPLY) < _FETCH * len(row):
        everything = kind.items(model.vectors.to(queries.device, queries.dtype))  # [N, D]
        return (queries @ everything.T)[query, row].float()
    if batch * width <= 2 * len(row):  # pools of about one size: a product a query
        rows = pads.spread(row, 0)
        found = kind.items(model.vector_rows(rows.flatten()).to(queries.dtype))
        found = found.view(batch, width, -1)
        similarity = torch.bmm(found, queries.unsqueeze(-1)).flatten()  # [B * widest]
        return similarity[pads.place].float()
    found = kind.items(model.vector_rows(row).to(queries.dtype))  # [E, D]
    return (queries[query] * found).sum(-1).float()


def _first_of_each(query: Tensor, row: Tensor, documents: int) -> Tensor:
    """True at the first occurrence of each (query, row); beams stand best first."""
    key = query * max(documents, 1) + row
    order = key.sort(stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = order.values[1:] != order.values[:-1]
    return torch.zeros_like(first).index_put((order.indices,), first)
