"""A search followed level by level, for the ids of some documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hf_genret.encoding import QuerySource, encode, pad_histories
from hf_genret.errors import DataError
from hf_genret.explain.explanation import Choice, Explanation, Step
from hf_genret.explain.nodes import children_of, count_below
from hf_genret.explain.words import PrefixWords
from hf_genret.hits import (
    Limits,
    Only,
    allowed_rows,
    check_histories,
    check_texts,
    leaves_history_out,
    rows_of,
    search_wide,
    unjudged,
)
from hf_genret.modeling import EncoderOutput, GenRetModel, SearchOutput

if TYPE_CHECKING:
    from hf_genret.data.schema import Queries
    from hf_genret.modeling.index_genret import DocidIndex
    from hf_genret.state import State


@torch.no_grad()
def explain(
    state: State,
    query: str | None,
    ids: Sequence[str],
    *,
    k: int = 10,
    history: Sequence[str] | None = None,
    num_beams: int | None = None,
    only: Only | None = None,
    siblings: int = 5,
) -> list[Explanation]:
    """Explain several documents for one query; see `GenRetriever.explain`.

    Raises:
        DataError: An empty query, an unknown id, or one that `only` leaves out.
    """
    queries = _asked(state, query, history)
    rows = [state.documents.row_of(identifier) for identifier in ids]
    if not rows:
        return []
    allowed = allowed_rows(state.documents, only)
    for row, identifier in zip(rows, ids, strict=True):
        if allowed is not None and not bool(allowed[row]):
            raise DataError(f"only= leaves out the document '{identifier}'.")
    source = QuerySource(state.model, queries, state.processing_class)
    ((_, encoded),) = encode(state.model, source, batch_size=1)
    limits = Limits(
        k, num_beams, allowed, exclude_history=query is None and leaves_history_out(state)
    )
    left_out = pad_histories(queries.histories or []) if limits.exclude_history else None
    found = search_wide(state.model, encoded, limits, left_out)
    trace = _Trace(state.model, state.prefix_words, encoded, found, limits, siblings)
    asked = query if query is not None else ", ".join(history or [])
    paths = trace.best_paths(rows)
    return [
        _explanation(state, trace, asked, row, path) for row, path in zip(rows, paths, strict=True)
    ]


def _asked(state: State, query: str | None, history: Sequence[str] | None) -> Queries:
    """The one query, checked against what the model reads."""
    model = state.model
    if len(model.index) == 0:
        raise DataError("nothing is indexed yet; use index(documents).")
    if query is not None:
        check_texts([query])
        if model.encoder.query is None:
            raise DataError("this model reads histories, not text; give query=None and history=.")
    elif not history:
        raise DataError("give a query, a history, or both.")
    elif model.encoder.history is None:
        raise DataError("this model reads text, not histories; give a query.")
    histories = None if history is None else rows_of(state.documents, [history])
    queries = unjudged(1, None if query is None else [query], histories)
    check_histories(model, queries)
    return queries


@dataclass
class _Path:
    """One id of a document under one query."""

    codes: list[int]
    leaf: int
    log_p: list[Tensor]  # a level: [K]

    @property
    def score(self) -> float:
        return sum(float(level[code]) for level, code in zip(self.log_p, self.codes, strict=True))


class _Trace:
    """One query's search: what was found, and which prefixes its beams held at each level."""

    def __init__(
        self,
        model: GenRetModel,
        words: PrefixWords,
        encoded: EncoderOutput,
        found: SearchOutput,
        limits: Limits,
        siblings: int,
    ) -> None:
        self.model, self.index, self.words = model, model.index, words
        self.encoded, self.found, self.siblings = encoded, found, siblings
        self.allowed: list[Tensor] | None = None  # a level: which edges lead to such documents
        if limits.allowed is not None:
            self.allowed = self.index.restrict(limits.allowed.to(self.index.rows.device))
        self.beams = found.beam_leaves.shape[1]
        self.kept = frontier(model, encoded, self.beams, self.allowed)
        self.leaves = found.beam_leaves[0].tolist()
        self.pool = [row for row in found.pool_rows[0].tolist() if row >= 0]

    def best_paths(self, rows: list[int]) -> list[_Path]:
        """The id of each document that the search came to, else its most probable one.

        Raises:
            DataError: When one has none.
        """
        wanted = torch.tensor(rows, device=self.index.rows.device)
        places = torch.isin(self.index.rows, wanted).nonzero()[:, 0]
        codes = self.index.paths[places].long()
        leaf = torch.searchsorted(self.index.buckets.long(), places, right=True) - 1
        several = EncoderOutput(
            self.encoded.last_hidden_state.expand(len(codes), -1, -1),
            self.encoded.pooler_output.expand(len(codes), -1),
            self.encoded.attention_mask.expand(len(codes), -1),
        )
        levels = [level.float().log_softmax(-1) for level in self.model.path_logits(several, codes)]
        best: dict[int, _Path] = {}
        for i, row in enumerate(self.index.rows[places].tolist()):
            path = _Path(codes[i].tolist(), int(leaf[i]), [level[i] for level in levels])
            if row not in best or self._rank(path) > self._rank(best[row]):
                best[row] = path
        if lost := [row for row in rows if row not in best]:
            raise DataError(f"the document in row {lost[0]} has no id in the index.")
        return [best[row] for row in rows]

    def _rank(self, path: _Path) -> tuple[bool, float]:
        """An id that was reached goes before one that was not, then by probability."""
        return path.leaf in self.leaves, path.score

    def merged(self, row: int) -> float | None:
        """What the scores of a document's ids come to; None where the best one counts alone."""
        if self.model.config.path_merge == "best" or row not in self.pool:
            return None
        return float(self.found.pool_paths[0, self.pool.index(row)])

    def steps(self, path: _Path) -> list[Step]:
        """The levels of an id."""
        node, steps = 0, []
        for level, log_p in enumerate(path.log_p):
            codes, nodes = _ways(self.index, level, node, self.allowed)
            probability = log_p.exp()[codes]
            order = probability.sort(descending=True, stable=True).indices.tolist()
            place = int((codes == path.codes[level]).nonzero())
            rank = order.index(place)
            choices = [
                Choice(
                    (*path.codes[:level], int(codes[i])),
                    float(probability[i]),
                    count_below(self.index, level + 1, int(nodes[i])),
                    self.words.of(level + 1, int(nodes[i])),
                )
                for i in [place, *[i for i in order if i != place][: self.siblings]]
            ]
            node = int(nodes[place])
            beam = self.kept[level].index(node) + 1 if node in self.kept[level] else None
            steps.append(Step(choices[0], tuple(choices[1:]), rank + 1, len(codes), beam))
        return steps

    def lost_at(self, path: _Path, steps: list[Step]) -> int | None:
        """Level at which the search dropped an id, None where it did not."""
        if path.leaf in self.leaves:
            return None
        dropped = [level for level, step in enumerate(steps, start=1) if step.beam is None]
        return dropped[0] if dropped else len(steps)


