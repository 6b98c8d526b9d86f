"""The document store: a Parquet file beside the weights, read a piece at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_genret.data.schema import Documents
from hf_genret.data.streaming import StreamedDocuments
from hf_genret.errors import CheckpointError, DataError

DOCUMENTS_FILE = "documents.parquet"
_GROUP = 1000  # documents decoded together
_KEPT = 64  # decoded groups kept


class DocumentStore:
    """The documents of an index; the place of a document is its row there.

    Nothing but the ids is held: texts are decoded in groups of a thousand when they are asked for,
    from a memory-mapped file or from an Arrow table.

    Args:
        ids: Ids in row order.
        columns: Names of all columns.
        starts: First row of each group and the number of rows, int64 [groups + 1].
        read: Gives a group as a table.

    Example:
        >>> store = DocumentStore.load("out")
        >>> store[0]["title"], store.row_of("d17")
    """

    def __init__(
        self,
        ids: pa.Array,
        columns: list[str],
        starts: np.ndarray,
        read: Callable[[int], pa.Table],
    ) -> None:
        self._ids, self.columns, self._starts, self._read = ids, columns, starts, read
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()
        self._order: np.ndarray | None = None
        self._source: object = None

    @classmethod
    def from_documents(cls, documents: Documents) -> DocumentStore:
        """The documents as a store: in memory, or where they were streamed to.

        Raises:
            DataError: When an extra column is called `id`, `title` or `text`.
        """
        if isinstance(documents, StreamedDocuments):
            return cls._streamed(documents)
        clash = sorted({"id", "title", "text"} & set(documents.extra))
        if clash:
            raise DataError(f"an extra column cannot be called '{clash[0]}'.", field=clash[0])
        columns = {"id": documents.ids, "title": documents.titles, "text": documents.texts}
        table = pa.table(
            {
                name: pa.array(values, pa.large_string())
                for name, values in {**columns, **documents.extra}.items()
            }
        )
        starts = np.append(np.arange(0, len(documents), _GROUP), len(documents))
        return cls(
            _one_array(table["id"]),
            table.column_names,
            starts,
            lambda group: table.slice(starts[group], starts[group + 1] - starts[group]),
        )

    @classmethod
    def _streamed(cls, documents: StreamedDocuments) -> DocumentStore:
        groups = documents.groups
        ids = pa.array(documents.ids, pa.large_string())
        store = cls(ids, list(documents.columns), groups.starts, groups.read)
        store._source = documents  # its files vanish with it
        return store

    @classmethod
    def load(cls, folder: str | Path) -> DocumentStore:
        """Open the store of a checkpoint folder; texts stay on disk.

        Raises:
            CheckpointError: When the file is missing, damaged, or lacks a column.
        """
        path = Path(folder) / DOCUMENTS_FILE
        if not path.is_file():
            raise CheckpointError(f"{folder}: expected {DOCUMENTS_FILE}, found no such file.")
        try:
            file = pq.ParquetFile(path, memory_map=True)
            names = file.schema_arrow.names
            lacking = [name for name in ("id", "title", "text") if name not in names]
            if lacking:
                raise CheckpointError(f"{path}: expected a column '{lacking[0]}', found {names}.")
            ids = _one_array(file.read(columns=["id"])["id"])
        except (pa.ArrowException, OSError) as error:
            raise CheckpointError(f"{path}: expected a Parquet file, found {error}.") from error
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return cls(ids, names, starts, file.read_row_group)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> list[str]:
        """All ids, in row order."""
        found: list[str] = self._ids.to_pylist()
        return found

    def id_of(self, row: int) -> str:
        """The id of one row."""
        return str(self._ids[self._checked(row)].as_py())

    def ids_of(self, rows: np.ndarray) -> pa.Array:
        """The ids of some rows [n], as an Arrow array of the same order."""
        return self._ids.take(pa.array(rows, pa.int64()))

    def row_of(self, identifier: str) -> int:
        """The row of an id.

        Raises:
            DataError: When no document has it.
        """
        if self._order is None:
            self._order = np.asarray(pc.sort_indices(self._ids))  # 8 bytes a document, no strings
        order = self._order
        place = bisect_left(range(len(order)), identifier, key=lambda i: self.id_of(int(order[i])))
        if place == len(order) or self.id_of(int(order[place])) != identifier:
            raise DataError(f"the index holds no document with the id '{identifier}'.")
        return int(order[place])

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One document: `id`, `title`, `text` and the extra columns."""
        row = self._checked(row)
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        part = self._group(group).slice(row - int(self._starts[group]), 1)
        document: dict[str, Any] = part.to_pylist()[0]
        return document

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for group in range(len(self._starts) - 1):
            yield from self._read(group).to_pylist()

    def to_documents(self) -> Documents:
        """All documents in memory, as data loading gives them."""
        table = self._table()
        column = {name: table[name].to_pylist() for name in self.columns}
        return Documents(column.pop("id"), column.pop("title"), column.pop("text"), column)

    def save(self, folder: str | Path) -> None:
        """Write the store into a folder, group by group.

        Raises:
            OSError: When the disk refuses.
        """
        path = Path(folder) / DOCUMENTS_FILE
        schema = pa.schema([(name, pa.large_string()) for name in self.columns])
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for group in range(len(self._starts) - 1):
                writer.write_table(self._read(group).cast(schema), row_group_size=_GROUP)

    def _checked(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"Expected a row of 0 to {len(self) - 1}, found {row}.")
        return int(row)

    def _group(self, group: int) -> pa.Table:
        if group not in self._groups:
            self._groups[group] = self._read(group)
        self._groups.move_to_end(group)
        if len(self._groups) > _KEPT:
            self._groups.popitem(last=False)
        return self._groups[group]

    def _table(self) -> pa.Table:
        groups = range(len(self._starts) - 1)
        return pa.concat_tables([self._read(group) for group in groups])


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; 64-bit offsets, so that no length is too long."""
    return column.cast(pa.large_string()).combine_chunks()


def as_documents(documents: Documents | Sequence[Mapping[str, Any]] | str | Path) -> Documents:
    """A corpus from whatever describes one.

    Raises:
        DataError: When it has a fault, or no document.
    """
    if isinstance(documents, (str, Path)):
        from hf_genret.data import load_documents

        return load_documents(documents)
    if not isinstance(documents, Documents):
        from hf_genret.data.collecting import collect_documents
        from hf_genret.data.reading import Table

        records = [(line, dict(record)) for line, record in enumerate(documents, start=1)]
        return collect_documents(Table("documents", records))
    if len(documents) == 0:
        raise DataError("expected documents, found none.")
    return documents


def data_facts(documents: Documents) -> dict[str, Any]:
    """What the manifest says of the documents."""
    from hf_genret.data.fingerprint import fingerprint

    return {"fingerprint": fingerprint(documents, {}), "documents": len(documents)}


def full_text(document: Mapping[str, Any]) -> str:
    """Title and text of a stored document, as `hf_genret.data.schema.FullTexts` joins them."""
    return f"{document['title'] or ''} {document['text'] or ''}".strip()
