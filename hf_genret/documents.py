"""The document store: a Parquet file beside the weights, read a piece at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_genret.columns import (
    RESERVED,
    TEXT,
    arrow_array,
    arrow_column,
    arrow_field,
    column_values,
    documents_of,
    json_columns,
)
from hf_genret.data.schema import Documents
from hf_genret.data.streaming import StreamedDocuments
from hf_genret.errors import CheckpointError, DataError
from hf_genret.files import atomic_file
from hf_genret.row_groups import GROUP, ParquetGroups, RowGroups

DOCUMENTS_FILE = "documents.parquet"


class DocumentStore:
    """The documents of an index; the place of a document is its row there.

    Nothing but the ids is held: texts are decoded in groups of a thousand when they are asked for,
    from the file that was opened, whatever is put in its place later, or from an Arrow table. A
    store never changes and may be used by any number of threads. A copy shares what it reads; a
    pickled one carries all documents and is held in memory where it is read.

    Args:
        groups: The rows, with columns `id`, `title` and `text`.
        ids: Ids in row order.

    Example:
        >>> store = DocumentStore.load("out")
        >>> store[0]["title"], store.row_of("d17")
    """

    def __init__(self, groups: RowGroups, ids: pa.Array) -> None:
        self._groups, self._ids = groups, ids
        self._json = json_columns(groups.schema)

    @classmethod
    def from_documents(cls, documents: Documents) -> DocumentStore:
        """The documents as a store: in memory, or where they were streamed to.

        Raises:
            DataError: When an extra column is called `id`, `title` or `text`, or has a value that
                JSON cannot hold.
        """
        if isinstance(documents, StreamedDocuments):
            return cls(documents.groups, pa.array(documents.ids, pa.large_string()))
        clash = sorted(set(RESERVED) & set(documents.extra))
        if clash:
            raise DataError(f"an extra column cannot be called '{clash[0]}'.", field=clash[0])
        columns = {"id": documents.ids, "title": documents.titles, "text": documents.texts}
        arrays = [arrow_array(values, TEXT) for values in columns.values()]
        fields = [arrow_field(name, TEXT) for name in columns]
        for name, values in documents.extra.items():
            field, array = arrow_column(name, values)
            fields.append(field)
            arrays.append(array)
        return cls(RowGroups.of_table(pa.table(arrays, schema=pa.schema(fields))), arrays[0])

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
            file = ParquetGroups(path)
        except (pa.ArrowException, OSError) as error:
            raise CheckpointError(f"{path}: expected a Parquet file, found {error}.") from error
        names = file.schema.names
        lacking = [name for name in RESERVED if name not in names]
        if lacking:
            raise CheckpointError(f"{path}: expected a column '{lacking[0]}', found {names}.")
        starts = np.concatenate([[0], np.cumsum(file.sizes())]).astype(np.int64)
        return cls(RowGroups(starts, file.schema, file.read), _one_array(file.column("id")))

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        names: list[str] = self._groups.schema.names
        return names

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
        order = self._order
        place = bisect_left(range(len(order)), identifier, key=lambda i: self.id_of(int(order[i])))
        if place == len(order) or self.id_of(int(order[place])) != identifier:
            raise DataError(f"the index holds no document with the id '{identifier}'.")
        return int(order[place])

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One document: `id`, `title`, `text` and the extra columns."""
        group, place = self._groups.group_of(self._checked(row))
        return documents_of(group.slice(place, 1), self._json)[0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for group in self._groups:
            yield from documents_of(group, self._json)

    def to_documents(self) -> Documents:
        """All documents in memory, as data loading gives them."""
        table = self._groups.table()
        column = {name: column_values(table, name) for name in self.columns}
        return Documents(column.pop("id"), column.pop("title"), column.pop("text"), column)

    def save(self, folder: str | Path) -> None:
        """Write the store into a folder, group by group; an old one there may still be in use.

        Raises:
            OSError: When the disk refuses.
        """
        with (
            atomic_file(Path(folder) / DOCUMENTS_FILE) as fresh,
            pq.ParquetWriter(fresh, self._groups.schema, compression="zstd") as writer,
        ):
            for group in self._groups:
                writer.write_table(group, row_group_size=GROUP)

    @cached_property
    def _order(self) -> np.ndarray:
        """Rows in the order of their ids: 8 bytes a document, no strings."""
        return np.asarray(pc.sort_indices(self._ids))

    def _checked(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"Expected a row of 0 to {len(self) - 1}, found {row}.")
        return int(row)


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

        records = [
            (line, {str(name): value for name, value in record.items()})
            for line, record in enumerate(documents, start=1)
        ]
        table = Table("documents", records)
        collected = collect_documents(table)
        table.notices.warn()
        return collected
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
