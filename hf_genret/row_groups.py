"""Rows of a table in groups, read when they are asked for, by any number of threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_genret.errors import CheckpointError

GROUP = 1000
"""Rows that are written, and decoded, together."""
_KEPT = 64  # decoded groups kept


class RowGroups:
    """Rows in groups; the groups read last are kept.

    It never changes, so that threads and copies share it. Pickled it becomes its content: the copy
    is held in memory, since its files may be gone or others where it is read.

    Args:
        starts: First row of each group and the number of rows, int64 [groups + 1].
        schema: The columns.
        read: Gives a group as a table; called by several threads at once.
        keep: What has to live as long, for example a temporary folder.
    """

    def __init__(
        self,
        starts: np.ndarray,
        schema: pa.Schema,
        read: Callable[[int], pa.Table],
        keep: object = None,
    ) -> None:
        self.starts, self.schema, self.read, self._keep = starts, schema, read, keep
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()  # of what is kept; decoding goes on beside it

    @classmethod
    def of_table(cls, table: pa.Table) -> RowGroups:
        """The rows of a table in memory."""
        starts = np.append(np.arange(0, len(table), GROUP), len(table))
        return cls(starts, table.schema, lambda group: table.slice(starts[group], GROUP))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __iter__(self) -> Iterator[pa.Table]:
        """Every group, none of them kept."""
        return map(self.read, range(len(self.starts) - 1))

    def group_of(self, row: int) -> tuple[pa.Table, int]:
        """The group that holds a row, and the row's place in it."""
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        with self._lock:
            table = self._kept.get(group)
            if table is not None:
                self._kept.move_to_end(group)
        if table is None:
            table = self.read(group)
            with self._lock:
                self._kept[group] = table
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return table, row - int(self.starts[group])

    def table(self) -> pa.Table:
        """All rows, in memory."""
        return pa.concat_tables([self.schema.empty_table(), *self])

    def __reduce__(self) -> tuple[Any, ...]:
        return RowGroups.of_table, (self.table().combine_chunks(),)  # not whole buffers a slice

    def __copy__(self) -> RowGroups:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RowGroups:
        return self


class ParquetGroups:
    """The row groups of a Parquet file, which stays the one that was opened.

    A reader of Arrow is for one thread, the open file and what its footer says are for any number:
    each group is read by a reader of its own, which costs no more than the buffering that a shared
    one does. Another file put in this one's place is not read; where somebody writes into the very
    same file, reading is an error (with a memory map the process would be killed).

    Args:
        path: The file.

    Raises:
        pa.ArrowException: When it is no Parquet file.
        OSError: When it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._file = pa.OSFile(str(path))
        first = pq.ParquetFile(self._file)
        self._footer: pq.FileMetaData = first.metadata
        self.schema: pa.Schema = first.schema_arrow

    def sizes(self) -> list[int]:
        """Rows of each group."""
        return [self._footer.row_group(i).num_rows for i in range(self._footer.num_row_groups)]

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all groups.

        Raises:
            CheckpointError: As `read`.
        """
        with self._reader() as reader:
            return reader.read(columns=[name], use_threads=False)[name]

    def read(self, group: int) -> pa.Table:
        """A group as a table.

        Raises:
            CheckpointError: When the file is damaged, or was changed since it was opened.
        """
        with self._reader() as reader:
            return reader.read_row_group(group, use_threads=False)

    @contextmanager
    def _reader(self) -> Iterator[pq.ParquetFile]:
        try:
            yield pq.ParquetFile(self._file, metadata=self._footer, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            message = f"rows of it cannot be read ({error}); was it changed while it was in use?"
            raise CheckpointError(f"{self.path}: {message}") from error
