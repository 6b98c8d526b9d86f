from __future__ import annotations

import numpy as np
import pytest

from hf_genret.errors import DataError
from hf_genret.evaluation.run import Run, flatten


def test_a_sound_run_passes():
    """Rows in range, unique a query, empty rankings allowed."""
    Run("x", [np.array([1, 0]), np.array([], dtype=int), np.array([1])]).check(3, 2)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run("x", [np.array([0])]), "for 1 queries; 2 were expected"),
        (Run("x", [np.array([0])] * 2, pools=[]), "pools for 0 queries"),
        (Run("x", [np.array([0]), np.array([2, 3, 2])]), "ranks a document twice"),
        (Run("x", [np.array([0]), np.array([9])]), "rows run from 0 to 5 - 1"),
        (Run("x", [np.array([0]), np.array([-1])]), "rows from -1"),
    ],
)
def test_a_run_that_cannot_be_measured_is_refused(run, message):
    """One sentence names the run and what is wrong with it."""
    with pytest.raises(DataError, match=message):
        run.check(2, 5)


def test_flatten_numbers_every_query():
    """Empty arrays have no entry, and nothing at all is two empty arrays."""
    query, row = flatten([np.array([4, 5]), np.array([], dtype=int), np.array([6])])
    assert query.tolist() == [0, 0, 2]
    assert row.tolist() == [4, 5, 6]
    assert [len(part) for part in flatten([])] == [0, 0]
