"""What lies below a prefix: children, leaves, documents.

Nodes of a level are numbered in the order of their prefixes, so that everything below a node is
one range on every deeper level and one range of paths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hf_genret.errors import DataError
from hf_genret.modeling.index_genret import DocidIndex


def node_of(index: DocidIndex, prefix: Sequence[int]) -> int:
    """Number of the node that a prefix leads to; () is the root, node 0 of level 0.

    Raises:
        DataError: When no id begins like that.
    """
    codes = torch.tensor([list(prefix)], dtype=torch.int64, device=index.paths.device)
    fits = len(prefix) <= index.num_levels and len(index) > 0
    node = int(index.locate(codes.view(1, -1))) if fits else -1
    if node < 0:
        name = "-".join(str(code) for code in prefix)
        raise DataError(f"no docid begins with '{name}'.")
    return node


def children_of(index: DocidIndex, level: int, node: int) -> tuple[Tensor, Tensor]:
    """Codes that exist after a node of `level`, and the nodes they lead to: two of [children]."""
    start, count = index.edges(level, torch.tensor([node], device=index.paths.device))
    nodes = torch.arange(int(start), int(start + count), device=index.paths.device)
    return index.level(level)[1][nodes].long(), nodes


def leaves_below(index: DocidIndex, level: int, node: int) -> tuple[int, int]:
    """First leaf below a node of `level`, and the one after the last."""
    first, end = node, node + 1
    for deeper in range(level, index.num_levels):
        pointers = index.level(deeper)[0]
        first, end = int(pointers[first]), int(pointers[end])
    return first, end


def rows_below(index: DocidIndex, level: int, node: int) -> np.ndarray:
    """Rows of the documents below a node of `level`, rising, each once, int64 [documents]."""
    first, end = leaves_below(index, level, node)
    rows = index.rows[int(index.buckets[first]) : int(index.buckets[end])]
    return np.unique(rows.cpu().numpy().astype(np.int64))


def count_below(index: DocidIndex, level: int, node: int) -> int:
    """Documents below a node of `level`."""
    if len(index) > int(index.derived("documents", 0, lambda: len(index.rows.unique()))):
        return len(rows_below(index, level, node))  # a document may have several ids
    first, end = leaves_below(index, level, node)
    return int(index.buckets[end]) - int(index.buckets[first])
