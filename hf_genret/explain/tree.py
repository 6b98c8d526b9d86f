"""The tree of ids: sizes and typical words of prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hf_genret.errors import DataError
from hf_genret.explain.explanation import join
from hf_genret.explain.nodes import children_of, count_below, node_of
from hf_genret.explain.words import PrefixWords
from hf_genret.modeling.index_genret import DocidIndex

if TYPE_CHECKING:
    from hf_genret.state import State


@dataclass(frozen=True)
class TreeNode:
    """A prefix and what lies below it.

    Attributes:
        prefix: Its codes, () for the root.
        documents: Documents below it.
        words: Their typical words, see `hf_genret.explain.words.PrefixWords`; () for the root.
        ways: Codes that exist after it.
        children: The largest of them, as many as were asked for, empty at the depth asked for.
    """

    prefix: tuple[int, ...]
    documents: int
    words: tuple[str, ...]
    ways: int
    children: tuple[TreeNode, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Several lines for people."""
        return "\n".join(self._lines())

    def _lines(self, indent: int = 0) -> list[str]:
        name = join(self.prefix) or "all"
        documents = f"{self.documents:,} document{'s' if self.documents != 1 else ''}"
        lines = [f"{' ' * indent}{name:{14 - indent}s} {documents:>16}  {', '.join(self.words)}"]
        for child in self.children:
            lines.extend(child._lines(indent + 2))
        if self.children and len(self.children) < self.ways:
            lines.append(f"{' ' * (indent + 2)}and {self.ways - len(self.children):,} smaller ones")
        return lines


def docid_tree(
    state: State,
    prefix: Sequence[int] = (),
    *,
    depth: int = 2,
    children: int = 8,
    words: int = 6,
) -> TreeNode:
    """The tree below a prefix.

    Args:
        state: With an index.
        prefix: Where it starts; () for all ids.
        depth: Levels below it.
        children: Largest children shown of each node; equal ones in the order of their codes.
        words: Words shown of each.

    Raises:
        DataError: When nothing is indexed, or no id begins with the prefix.
    """
    if len(state.model.index) == 0:
        raise DataError("nothing is indexed yet; use index(documents).")
    node = node_of(state.model.index, prefix)
    known = state.prefix_words
    return _below(state.model.index, known, tuple(prefix), node, depth, children, words)


def _below(
    index: DocidIndex,
    known: PrefixWords,
    prefix: tuple[int, ...],
    node: int,
    depth: int,
    children: int,
    words: int,
) -> TreeNode:
    level = len(prefix)
    codes, nodes = _children(index, level, node)
    below = []
    if depth > 0:
        sizes = [count_below(index, level + 1, child) for child in nodes]
        largest = sorted(range(len(codes)), key=lambda i: (-sizes[i], codes[i]))[:children]
        below = [
            _below(index, known, (*prefix, codes[i]), nodes[i], depth - 1, children, words)
            for i in largest
        ]
    return TreeNode(
        prefix,
        count_below(index, level, node),
        known.of(level, node, words) if level else (),  # the corpus does not differ from itself
        len(codes),
        tuple(below),
    )


def _children(index: DocidIndex, level: int, node: int) -> tuple[list[int], list[int]]:
    """Codes after a node and the nodes they lead to, none after a leaf."""
    if level == index.num_levels:
        return [], []
    codes, nodes = children_of(index, level, node)
    return codes.tolist(), nodes.tolist()
