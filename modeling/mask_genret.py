"""The constraint step: scores of a level's codes, -inf where no id that exists goes on.

There are three forms of the same mask, each the fastest somewhere:

* `table` adds one row of 0 and -inf a node, kept as bfloat16 for the levels that fit a budget;
* `padded` writes each row's children side by side, short rows repeating their last child;
* `ragged` writes one flat list of all children of all rows.

On a CPU the cheapest is chosen at every call from what these rows really have: ids of a skewed
corpus have levels whose widest node is a hundred times the mean. On other devices asking would
wait for the device, so that the form is fixed a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .index_genret import DocidIndex, ragged

TABLE_BYTES = 64 * 2**20
"""Additive tables of all levels together."""
FORMS = ("table", "padded", "ragged")

# Nanoseconds on a CPU, on the safe side: of a cell of the table's rows, of the padded block, of a
# child in the flat list, of the block that the last two write into; and of the operators.
_TABLE, _PADDED, _RAGGED, _FILL = 0.85, 6.0, 15.0, 0.1
_CALLS = {"table": 2e3, "padded": 4e3, "ragged": 12e3}


@dataclass
class Allowed:
    """A part of the index: what a filter leaves of it, for all queries or for each its own.

    Attributes:
        rows: [S, documents] bool, S sets of documents.
        edges: For each level which edges lead to them, bool [S, edges].
        part: [B], which set each query has; None where there is one for all.
    """

    rows: Tensor
    edges: list[Tensor]
    part: Tensor | None = None

    def of(self, row: Tensor, rows: int) -> Tensor:
        """The set of each row of a search; the queries of a batch have equally many, in order."""
        if self.part is None:
            return torch.zeros_like(row)
        return self.part[row // (rows // len(self.part))]

    def at(self, level: int, edge: Tensor, row: Tensor, rows: int) -> Tensor:
        """Whether edges may be used by rows of a search.

        Args:
            level: From 0.
            edge: Edges of that level, any shape.
            row: Row of each, of a shape that broadcasts with it.
            rows: How many rows there are.
        """
        if self.part is None:
            return self.edges[level][0][edge]
        return self.edges[level][self.of(row, rows), edge]


def mask_scores(
    index: DocidIndex,
    level: int,
    node: Tensor,
    scores: Tensor,
    *,
    allowed: Allowed | None = None,
    form: str | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Scores with -inf on every code that is no child of its row's node.

    Args:
        index: The ids.
        level: From 0.
        node: [R], nodes of that level, each of which exists.
        scores: [R, K].
        allowed: What a filter leaves of the index; needs `padded` or `ragged`.
        form: One of `FORMS`; the cheapest by default.
        overwrite: Whether `scores` may become the result, which spares a block of its size.

    Returns:
        [R, K]; new, or `scores` itself.
    """
    if form is None:
        form = choose_form(index, level, node, tables=allowed is None)
    if form == "table":
        rows = table(index, level).index_select(0, node) if level else table(index, 0)
        if overwrite:
            return scores.add_(rows)
        return (scores + rows).to(scores.dtype)
    start, count = index.edges(level, node)
    if form == "padded":
        return _padded(index, level, start, count, scores, allowed, overwrite)
    return _ragged(index, level, start, count, scores, allowed, overwrite)


def choose_form(index: DocidIndex, level: int, node: Tensor, *, tables: bool = True) -> str:
    """The cheapest form for these rows on a CPU, a fixed one of the level elsewhere."""
    tables = tables and table_fits(index, level)
    if node.device.type != "cpu":
        return "table" if tables else "padded"
    cells = len(node) * index.sizes[level]
    if tables and _PADDED * len(node) * _mean_children(index, level) > _TABLE * cells:
        return "table"  # whatever these rows have: the level is too full for the others
    if _few(index, level, len(node)):
        return "padded"
    count = index.edges(level, node)[1]
    width = int(count.max())
    fill = _FILL * cells
    price = {
        "padded": _PADDED * len(count) * width + fill + _CALLS["padded"],
        "ragged": _RAGGED * int(count.sum()) + fill + _CALLS["ragged"],
    }
    if tables:
        price["table"] = _TABLE * cells + _CALLS["table"]
    return min(price, key=price.__getitem__)


