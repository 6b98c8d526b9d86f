"""What the page asks of a retriever, within its limits; nothing here knows of HTML or gradio."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_genret.demo.filters import Filter
from hf_genret.demo.limits import (
    LONGEST_QUERY,
    MOST_ARCS,
    MOST_HITS,
    MOST_TILES,
    clean_k,
    clean_query,
)
from hf_genret.demo.others import Others, Ranked
from hf_genret.errors import DataError, GenRetError
from hf_genret.explain.nodes import children_of, count_below, node_of, rows_below
from hf_genret.hits import rows_of

if TYPE_CHECKING:
    from hf_genret.explain import Explanation, TreeNode
    from hf_genret.modeling.index_genret import DocidIndex
    from hf_genret.retriever import GenRetriever, Hit

EMPTY = "Type a query first."


@dataclass(frozen=True)
class Answer:
    """What a search gave.

    Attributes:
        query: As it was read.
        hits: Best first.
        why: An explanation of each.
        said: A sentence about the result, or about what is wrong.
        wrong: Whether that is an error.
        milliseconds: Wall time of the search alone.
    """

    query: str
    hits: list[Hit]
    why: list[Explanation]
    said: str
    wrong: bool = False
    milliseconds: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """The same query in three systems, each with its rows and time."""

    query: str
    generative: Ranked
    bm25: Ranked
    dense: Ranked


@dataclass(frozen=True)
class Branch:
    """A part of the tree of ids.

    Attributes:
        node: The prefix with its largest children.
        outer: Code and documents of each grandchild, by child; empty where they are too many.
        documents: Of a bucket, the first of them.
    """

    node: TreeNode
    outer: dict[tuple[int, ...], list[tuple[int, int]]]
    documents: list[dict[str, Any]]


class Answers:
    """Searches, explanations, comparisons and the tree of one retriever.

    Args:
        retriever: What is searched; a model that reads histories takes ids separated by commas.
    """

    def __init__(self, retriever: GenRetriever) -> None:
        self.retriever = retriever
        self.filter = Filter(retriever.documents)
        self.others = Others(retriever)
        self.reads_text = retriever.model.encoder.query is not None

    def search(self, query: Any, k: Any = 10, field: Any = "", value: Any = "") -> Answer:
        """Hits with the reasons for them; whatever is typed gets an answer."""
        text, cut = clean_query(query)
        if not text:
            return Answer("", [], [], EMPTY)
        try:
            hits, milliseconds = self._hits(text, clean_k(k), self.filter.only(field, value))
            why = self.explain(text, [hit.id for hit in hits], clean_k(k), field, value)
        except (GenRetError, ValueError) as error:
            return Answer(text, [], [], f"{error}", wrong=True)
        said = f"{len(hits)} document{'s' * (len(hits) != 1)}" if hits else "Nothing found"
        said += f" in {milliseconds:.0f} ms" if hits else ""
        if field and value:
            said += f", {field} limited to “{str(value)[:60]}”"
        said += "."
        if cut:
            said += f" Only the first {LONGEST_QUERY:,} characters of the query were read."
        return Answer(text, hits, why, said, milliseconds=milliseconds)

    def explain(
        self, query: str, ids: list[str], k: Any = 10, field: Any = "", value: Any = ""
    ) -> list[Explanation]:
        """Why documents are found, or where they are lost.

        Raises:
            GenRetError: As `GenRetriever.explain`.
        """
        text, _ = clean_query(query)
        only = self.filter.only(field, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.reads_text:
                return self.retriever.explain(text, ids, k=clean_k(k), only=only)
            return self.retriever.explain(
                None, ids, k=clean_k(k), only=only, history=_history(text)
            )

    def compare(
        self, query: Any, k: Any = 10, field: Any = "", value: Any = ""
    ) -> Comparison | None:
        """The query in three systems; None where it cannot be asked."""
        text, _ = clean_query(query)
        try:
            only = self.filter.only(field, value)
            if not text:
                return None
            hits, milliseconds = self._hits(text, clean_k(k), only)
            rows = [self.retriever.documents.row_of(hit.id) for hit in hits]
            mine = Ranked(rows, [hit.score for hit in hits], milliseconds)
            allowed = self.filter.rows(only)
            if self.reads_text:
                bm25 = self.others.bm25(text, clean_k(k), allowed)
                dense = self.others.dense(text, clean_k(k), allowed=allowed)
            else:
                (history,) = rows_of(self.retriever.documents, [_history(text)])
                bm25 = Ranked([], [], 0.0, "BM25 reads text; this model reads histories.")
                dense = self.others.dense(None, clean_k(k), history, allowed)
        except (GenRetError, ValueError):
            return None  # the search beside it says why
        return Comparison(text, mine, bm25, dense)

    def browse(self, prefix: Any = "") -> Branch:
        """What lies below a prefix, `3-17`.

        Raises:
            DataError: When no id begins like that.
        """
        name = str(prefix or "")[:200]
        try:
            codes = tuple(int(code) for code in name.split("-") if name)
        except ValueError as error:
            raise DataError(f"no docid begins with '{name}'.") from error
        node = self.retriever.tree(codes, depth=1, children=MOST_TILES)
        index = self.retriever.model.index
        outer: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        if len(codes) + 1 < index.num_levels:
            outer = {child.prefix: _sizes(index, child.prefix) for child in node.children}
            if sum(len(ways) for ways in outer.values()) > MOST_ARCS:
                outer = {}
        rows = [] if node.ways else rows_below(index, len(codes), node_of(index, codes)).tolist()
        shown = [self.retriever.documents[row] for row in rows[:MOST_HITS]]
        return Branch(node, outer, shown)

    def _hits(self, text: str, k: int, only: list[str] | None) -> tuple[list[Hit], float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a long query is mentioned on the page
            began = time.perf_counter()
            if self.reads_text:
                hits = self.retriever.search(text, k=k, only=only)
            else:
                hits = self.retriever.recommend(_history(text), k=k, only=only)
        return hits, 1000 * (time.perf_counter() - began)


def _history(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _sizes(index: DocidIndex, prefix: tuple[int, ...]) -> list[tuple[int, int]]:
    """Code and documents of each child of a prefix."""
    level = len(prefix)
    codes, nodes = children_of(index, level, node_of(index, prefix))
    pairs = zip(codes.tolist(), nodes.tolist(), strict=True)
    return [(code, count_below(index, level + 1, node)) for code, node in pairs]
