"""What every layout of data gives: how it is recognised, its documents and its splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hf_genret.data.collecting import CorpusFields, collect_documents
from hf_genret.data.reading import Table, read_jsonl
from hf_genret.data.schema import Documents, Queries
from hf_genret.data.streaming import stream_documents
from hf_genret.notices import Notices


@dataclass(frozen=True)
class Options:
    """What the caller of `load_data` chose, and what was met on the way.

    Attributes:
        field_map: `id`, `title` or `text` -> name of the corpus column.
        max_history: Items kept of a user's history, the newest.
        streaming: Whether texts of documents stay on disk.
        notices: What was left out.
        read: The files that were read.
    """

    field_map: Mapping[str, str] | None = None
    max_history: int = 20
    streaming: bool = False
    notices: Notices = field(default_factory=Notices)
    read: set[Path] = field(default_factory=set)

    def jsonl(self, path: Path) -> Table:
        """A file of one JSON object a line."""
        self.read.add(path)
        return read_jsonl(path, self.notices)

    def documents(self, table: Table, fields: CorpusFields | None = None) -> Documents:
        """A corpus from its records, as the caller chose."""
        collect = stream_documents if self.streaming else collect_documents
        return collect(table, (fields or CorpusFields()).mapped(self.field_map))


@dataclass
class Parts:
    """Everything of the data but its documents."""

    splits: dict[str, Queries] = field(default_factory=dict)
    num_users: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """One layout of data on disk.

    Attributes:
        name: Short name.
        looks_for: What is looked for, as an error tells it.
        matches: Whether a path has this layout.
        documents: Reads the corpus.
        splits: Reads the queries of a corpus that is already read.
    """

    name: str
    looks_for: str
    matches: Callable[[Path], bool]
    documents: Callable[[Path, Options], Documents]
    splits: Callable[[Path, Documents, Options], Parts]