def frontier(
    model: GenRetModel, encoded: EncoderOutput, beams: int, allowed: list[Tensor] | None = None
) -> list[list[int]]:
    """Nodes that a beam search of one query keeps at each level, best first.

    The search itself returns only where it ends; here it is done again a level at a time. The trees
    of a forest have equal shares of the beams.

    Args:
        model: With an index.
        encoded: One query.
        beams: Prefixes kept at each level.
        allowed: What a filter leaves of the index: for each level a bool an edge.
    """
    index = model.index
    codes = torch.zeros(1, 0, dtype=torch.long, device=encoded.pooler_output.device)
    score = torch.zeros(1, device=codes.device)
    kept: list[list[int]] = [[0]]
    for level in range(index.num_levels):
        log_p = model.level_logits(encoded, codes).float().log_softmax(-1)
        ways = [_ways(index, level, node, allowed) for node in kept[-1]]
        code = torch.cat([found for found, _ in ways])
        parent = torch.repeat_interleave(
            torch.arange(len(ways), device=code.device),
            torch.tensor([len(found) for found, _ in ways], device=code.device),
        )
        total = score[parent] + log_p[parent, code]
        if level and model.config.forest:
            place = _best_of_each(total, codes[parent, 0], beams)
        else:
            place = total.topk(len(code) if model.config.forest else min(beams, len(code))).indices
        score = total[place]
        codes = torch.cat([codes[parent[place]], code[place, None]], dim=1)
        kept.append(torch.cat([nodes for _, nodes in ways])[place].tolist())
    return kept[1:]


def _best_of_each(total: Tensor, tree: Tensor, beams: int) -> Tensor:
    """Places of the best ways in each tree, [ways] each, with equal shares of the beams."""
    trees = tree.unique().tolist()
    share = -(-beams // len(trees))
    order = total.sort(descending=True, stable=True).indices
    kept = [order[tree[order] == one][:share] for one in trees]
    place = torch.cat(kept)
    return place[total[place].sort(descending=True, stable=True).indices]


def _ways(
    index: DocidIndex, level: int, node: int, allowed: list[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Codes that may be written after a node, and the nodes they lead to."""
    codes, nodes = children_of(index, level, node)
    if allowed is None:
        return codes, nodes
    keep = allowed[level][nodes]
    return codes[keep], nodes[keep]


def _explanation(state: State, trace: _Trace, query: str, row: int, path: _Path) -> Explanation:
    model, document = state.model, state.documents[row]
    steps = trace.steps(path)
    kind = model.ranker.similarity
    vector = trace.encoded.pooler_output
    stored = model.vector_rows(torch.tensor([row], device=vector.device)).to(vector.dtype)
    similarity = float((kind.queries(vector) * kind.items(stored)).sum())
    alone = model.config.ranking == "lexicographic"
    weight = None if alone else float(model.config.beam_weight)
    lost_at, merged = trace.lost_at(path, steps), trace.merged(row)
    counted = path.score if merged is None else merged
    return Explanation(
        query=query,
        id=document["id"],
        title=str(document["title"] or document["id"]),
        docid=tuple(path.codes),
        steps=tuple(steps),
        path_score=path.score,
        similarity=similarity,
        beam_weight=weight,
        score=counted if weight is None else similarity + weight * counted,
        beams=trace.beams,
        lost_at=lost_at,
        rank=trace.pool.index(row) + 1 if row in trace.pool else None,
        ranked=len(trace.pool),
        merged_score=merged,
    )
