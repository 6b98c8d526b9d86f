"""The three nouns of every data source: documents, queries, and both with judgments."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_genret.columns import RESERVED
from hf_genret.errors import DataError


@dataclass
class Documents:
    """The corpus; the position of a document is its row everywhere.

    Attributes:
        ids: One unique string a document.
        titles: Titles, empty where there is none.
        texts: Texts; a document may have neither title nor text.
        extra: Further columns by name (for example `categories`), each as long as `ids`. Values
            are those of JSON and keep their types; where a document lacks one it is empty in a
            column of texts, None in any other. A list of texts was joined to one text.

    Raises:
        DataError: When an extra column is called `id`, `title` or `text`.
    """

    ids: list[str]
    titles: Sequence[str]
    texts: Sequence[str]
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clash = [name for name in RESERVED if name in self.extra]
        if clash:
            raise DataError(f"an extra column cannot be called '{clash[0]}'.", field=clash[0])

    def __len__(self) -> int:
        return len(self.ids)

    def full_text(self, row: int) -> str:
        """Title and text of one document, as encoders read them."""
        return f"{self.titles[row]} {self.texts[row]}".strip()

    def full_texts(self) -> list[str]:
        """Title and text of every document, in row order, all in memory."""
        return list(FullTexts(self))

    def take(self, rows: Sequence[int] | np.ndarray) -> Documents:
        """The given rows as a corpus of their own, in the given order."""
        pick = [int(row) for row in rows]
        return Documents(
            ids=[self.ids[row] for row in pick],
            titles=[self.titles[row] for row in pick],
            texts=[self.texts[row] for row in pick],
            extra={name: [column[row] for row in pick] for name, column in self.extra.items()},
        )


class FullTexts(Collection[str]):
    """Title and text of every document, in row order, made one after another."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[str]:
        pairs = zip(self._documents.titles, self._documents.texts, strict=True)
        return (f"{title} {text}".strip() for title, text in pairs)

    def __contains__(self, text: object) -> bool:
        return any(text == one for one in self)


@dataclass
class Queries:
    """Queries of one split with their judgments.

    A query has a text, a history of document rows (oldest first), a user, or several of them;
    a column that the data lacks is None.

    Attributes:
        ids: One string a query.
        relevant: For each query document row -> gain; only gains above 0.
        texts: Query texts.
        histories: Document rows, oldest first, the target excluded.
        users: User numbers, 0 to `RetrievalData.num_users` - 1.
    """

    ids: list[str]
    relevant: list[dict[int, float]]
    texts: list[str] | None = None
    histories: list[np.ndarray] | None = None
    users: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """All (query, relevant document) pairs: two int64 arrays of query numbers and rows."""
        query = [i for i, gains in enumerate(self.relevant) for _ in gains]
        row = [row for gains in self.relevant for row in gains]
        return np.asarray(query, dtype=np.int64), np.asarray(row, dtype=np.int64)

    def take(self, numbers: Sequence[int] | np.ndarray) -> Queries:
        """The given queries, in the given order."""
        pick = [int(i) for i in numbers]
        return Queries(
            ids=[self.ids[i] for i in pick],
            relevant=[self.relevant[i] for i in pick],
            texts=None if self.texts is None else [self.texts[i] for i in pick],
            histories=None if self.histories is None else [self.histories[i] for i in pick],
            users=None if self.users is None else self.users[np.asarray(pick, dtype=np.int64)],
        )


@dataclass
class RetrievalData:
    """A corpus and the splits of its queries.

    Attributes:
        name: Short name for reports, never a path.
        fingerprint: SHA-256 (first 16 hex digits) of the content.
        documents: The corpus.
        splits: `train`, `dev` and `test` where they exist.
        num_users: Number of users where queries carry one, else 0.
        notes: Facts a report has to state: what was left out, how a split was made.
    """

    name: str
    fingerprint: str
    documents: Documents
    splits: dict[str, Queries]
    num_users: int = 0
    notes: list[str] = field(default_factory=list)

    def split(self, name: str) -> Queries:
        """One split.

        Raises:
            DataError: When the data has no such split or it is empty.
        """
        queries = self.splits.get(name)
        if queries is None or len(queries) == 0:
            known = ", ".join(sorted(key for key, value in self.splits.items() if len(value)))
            raise DataError(
                f"{self.name} has no '{name}' queries; splits with queries: {known or 'none'}."
            )
        return queries

    @property
    def seen_rows(self) -> np.ndarray:
        """Rows of documents that are relevant to some training query, sorted, int64."""
        train = self.splits.get("train")
        if train is None:
            return np.empty(0, dtype=np.int64)
        return np.unique(train.pairs()[1])
