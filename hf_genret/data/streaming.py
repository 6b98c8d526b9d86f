"""A corpus larger than memory: checked record by record, written to Parquet, read back in groups.

Only the ids stay in memory, and the groups that were read last. What searches and trains holds more
(vectors, token numbers, queries), see `StreamedDocuments`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_genret.columns import (
    RESERVED,
    TEXT,
    arrow_array,
    arrow_field,
    column_kind,
    column_values,
    completed,
    has_kind,
    kinds_of,
    stored_kind,
)
from hf_genret.data.collecting import CorpusFields, checked_documents
from hf_genret.data.reading import Table
from hf_genret.data.schema import Documents
from hf_genret.errors import DataError
from hf_genret.files import ScratchFolder
from hf_genret.row_groups import GROUP, ParquetGroups, RowGroups


class Column(Sequence[Any]):
    """One column of a streamed corpus, as a sequence that holds no value."""

    def __init__(self, groups: RowGroups, name: str) -> None:
        self._groups, self._name = groups, name

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Any]:
        for group in self._groups:
            yield from column_values(group, self._name)

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(f"Expected a row of 0 to {len(self) - 1}, found {row}.")
        group, place = self._groups.group_of(row % len(self))
        return column_values(group.slice(place, 1), self._name)[0]


@dataclass
class StreamedDocuments(Documents):
    """A corpus whose texts lie in Parquet files, which vanish with it.

    In memory are the ids. Encoding adds what it keeps of each document (the token numbers, 4 bytes
    each, and a vector); pseudo-queries are held whole. `full_texts` and `take` read everything into
    memory: an encoder that is trained from nothing and a BM25 row do so.

    It may be used by any number of threads. A copy shares the files; a pickled one carries all
    documents and is held in memory where it is read.

    Attributes:
        groups: The rows of all columns.
    """

    groups: RowGroups = None  # type: ignore[assignment]  # always given, after fields with defaults


class _Writer:
    """Writes documents in groups; a column that appears late or changes its kind begins a file.

    Attributes:
        kinds: Kinds of values seen in each column so far.
        sizes: Rows of each group.
        places: File of each group, and its place there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kinds: dict[str, set[str]] = {name: {TEXT} for name in RESERVED}
        self.sizes: list[int] = []
        self.places: list[tuple[int, int]] = []
        self.files: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._written = 0

    def write(self, rows: list[dict[str, Any]]) -> None:
        """One group, stored so that each value can be had back exactly."""
        columns: dict[str, list[Any]] = defaultdict(lambda: [None] * len(rows))
        for place, row in enumerate(rows):
            for name, value in row.items():
                columns[name][place] = value
        for name in sorted(columns):
            self.kinds.setdefault(name, set()).update(kinds_of(columns[name]))
        kinds = {name: stored_kind(kinds) for name, kinds in self.kinds.items()}
        schema = pa.schema([arrow_field(name, kind) for name, kind in kinds.items()])
        if self._writer is None or not self._writer.schema.equals(schema, check_metadata=True):
            self.close()
            self.files.append(self.folder / f"{len(self.files)}.parquet")
            self._writer = pq.ParquetWriter(self.files[-1], schema, compression="zstd")
            self._written = 0
        arrays = [arrow_array(columns[name], kind) for name, kind in kinds.items()]
        self._writer.write_table(pa.table(arrays, schema=schema), row_group_size=GROUP)
        self.sizes.append(len(rows))
        self.places.append((len(self.files) - 1, self._written))
        self._written += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def stream_documents(table: Table, fields: CorpusFields | None = None) -> StreamedDocuments:
    """Documents from records, with texts on disk.

    Args:
        table: One record a document.
        fields: Where id, title and text stand.

    Raises:
        DataError: As `collect_documents`.
        OSError: When the temporary folder has no room.
    """
    folder = ScratchFolder("corpus")
    writer = _Writer(folder.path)
    ids: list[str] = []
    rows: list[dict[str, Any]] = []
    try:
        for identifier, title, text, extra in checked_documents(table, fields):
            ids.append(identifier)
            rows.append({"id": identifier, "title": title, "text": text, **extra})
            if len(rows) == GROUP:
                writer.write(rows)
                rows = []
        if rows:
            writer.write(rows)
    finally:
        writer.close()
    if not ids:
        raise DataError("expected documents, found none.", path=table.path)
    groups = _opened(writer, folder)
    column = {name: Column(groups, name) for name in groups.schema.names[1:]}
    return StreamedDocuments(ids, column.pop("title"), column.pop("text"), column, groups)


def _opened(writer: _Writer, folder: ScratchFolder) -> RowGroups:
    """What was written, each column of the one kind that all of its values have."""
    files = [ParquetGroups(path) for path in writer.files]
    names = [*RESERVED, *sorted(writer.kinds.keys() - set(RESERVED))]
    kinds = {name: column_kind(writer.kinds[name]) for name in names}
    schema = pa.schema([arrow_field(name, kind) for name, kind in kinds.items()])

    def read(group: int) -> pa.Table:
        number, place = writer.places[group]
        part = files[number].read(place)
        return pa.table([_as_kind(part, name, kinds[name]) for name in names], schema=schema)

    starts = np.concatenate([[0], np.cumsum(writer.sizes)]).astype(np.int64)
    return RowGroups(starts, schema, read, keep=folder)


def _as_kind(part: pa.Table, name: str, kind: str) -> pa.Array | pa.ChunkedArray:
    """A column of a group as the whole corpus has it, also where the group knew less of it."""
    if name not in part.column_names:
        return arrow_array(completed([None] * len(part), kind), kind)
    if not has_kind(part.field(name), kind):
        return arrow_array(completed(column_values(part, name), kind), kind)
    missing = kind == TEXT and part[name].null_count
    return part[name].fill_null("") if missing else part[name]
