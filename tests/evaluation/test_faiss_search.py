from __future__ import annotations

import sys

import numpy as np
import pytest

from hf_genret.data.schema import Queries
from hf_genret.errors import ConfigError, MissingExtraError
from hf_genret.evaluation.baselines import dense_run

FAISS, NUMPY = "exhaustive search by FAISS IndexFlatIP", "exhaustive search by NumPy"


def queries_of(count, histories=None):
    return Queries([str(i) for i in range(count)], [{0: 1.0}] * count, None, histories)


@pytest.mark.parametrize("depth", [5, 70, 400])
@pytest.mark.parametrize("count", [3, 300])
def test_both_engines_find_the_same(depth, count):
    """Rows, scores, size: FAISS gives what all inner products give."""
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    # Small integers: every sum is exact, so that many scores tie in both.
    left = rng.integers(-3, 4, (count, 6)).astype(np.float32)
    right = rng.integers(-3, 4, (350, 6)).astype(np.float32)
    by_faiss, by_numpy = (
        dense_run("dense", left, right, queries_of(count), depth=depth, engine=engine)
        for engine in ("faiss", "numpy")
    )
    for one, other in zip(by_faiss.rows, by_numpy.rows, strict=True):
        assert one.tolist() == other.tolist()
    np.testing.assert_array_equal(by_faiss.scores, by_numpy.scores)
    assert by_faiss.bytes == by_numpy.bytes == 350 * 6 * 4
    assert (by_faiss.notes, by_numpy.notes) == ([FAISS], [NUMPY])


def test_more_ties_than_are_looked_at():
    """Hundreds of equal documents at the cut: the first rows are kept."""
    pytest.importorskip("faiss")
    right = np.ones((500, 4), dtype=np.float32)
    right[400] = 2.0
    run = dense_run("dense", np.ones((2, 4)), right, queries_of(2), depth=10, engine="faiss")
    assert [rows.tolist() for rows in run.rows] == [[400, *range(9)]] * 2


def test_auto_takes_faiss_unless_histories_are_left_out():
    """What the notes say."""
    pytest.importorskip("faiss")
    queries = queries_of(1, [np.array([0])])
    vectors = np.eye(3, dtype=np.float32)
    run = dense_run("dense", vectors[:1], vectors, queries, depth=2)
    assert run.notes == ["history not excluded", FAISS]
    run = dense_run("dense", vectors[:1], vectors, queries, depth=2, exclude_history=True)
    assert run.notes == ["history excluded", NUMPY]
    with pytest.raises(ConfigError, match="cannot leave histories out"):
        dense_run(
            "dense",
            vectors[:1],
            vectors,
            queries,
            depth=2,
            exclude_history=True,
            engine="faiss",
        )


def test_without_faiss_numpy_searches(monkeypatch):
    """Only an explicit wish for it is an error, which names the extra."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    vectors = np.eye(2, dtype=np.float32)
    run = dense_run("dense", vectors, vectors, queries_of(2), depth=1)
    assert run.notes == [NUMPY]
    with pytest.raises(MissingExtraError, match=r"pip install 'hf-genret\[baselines\]'"):
        dense_run("dense", vectors, vectors, queries_of(2), depth=1, engine="faiss")


def test_an_unknown_engine_is_refused():
    """The known ones are named."""
    with pytest.raises(ConfigError, match="known: auto, faiss, numpy"):
        dense_run("x", np.eye(2), np.eye(2), queries_of(2), depth=1, engine="gpu")


def test_no_query_at_all():
    """An empty split is an empty run."""
    vectors = np.eye(2, dtype=np.float32)
    assert dense_run("x", vectors[:0], vectors, queries_of(0), depth=1).rows == []
