"""Nested parts of a corpus with one set of test queries, whose answers are in the smallest part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hf_genret.data import Queries, RetrievalData
from hf_genret.data.fingerprint import fingerprint
from hf_genret.errors import DataError
from hf_genret.training.build import training_queries
from hf_genret.training.recipes import Recipe

_ANSWERS = 0.8
"""Share of the smallest part that may be answers of the test queries; the rest is anything."""


@dataclass
class Slices:
    """A corpus, the order in which its parts take documents, and the queries that all parts answer.

    Attributes:
        whole: The corpus with its training, dev and test queries. Pseudo-queries are made once, of
            all documents, so that a part trains on a subset of what the whole trains on.
        order: Rows of the whole; the first n are the part of n documents.
        fixed: Test queries all of whose relevant documents are in the smallest part, rows of the
            whole.
        smallest: Documents of the smallest part.
    """

    whole: RetrievalData
    order: np.ndarray
    fixed: Queries
    smallest: int

    def size(self, share: float) -> int:
        """Documents of a part."""
        return round_up(share, len(self.order))

    def at(self, share: float) -> RetrievalData:
        """A part with the queries whose documents are in it; its test queries are the fixed ones.

        Judgments of training and dev queries are limited to the part. At 1 it is the whole.
        """
        if share >= 1:
            return self.whole
        rows = np.sort(self.order[: self.size(share)])
        name = f"{self.whole.name} {100 * share:g} %"
        return _part({**self.whole.splits, "test": self.fixed}, rows, self.whole, name)

    def facts(self, shares: Iterable[float]) -> dict[str, object]:
        """What a report says of the parts."""
        return {
            "documents": [self.size(share) for share in shares],
            "fixed_queries": len(self.fixed),
            "fixed_answers": len(_rows(self.fixed)),
            "test_queries": len(self.whole.splits["test"]),
        }


def make_slices(
    data: RetrievalData,
    recipe: Recipe,
    shares: Iterable[float],
    *,
    seed: int = 0,
    most: int | None = None,
) -> Slices:
    """Choose the order of documents and the test queries.

    Relevant documents of a random sample of the test queries come first, as many queries as fill
    four fifths of the smallest part, then all others in random order.

    Args:
        data: Corpus and splits; texts.
        recipe: Whose settings say which training queries there are.
        shares: Of the corpus, from above 0 to 1.
        seed: Of the choice and of pseudo-queries.
        most: Documents at most; a larger corpus is cut to the first of the order.

    Raises:
        DataError: Without test queries, with histories instead of texts, or when the smallest part
            is too small for the answers of even one query.
    """
    test = data.split("test")
    if test.texts is None:
        raise DataError(f"{data.name} holds histories; the study needs queries with texts.")
    size = len(data.documents) if most is None else min(most, len(data.documents))
    smallest = round_up(min(shares), size)
    rng = np.random.default_rng([seed, 29])
    chosen = _choose(test, int(_ANSWERS * smallest), rng)
    if not len(chosen):
        raise DataError(
            f"{data.name}: the smallest part has {smallest} documents, too few for the answers of "
            "one test query; a larger corpus is needed."
        )
    order = _order(len(data.documents), _rows(chosen), rng)[:size]
    if size < len(data.documents):
        rows = np.sort(order)
        data = _part(data.splits, rows, data, data.name)
        back = np.full(int(rows.max()) + 1, -1)
        back[rows] = np.arange(size)
        order, chosen = back[order], _limited(chosen, back, whole=True)
    train, dev = training_queries(recipe, data, seed)
    splits = {"train": train, **({} if dev is None else {"dev": dev}), "test": data.splits["test"]}
    whole = RetrievalData(
        data.name, fingerprint(data.documents, splits), data.documents, splits, 0, data.notes
    )
    return Slices(whole, order, chosen, smallest)


def round_up(share: float, documents: int) -> int:
    """Documents of a share, at least one."""
    return max(1, min(documents, int(np.ceil(share * documents - 1e-9))))


def _choose(test: Queries, room: int, rng: np.random.Generator) -> Queries:
    """Queries in random order as long as their relevant documents find room, then as they were."""
    taken: set[int] = set()
    numbers = []
    for number in rng.permutation(len(test)).tolist():
        relevant = set(test.relevant[number])
        if relevant and len(taken | relevant) <= room:
            taken |= relevant
            numbers.append(number)
    return test.take(sorted(numbers))


def _order(documents: int, answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Answers first, then the others, each in random order."""
    others = np.setdiff1d(np.arange(documents), answers)
    return np.concatenate([rng.permutation(answers), rng.permutation(others)])


def _rows(queries: Queries) -> np.ndarray:
    """Rows that are relevant to a query, sorted."""
    return np.unique(queries.pairs()[1])


def _part(
    splits: dict[str, Queries], rows: np.ndarray, data: RetrievalData, name: str
) -> RetrievalData:
    """Some documents and the queries about them."""
    back = np.full(len(data.documents), -1)
    back[rows] = np.arange(len(rows))
    parts = {
        split: _limited(queries, back, whole=split == "test") for split, queries in splits.items()
    }
    documents = data.documents.take(rows)
    return RetrievalData(name, fingerprint(documents, parts), documents, parts, 0, data.notes)


def _limited(queries: Queries, back: np.ndarray, *, whole: bool) -> Queries:
    """Queries with a relevant document in the part, in its rows.

    Args:
        queries: Rows of the corpus.
        back: The part's row of each row of the corpus, -1 where it is not in it.
        whole: Keep only those all of whose relevant documents are in the part.
    """
    inside = [{row: gain for row, gain in g.items() if back[row] >= 0} for g in queries.relevant]
    enough = [
        bool(part) and (not whole or len(part) == len(gains))
        for part, gains in zip(inside, queries.relevant, strict=True)
    ]
    numbers = np.flatnonzero(enough)
    found = queries.take(numbers)
    found.relevant = [
        {int(back[row]): gain for row, gain in inside[n].items()} for n in numbers.tolist()
    ]
    return found
