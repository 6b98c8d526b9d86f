from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_genret.errors import ConfigError
from hf_genret.indexing import scratch
from hf_genret.indexing.scratch import ScratchMatrix, blocks

BUDGETS = pytest.mark.parametrize("budget", [0, 1 << 25], ids=["file", "memory"])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every scratch file that is opened; they lie in `tmp_path`."""
    opened: list[Any] = []
    make = tempfile.TemporaryFile

    def spy(**options: Any) -> Any:
        opened.append(make(**options))
        return opened[-1]

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", spy)
    return opened


@BUDGETS
def test_rows_come_back_as_they_were_put(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any rows in any order, zeros where nothing was put: an array is the reference."""
    monkeypatch.setattr(scratch, "BUDGET", budget)
    rng = np.random.default_rng(0)
    expected = np.zeros((50, 7), dtype=np.float32)
    with ScratchMatrix(50, 7) as matrix:
        assert matrix.shape == (50, 7) and len(matrix) == 50
        for size in (0, 1, 13, 30):
            rows = rng.permutation(50)[:size]
            values = rng.standard_normal((size, 7))
            expected[rows] = values
            matrix.put(rows, values)
        for rows in (np.arange(50), rng.integers(0, 50, 80), np.array([], dtype=int)):
            found = matrix.take(rows)
            assert found.dtype == np.float32 and np.array_equal(found, expected[rows])
        found[:] = 9.0  # what was taken is the caller's own
        assert np.array_equal(matrix.take(np.arange(50)), expected)


@BUDGETS
@pytest.mark.parametrize("rows", [[-1], [0, 4]])
def test_rows_that_do_not_exist(
    budget: int, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first and after the last row there is nothing."""
    monkeypatch.setattr(scratch, "BUDGET", budget)
    with ScratchMatrix(4, 2) as matrix, pytest.raises(IndexError, match="rows from 0 to 3"):
        matrix.take(np.array(rows))


def test_up_to_the_budget_there_is_no_file(
    files: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cell more, and there is."""
    monkeypatch.setattr(scratch, "BUDGET", 20)
    with ScratchMatrix(10, 2), ScratchMatrix(7, 3):
        assert len(files) == 1


def test_the_file_is_gone_after_an_exception(
    files: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed, and nothing lies in the folder."""
    monkeypatch.setattr(scratch, "BUDGET", 0)
    with pytest.raises(KeyboardInterrupt), ScratchMatrix(10, 2) as matrix:
        matrix.put(np.arange(10), np.ones((10, 2)))
        raise KeyboardInterrupt
    assert [file.closed for file in files] == [True] and not list(tmp_path.iterdir())
    with pytest.raises(IndexError):
        matrix.take(np.arange(1))


def test_the_file_is_gone_when_it_is_forgotten(
    files: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody closed the matrix: the file goes with it."""
    monkeypatch.setattr(scratch, "BUDGET", 0)
    ScratchMatrix(10, 2)
    files.clear()
    assert not list(tmp_path.iterdir())


def test_no_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much is needed, where, and what to do."""
    usage = shutil.disk_usage(".")._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    expected = "1,000,000 items and 256 codes need 1.0 GB in .*0.1 GB free.*TMPDIR"
    with pytest.raises(ConfigError, match=expected):
        ScratchMatrix(1_000_000, 256)


def test_an_array_is_wrapped_not_copied() -> None:
    """Of its own type, whatever its size."""
    array = np.arange(12.0).reshape(4, 3)
    matrix = ScratchMatrix.of(array)
    matrix.put(np.array([2]), np.zeros((1, 3)))
    assert matrix.shape == (4, 3) and matrix.take(np.arange(4)).dtype == np.float64
    assert not array[2].any()


@pytest.mark.parametrize(("n", "k", "cells"), [(10, 3, 7), (10, 3, 1), (4, 2, 100), (0, 3, 5)])
def test_blocks_are_all_rows_in_order(n: int, k: int, cells: int) -> None:
    """Nothing left out, nothing twice, no block above the limit but for single rows."""
    found = list(blocks(n, k, cells))
    assert [row for block in found for row in block] == list(range(n))
    assert all(len(block) * k <= max(cells, k) for block in found)
