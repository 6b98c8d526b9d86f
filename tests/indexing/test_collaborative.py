from __future__ import annotations

import numpy as np
import pytest

from hf_genret.indexing.collaborative import collaborative_vectors, query_aware_vectors
from hf_genret.indexing.kmeans import kmeans


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_query_aware_mean_by_hand() -> None:
    """Two queries, one, none: the mean with the document's own vector."""
    vectors = np.array([[3, 0], [0, 2], [5, 5]], dtype=np.float32)
    queries = np.array([[0, 3], [6, 0]], dtype=np.float32)
    found = query_aware_vectors(vectors, queries, np.array([0, 1, 1]), np.array([0, 0, 1]))
    np.testing.assert_allclose(found, [[3, 1], [3, 1], [5, 5]])
    assert found.dtype == np.float32


def test_query_aware_vectors_keep_length_one() -> None:
    """Unit vectors in, unit vectors out."""
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng.standard_normal((5, 3))), unit(rng.standard_normal((4, 3)))
    pairs = np.array([0, 1, 2, 3]), np.array([0, 0, 1, 4])
    found = query_aware_vectors(vectors, queries, *pairs)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        found[0], unit((vectors[0] + queries[0] + queries[1])[None])[0], atol=1e-6
    )
    np.testing.assert_allclose(found[2], vectors[2], atol=1e-6)


def test_query_aware_without_queries_changes_nothing() -> None:
    """No pairs, the same vectors."""
    vectors = np.eye(3, dtype=np.float32)
    none = np.array([], dtype=np.int64)
    np.testing.assert_allclose(query_aware_vectors(vectors, np.zeros((0, 3)), none, none), vectors)


def test_query_aware_faults_are_named() -> None:
    """Other spaces, numbers out of range, halves of pairs."""
    vectors, queries = np.zeros((3, 2), np.float32), np.zeros((2, 2), np.float32)
    one = np.array([0])
    with pytest.raises(ValueError, match="one space, found 5 and 2 dimensions"):
        query_aware_vectors(vectors, np.zeros((2, 5)), one, one)
    with pytest.raises(ValueError, match="document rows from 0 to 2, found 3 to 3"):
        query_aware_vectors(vectors, queries, one, np.array([3]))
    with pytest.raises(ValueError, match="query numbers from 0 to 1, found -1 to -1"):
        query_aware_vectors(vectors, queries, np.array([-1]), one)
    with pytest.raises(ValueError, match="Expected pairs, found 1 and 2 numbers"):
        query_aware_vectors(vectors, queries, one, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"document vectors \[rows, dimensions\], found shape"):
        query_aware_vectors(vectors[0], queries, one, one)


def test_collaborative_parts_have_length_one() -> None:
    """Own vector and interactions weigh the same; without interactions only the first is there."""
    vectors = np.array([[2, 0], [0, 3], [1, 1]], dtype=np.float32)
    found = collaborative_vectors(vectors, [{0: 1.0, 1: 1.0}, {0: 1.0}], dim=2, seed=0)
    assert found.shape == (3, 4) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, :2], unit(vectors), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found[:, 2:], axis=1), [1, 1, 0], atol=1e-5)


def test_collaborative_part_is_the_truncated_decomposition() -> None:
    """Angles between documents are those of numpy's own decomposition of the weighted matrix."""
    rng = np.random.default_rng(0)
    gains = rng.integers(0, 4, (12, 9)) * (rng.random((12, 9)) < 0.5) + np.eye(12, 9)
    relevant = [{row: float(g) for row, g in enumerate(column) if g} for column in gains.T]
    matrix = np.log1p(gains) * np.log1p(12 / (gains > 0).sum(axis=0))
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    expected = unit(u[:, :4] * s[:4])
    found = collaborative_vectors(rng.standard_normal((12, 3)), relevant, dim=4, seed=0)[:, 3:]
    has = gains.any(axis=1)
    np.testing.assert_allclose(
        found[has] @ found[has].T, expected[has] @ expected[has].T, atol=1e-3
    )


def test_documents_taken_together_come_together() -> None:
    """Two circles of users, vectors without meaning: clusters are the circles."""
    rng = np.random.default_rng(0)
    circle = np.repeat([0, 1], 20)
    users = [
        {int(row): 1.0 for row in rng.choice(np.flatnonzero(circle == u % 2), 6, replace=False)}
        for u in range(60)
    ]
    x = collaborative_vectors(0.0 * rng.standard_normal((40, 4)), users, dim=2, seed=0)
    labels = kmeans(x, 2, seed=0).labels
    assert len(set(zip(circle.tolist(), labels.tolist(), strict=True))) == 2


def test_interactions_outside_all_directions_are_no_noise() -> None:
    """A document that shares nothing with the strong directions gets no made-up part."""
    relevant = [dict.fromkeys(range(5), 1000.0)] * 30 + [{5: 1.0}]
    found = collaborative_vectors(np.ones((6, 2)), relevant, dim=1, seed=0)
    np.testing.assert_allclose(np.abs(found[:, 2]), [1, 1, 1, 1, 1, 0], atol=1e-5)


def test_collaborative_same_seed_same_vectors_and_few_queries() -> None:
    """A function of its arguments; more directions than queries are left out."""
    rng = np.random.default_rng(0)
    relevant = [{0: 1.0, 1: 2.0}, {2: 1.0, 3: 0.0}]
    x = rng.standard_normal((5, 3))
    first = collaborative_vectors(x, relevant, dim=64, seed=1)
    assert first.shape == (5, 5)
    assert np.array_equal(first, collaborative_vectors(x, relevant, dim=64, seed=1))
    assert (first[3, 3:] == 0).all()  # a gain of 0 is none


def test_collaborative_without_any_query_is_the_own_vector() -> None:
    """No queries, or none with a gain: zero beside the vector."""
    x = unit(np.random.default_rng(0).standard_normal((4, 3)))
    np.testing.assert_allclose(collaborative_vectors(x, [], dim=2, seed=0), x, atol=1e-6)
    found = collaborative_vectors(x, [{}, {}], dim=2, seed=0)
    np.testing.assert_allclose(found, np.hstack([x, np.zeros((4, 2))]), atol=1e-6)


def test_collaborative_faults_are_named() -> None:
    """A row beyond the corpus, no dimension."""
    with pytest.raises(ValueError, match="document rows from 0 to 1, found 7 to 7"):
        collaborative_vectors(np.ones((2, 2)), [{7: 1.0}], dim=1, seed=0)
    with pytest.raises(ValueError, match="at least 1 dimension, found 0"):
        collaborative_vectors(np.ones((2, 2)), [{}], dim=0, seed=0)