def _few(index: DocidIndex, level: int, rows: int) -> bool:
    """Whether rows as wide as the widest node cost less than to ask how wide these are."""
    return _PADDED * rows * index.widest(level) <= _CALLS["ragged"]


def table_fits(index: DocidIndex, level: int) -> bool:
    """Whether a level has a table: the smallest levels first, as long as the budget lasts."""

    def find() -> bool:
        nodes = [1, *index.num_nodes]
        sizes = [2 * nodes[i] * size for i, size in enumerate(index.sizes)]
        return sum(size for size in sizes if size <= sizes[level]) <= TABLE_BYTES

    fits: bool = index.derived(f"fits {TABLE_BYTES}", level, find)
    return fits


def _mean_children(index: DocidIndex, level: int) -> float:
    indptr, codes = index.level(level)
    return len(codes) / (len(indptr) - 1)


def table(index: DocidIndex, level: int) -> Tensor:
    """0 and -inf for each node's codes, bfloat16 [nodes, K]; made at first use."""

    def make() -> Tensor:
        codes = index.level(level)[1]
        nodes, size = len(index.level(level)[0]) - 1, index.sizes[level]
        out = torch.full((nodes * size,), -torch.inf, dtype=torch.bfloat16, device=codes.device)
        out[index.keys(level).long()] = 0
        return out.view(nodes, size)

    return index.derived("table", level, make)


def candidates(
    index: DocidIndex, level: int, node: Tensor, width: int, allowed: Allowed | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The children of each node side by side.

    Args:
        index: The ids.
        level: From 0.
        node: [R], nodes of that level, each of which exists.
        width: At least as many as the widest of them has.
        allowed: What a filter leaves of the index.

    Returns:
        Codes [R, width], child nodes [R, width], and whether each place holds a child that may be
        used, [R, width].
    """
    start, count = index.edges(level, node)
    edge, real = _side_by_side(start, count, width)
    if allowed is not None:
        rows = torch.arange(len(node), device=node.device)[:, None]
        real = real & allowed.at(level, edge, rows, len(node))
    return index.level(level)[1].take(edge).long(), edge, real


def _side_by_side(start: Tensor, count: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Edges [R, width], short rows repeating their last, and which places are no repetition."""
    inside = torch.arange(width, device=start.device)
    real = inside < count[:, None]
    return start[:, None] + torch.minimum(inside, count[:, None] - 1), real


def _padded(
    index: DocidIndex,
    level: int,
    start: Tensor,
    count: Tensor,
    scores: Tensor,
    allowed: Allowed | None,
    overwrite: bool,
) -> Tensor:
    fixed = start.device.type != "cpu" or _few(index, level, len(start))
    width = index.widest(level) if fixed else int(count.max())
    edge, _ = _side_by_side(start, count, width)
    code = index.level(level)[1].take(edge).long()
    found = scores.gather(1, code)  # a repetition writes the same value again
    if allowed is not None:
        rows = torch.arange(len(start), device=start.device)[:, None]
        found = found.masked_fill(~allowed.at(level, edge, rows, len(start)), -torch.inf)
    return _nothing(scores, overwrite).scatter_(1, code, found)


def _ragged(
    index: DocidIndex,
    level: int,
    start: Tensor,
    count: Tensor,
    scores: Tensor,
    allowed: Allowed | None,
    overwrite: bool,
) -> Tensor:
    row, edge = ragged(start, count)
    if allowed is not None:
        keep = allowed.at(level, edge, row, len(start))
        row, edge = row[keep], edge[keep]
    place = row * scores.shape[1] + index.level(level)[1][edge]
    found = scores.reshape(-1)[place]
    out = _nothing(scores, overwrite and scores.is_contiguous())
    out.view(-1)[place] = found
    return out


def _nothing(scores: Tensor, overwrite: bool) -> Tensor:
    """A block of -inf."""
    return scores.fill_(-torch.inf) if overwrite else torch.full_like(scores, -torch.inf)
