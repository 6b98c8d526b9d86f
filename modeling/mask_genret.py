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

from .index_genret import DocidIndex, may_ask, ragged

TABLE_BYTES = 64 * 2**20
"""Additive tables of all levels together."""
FORMS = ("table", "padded", "ragged")

# Nanoseconds on a CPU: of a cell of the table's rows, of the padded block, of a child in the flat
# list, of the block that the last two write into; and of the operators whatever they work on.
_TABLE, _PADDED, _RAGGED, _FILL = 0.3, 5.0, 20.0, 0.1
_CALLS = {"table": 4e3, "padded": 4e4, "ragged": 6e4}
_SPARSE = 5
"""Children are compared among themselves where no node has more than a fifth of the codes."""


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


class Children:
    """The children of the nodes that the rows of a search stand at; looked up once, when asked.

    Args:
        index: The ids.
        level: From 0.
        node: [R], nodes of that level, each of which exists.
    """

    def __init__(self, index: DocidIndex, level: int, node: Tensor) -> None:
        self.index, self.level, self.node = index, level, node
        self._edges: tuple[Tensor, Tensor] | None = None
        self._width: int | None = None

    def __len__(self) -> int:
        return len(self.node)

    @property
    def edges(self) -> tuple[Tensor, Tensor]:
        """First edge and number of edges of each row, two of [R]."""
        if self._edges is None:
            self._edges = self.index.edges(self.level, self.node)
        return self._edges

    @property
    def width(self) -> int:
        """At least the children of the widest row; just as many where it pays to ask for it."""
        if self._width is None:
            self._width = self._find_width()
        return self._width

    def _find_width(self) -> int:
        most = self.index.widest(self.level)
        if not may_ask(self.node) or self.level == 0:
            return most
        few = _PADDED * len(self) * most <= _CALLS["ragged"]
        return most if few else int(self.edges[1].max())

    @property
    def codes(self) -> Tensor:
        """Code of every edge of the level."""
        return self.index.level(self.level)[1]

    @property
    def sparse(self) -> bool:
        """Whether to choose among the children instead of among all codes."""
        size = self.index.sizes[self.level]
        if self.index.widest(self.level) * _SPARSE <= size:
            return True
        if not may_ask(self.node) or self.index.mean_children(self.level) * _SPARSE > size:
            return False
        return self.width * _SPARSE <= size


def mask_scores(
    children: Children,
    scores: Tensor,
    *,
    allowed: Allowed | None = None,
    form: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Scores with -inf on every code that is no child of its row's node.

    Args:
        children: Of R nodes.
        scores: [R, K].
        allowed: What a filter leaves of the index; needs `padded` or `ragged`.
        form: One of `FORMS`; the cheapest by default.
        out: [R, K], where the result goes: `scores` itself, or a block of -inf; a new one by
            default.

    Returns:
        `out`.
    """
    if form is None:
        form = choose_form(children, tables=allowed is None)
    if form == "table":
        rows = table(children.index, children.level)
        if children.level:
            rows = rows.index_select(0, children.node)
        if out is None:
            return (scores + rows).to(scores.dtype)
        return scores.add_(rows) if out is scores else torch.add(scores, rows, out=out)
    if form == "padded":
        return _padded(children, scores, allowed, out)
    return _ragged(children, scores, allowed, out)


def choose_form(children: Children, *, tables: bool = True) -> str:
    """The cheapest form for these rows on a CPU, a fixed one of the level elsewhere."""
    index, level, rows = children.index, children.level, len(children)
    tables = tables and table_fits(index, level)
    if not may_ask(children.node):
        return "table" if tables else "padded"
    cells = rows * index.sizes[level]
    if tables and _PADDED * rows * index.mean_children(level) > _TABLE * cells:
        return "table"  # whatever these rows have: the level is too full for the others
    width, fill = children.width, _FILL * cells
    price = {"padded": _PADDED * rows * width + fill + _CALLS["padded"]}
    if tables:
        price["table"] = _TABLE * cells + _CALLS["table"]
    if price["padded"] > _CALLS["ragged"]:  # else nobody has to know how many there are
        price["ragged"] = _RAGGED * int(children.edges[1].sum()) + fill + _CALLS["ragged"]
    return min(price, key=price.__getitem__)


def table_fits(index: DocidIndex, level: int) -> bool:
    """Whether a level has a table: the smallest levels first, as long as the budget lasts."""

    def find() -> bool:
        nodes = [1, *index.num_nodes]
        sizes = [2 * nodes[i] * size for i, size in enumerate(index.sizes)]
        return sum(size for size in sizes if size <= sizes[level]) <= TABLE_BYTES

    fits: bool = index.derived(f"fits {TABLE_BYTES}", level, find)
    return fits


def table(index: DocidIndex, level: int) -> Tensor:
    """0 and -inf for each node's codes, bfloat16 [nodes, K]; made at first use."""

    def make() -> Tensor:
        codes = index.level(level)[1]
        nodes, size = len(index.level(level)[0]) - 1, index.sizes[level]
        out = torch.full((nodes * size,), -torch.inf, dtype=torch.bfloat16, device=codes.device)
        out[index.keys(level).long()] = 0
        return out.view(nodes, size)

    return index.derived("table", level, make)


def candidates(children: Children, allowed: Allowed | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The children of each node side by side.

    Args:
        children: Of R nodes.
        allowed: What a filter leaves of the index.

    Returns:
        Codes [R, width], child nodes [R, width], and whether each place holds a child that may be
        used, [R, width].
    """
    if children.width == 1:
        edge = children.edges[0].unsqueeze(-1)
        real = torch.ones_like(edge, dtype=torch.bool)
    else:
        edge = _side_by_side(children)
        real = torch.arange(children.width, device=edge.device) < children.edges[1][:, None]
    if allowed is not None:
        rows = torch.arange(len(children), device=edge.device)[:, None]
        real = real & allowed.at(children.level, edge, rows, len(children))
    return children.codes.take(edge).long(), edge, real


def _side_by_side(children: Children) -> Tensor:
    """Edges [R, width], short rows repeating their last."""
    start, count = (part.unsqueeze(-1) for part in children.edges)
    inside = torch.arange(children.width, device=start.device)
    return start + torch.minimum(inside, count - 1)


def _padded(
    children: Children, scores: Tensor, allowed: Allowed | None, out: Tensor | None
) -> Tensor:
    edge = _side_by_side(children)
    code = children.codes.take(edge).long()
    found = scores.gather(1, code)  # a repetition writes the same value again
    if allowed is not None:
        rows = torch.arange(len(children), device=edge.device)[:, None]
        usable = allowed.at(children.level, edge, rows, len(children))
        found = found.masked_fill(~usable, -torch.inf)
    return _nothing(scores, out).scatter_(1, code, found)


def _ragged(
    children: Children, scores: Tensor, allowed: Allowed | None, out: Tensor | None
) -> Tensor:
    row, edge = ragged(*children.edges)
    if allowed is not None:
        keep = allowed.at(children.level, edge, row, len(children))
        row, edge = row[keep], edge[keep]
    code = children.codes[edge].long()
    place = row * scores.shape[1] + code
    found = scores.reshape(-1)[place]
    out = _nothing(scores, out)
    if out.is_contiguous():
        out.view(-1)[place] = found
    else:
        out[row, code] = found
    return out


def _nothing(scores: Tensor, out: Tensor | None) -> Tensor:
    """A block of -inf to write into."""
    if out is None:
        return torch.full_like(scores, -torch.inf)
    return out.fill_(-torch.inf) if out is scores else out
