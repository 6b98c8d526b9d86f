"""A corpus larger than memory: checked record by record, written to Parquet, read back in groups.

Only the ids stay in memory, and the groups that were read last. What searches and trains holds more
(vectors, token numbers, queries), see `StreamedDocuments`.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_genret.data.collecting import CorpusFields, checked_documents
from hf_genret.data.reading import Table
from hf_genret.data.schema import Documents
from hf_genret.errors import DataError

GROUP = 1000
"""Documents that are written, and decoded, together."""
_KEPT = 64  # decoded groups kept


class Groups:
    """Rows in groups, each read when it is asked for; the groups read last are kept.

    Args:
        starts: First row of each group and the number of rows, int64 [groups + 1].
        read: Gives a group as a table of strings.
    """

    def __init__(self, starts: np.ndarray, read: Callable[[int], pa.Table]) -> None:
        self.starts, self.read = starts, read
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def value(self, name: str, row: int) -> str:
        """One value of a column."""
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        if group not in self._kept:
            self._kept[group] = self.read(group)
        self._kept.move_to_end(group)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return str(self._kept[group][name][row - int(self.starts[group])].as_py())

    def values(self, name: str) -> Iterator[str]:
        """A whole column, group by group."""
        for group in range(len(self.starts) - 1):
            yield from self.read(group)[name].to_pylist()


class Column(Sequence[str]):
    """One column of a streamed corpus, as a sequence that holds no text."""

    def __init__(self, groups: Groups, name: str) -> None:
        self._groups, self._name = groups, name

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[str]:
        return self._groups.values(self._name)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self._groups.value(self._name, one) for one in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(f"Expected a row of 0 to {len(self) - 1}, found {row}.")
        return self._groups.value(self._name, row % len(self))


@dataclass
class StreamedDocuments(Documents):
    """A corpus whose texts lie in Parquet files, which vanish with it.

    In memory are the ids. Encoding adds what it keeps of each document (the token numbers, 4 bytes
    each, and a vector); pseudo-queries are held whole. `full_texts` and `take` read everything into
    memory: an encoder that is trained from nothing and a BM25 row do so.

    Attributes:
        groups: The rows.
        columns: Names of all columns.
        folder: Where the files lie.
    """

    groups: Groups = None  # type: ignore[assignment]  # always given, after fields with defaults
    columns: Sequence[str] = ()
    folder: Any = None


class _Writer:
    """Writes documents in groups; a column that appears late begins another file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = ["id", "title", "text"]
        self.sizes: list[int] = []  # rows of each group
        self.places: list[tuple[int, int]] = []  # its file and its place there
        self._writer: pq.ParquetWriter | None = None
        self._files = self._written = 0

    def file(self, number: int) -> Path:
        return self.folder / f"{number}.parquet"

    def write(self, columns: dict[str, list[str]]) -> None:
        """One group; columns that it lacks are empty."""
        fresh = [name for name in columns if name not in self.names]
        if fresh or self._writer is None:
            self.close()
            self.names += sorted(fresh)
            schema = pa.schema([(name, pa.large_string()) for name in self.names])
            self._writer = pq.ParquetWriter(self.file(self._files), schema, compression="zstd")
            self._files, self._written = self._files + 1, 0
        size = len(columns["id"])
        arrays = [pa.array(columns.get(n, [""] * size), pa.large_string()) for n in self.names]
        self._writer.write_table(pa.table(arrays, schema=self._writer.schema), row_group_size=GROUP)
        self.sizes.append(size)
        self.places.append((self._files - 1, self._written))
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
    folder = tempfile.TemporaryDirectory(prefix="genret-corpus-")
    writer = _Writer(Path(folder.name))
    ids: list[str] = []
    batch = _Batch()
    try:
        for identifier, title, text, extra in checked_documents(table, fields):
            ids.append(identifier)
            batch.add(identifier, title, text, extra)
            if len(batch) == GROUP:
                writer.write(batch.columns())
                batch = _Batch()
        if len(batch):
            writer.write(batch.columns())
    finally:
        writer.close()
    if not ids:
        raise DataError("expected documents, found none.", path=table.path)
    return _opened(writer, ids, folder)


class _Batch:
    """Documents of one group."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, identifier: str, title: str, text: str, extra: dict[str, str]) -> None:
        clash = sorted({"id", "title", "text"} & extra.keys())
        if clash:
            raise DataError(f"an extra column cannot be called '{clash[0]}'.", field=clash[0])
        self.rows.append({"id": identifier, "title": title, "text": text, **extra})

    def columns(self) -> dict[str, list[str]]:
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name, "") for row in self.rows] for name in names}


def _opened(writer: _Writer, ids: list[str], folder: Any) -> StreamedDocuments:
    """What was written, memory-mapped."""
    files = [
        pq.ParquetFile(writer.file(number), memory_map=True) for number in range(writer._files)
    ]
    names = ["id", "title", "text", *sorted(writer.names[3:])]

    def read(group: int) -> pa.Table:
        number, place = writer.places[group]
        part = files[number].read_row_group(place)
        empty = pa.array([""] * len(part), pa.large_string())
        return pa.table({n: part[n] if n in part.column_names else empty for n in names})

    starts = np.concatenate([[0], np.cumsum(writer.sizes)]).astype(np.int64)
    groups = Groups(starts, read)
    column = {name: Column(groups, name) for name in names}
    return StreamedDocuments(
        ids,
        column["title"],
        column["text"],
        {name: column[name] for name in names[3:]},
        groups,
        names,
        folder,
    )
