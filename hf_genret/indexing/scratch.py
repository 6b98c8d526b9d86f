"""A large matrix that is never whole in memory: read and written a few rows at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import TracebackType
from typing import Any

import numpy as np

from hf_genret.errors import ConfigError

RowsOf = Callable[[np.ndarray], np.ndarray]
"""The given rows of a matrix, [rows, k]."""

BUDGET = 1 << 25  # cells of the largest matrix that is held whole: 128 MB of float32
CHUNK = 1 << 22  # cells of a block that is worked on at once


class ScratchMatrix:
    """float32 [n, k], zeros at first: in memory up to `BUDGET` cells, beyond in a scratch file.

    The file lies where the system keeps temporary files (TMPDIR names another folder) and is gone
    when the matrix is closed or forgotten, or when the process ends in whatever way. It is read
    and written, not mapped, so that what was looked at does not stay in the process.

    Args:
        n: Rows.
        k: Columns, at least 1.

    Attributes:
        shape: (n, k).

    Raises:
        ConfigError: When the folder has no room for the file.

    Example:
        >>> with ScratchMatrix(1_000_000, 256) as scores:
        ...     scores.put(np.array([3, 1]), np.zeros((2, 256), dtype=np.float32))
        ...     scores.take(np.arange(100)).shape
        (100, 256)
    """

    def __init__(self, n: int, k: int) -> None:
        self.shape: tuple[int, int] = (n, k)
        self._array: np.ndarray | None = None
        self._file: Any = None
        if n * k <= BUDGET:
            self._array = np.zeros((n, k), dtype=np.float32)
        else:
            self._file = _scratch_file(n, k)

    @classmethod
    def of(cls, array: np.ndarray) -> ScratchMatrix:
        """A matrix that is in memory already, of its own type and size; nothing is copied."""
        matrix = cls(0, 1)
        matrix.shape, matrix._array = (len(array), array.shape[1]), array
        return matrix

    def __len__(self) -> int:
        return self.shape[0]

    def __enter__(self) -> ScratchMatrix:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of memory and file; nothing can be read any more."""
        if self._file is not None:
            self._file.close()
        self.shape, self._array, self._file = (0, self.shape[1]), None, None

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The given rows, in their order: [rows, k], the caller's own.

        Raises:
            IndexError: When a row does not exist.
        """
        rows = self._checked(rows)
        if self._array is not None:
            return np.asarray(self._array[rows])
        out = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for first, last in _runs(rows):
            rest = self._seek(rows[first], out[first:last])
            while rest:
                rest = rest[self._file.readinto(rest) :]
        return out

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write the given rows.

        Args:
            rows: Row numbers, each once.
            values: Shape [rows, k].

        Raises:
            IndexError: When a row does not exist.
        """
        rows = self._checked(rows)
        if self._array is not None:
            self._array[rows] = values
            return
        values = np.ascontiguousarray(values, dtype=np.float32)
        for first, last in _runs(rows):
            rest = self._seek(rows[first], values[first:last])
            while rest:
                rest = rest[self._file.write(rest) :]

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"Expected rows from 0 to {len(self) - 1}, found {rows.max()}.")
        return rows

    def _seek(self, row: int, part: np.ndarray) -> memoryview:
        self._file.seek(int(row) * self.shape[1] * 4)
        return part.data.cast("B")


def blocks(n: int, k: int, cells: int = CHUNK) -> Iterator[np.ndarray]:
    """Row numbers of a matrix [n, k] in blocks of at most so many cells, at least one row each.

    Args:
        n: Rows.
        k: Columns.
        cells: The limit; `BUDGET` is one as well.
    """
    step = max(1, min(cells, BUDGET) // max(1, k))
    for first in range(0, n, step):
        yield np.arange(first, min(first + step, n))


def _scratch_file(n: int, k: int) -> Any:
    """A file of n k float32 zeros that has no name, or loses it when it is closed."""
    folder, size = tempfile.gettempdir(), n * k * 4
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ConfigError(
            f"scores of {n:,} items and {k:,} codes need {size / 1e9:.1f} GB in {folder}, which "
            f"has {free / 1e9:.1f} GB free; the environment variable TMPDIR names another folder."
        )
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, the matrix closes it
    file.truncate(size)
    return file


def _runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Bounds of the stretches of rows that follow each other, and so lie together in a file."""
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    return pairwise([0, *cuts.tolist(), len(rows)]) if len(rows) else iter(())
