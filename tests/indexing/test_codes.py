from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hf_genret.indexing import (
    hierarchical_kmeans,
    node_centroids,
    node_numbers,
    random_codes,
    residual_kmeans,
)


def vectors(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def children_are_balanced(codes: np.ndarray, sizes: list[int]) -> bool:
    for level, k in enumerate(sizes):
        above = node_numbers(codes, sizes, level - 1) if level else np.zeros(len(codes), int)
        for parent in np.unique(above):
            loads = np.bincount(codes[above == parent, level], minlength=k)
            n = int(loads.sum())
            if loads.min() < n // k or loads.max() > -(-n // k):
                return False
    return True


@pytest.mark.parametrize("sizes", [[4], [4, 4], [3, 5, 2], [8, 8, 8]])
def test_every_child_has_floor_or_ceil_of_its_parent(sizes: list[int]) -> None:
    """Also where a node has fewer items than codes."""
    codes = hierarchical_kmeans(vectors(120), sizes, seed=0)
    assert codes.shape == (120, len(sizes)) and codes.dtype == np.int32
    assert (codes >= 0).all() and (codes < np.array(sizes)).all()
    assert children_are_balanced(codes, sizes)
    assert children_are_balanced(random_codes(120, sizes, seed=0), sizes)


def test_enough_levels_give_every_item_its_own_id() -> None:
    """More leaves than items and balance all the way: no two items share a leaf."""
    for codes in (
        hierarchical_kmeans(vectors(60), [4, 4, 4], seed=0),
        random_codes(60, [64], seed=0),
    ):
        assert len(np.unique(codes, axis=0)) == 60


def test_unbalanced_tree_follows_the_data() -> None:
    """Plain k-means keeps groups of different size whole, on both levels."""
    rng = np.random.default_rng(0)
    far, near = 50 * np.eye(2, 6), 5 * np.eye(6)[2:4]
    group = np.repeat(np.arange(4), [30, 10, 5, 15])
    x = (far[group // 2] + near[group % 2] + 0.01 * rng.standard_normal((60, 6))).astype(np.float32)
    codes = hierarchical_kmeans(x, [2, 2], seed=0, balanced=False)
    nodes = node_numbers(codes, [2, 2], 1)
    assert len(set(zip(group.tolist(), nodes.tolist(), strict=True))) == 4


def test_a_code_means_the_same_offset_under_every_parent() -> None:
    """Four far groups, each with the same four corners: one name a corner."""
    rng = np.random.default_rng(0)
    far = 100 * np.eye(4, 8)
    corners = np.zeros((4, 8))
    corners[:, 4:] = 5 * np.eye(4)
    group, corner = np.repeat(np.arange(4), 40), np.tile(np.arange(4), 40)
    x = (far[group] + corners[corner] + 0.01 * rng.standard_normal((160, 8))).astype(np.float32)
    codes = hierarchical_kmeans(x, [4, 4], seed=0)
    assert len(set(zip(corner.tolist(), codes[:, 1].tolist(), strict=True))) == 4


def test_residual_codes_shrink_the_error() -> None:
    """Each level explains a part of what the ones before left over."""
    x = vectors(500)
    codes = residual_kmeans(x, [8, 8, 8], seed=0)
    rest, errors = x.copy(), [float(np.square(x).sum())]
    for column in codes.T:
        means = np.stack([rest[column == code].mean(axis=0) for code in range(8)])
        rest = rest - means[column]
        errors.append(float(np.square(rest).sum()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


def test_random_codes_know_nothing_of_the_order() -> None:
    """Neighbouring rows do not share codes more often than chance."""
    codes = random_codes(4000, [10, 10], seed=0)
    same = (codes[1:, 0] == codes[:-1, 0]).mean()
    assert 0.07 < same < 0.13
    assert not np.array_equal(codes, random_codes(4000, [10, 10], seed=1))


def test_node_numbers_are_mixed_radix() -> None:
    """The first code is the most significant digit."""
    codes = np.array([[0, 0, 0], [1, 2, 3], [2, 0, 4]], dtype=np.int32)
    assert node_numbers(codes, [3, 4, 5], 2).tolist() == [0, 1 * 20 + 2 * 5 + 3, 44]
    assert node_numbers(codes, [3, 4, 5], 0).tolist() == [0, 1, 2]


def test_node_centroids_are_means_and_empty_nodes_inherit() -> None:
    """Two levels by hand: filled nodes, an empty child, an empty parent."""
    x = np.array([[1, 0], [3, 0], [0, 4]], dtype=np.float32)
    codes = np.array([[0, 0], [0, 0], [2, 1]], dtype=np.int32)
    top = node_centroids(x, codes, [3, 2], 0)
    np.testing.assert_allclose(top, np.array([[2, 0], [4 / 3, 4 / 3], [0, 4]]), atol=1e-6)
    leaves = node_centroids(x, codes, [3, 2], 1)
    expected = np.array([[2, 0], [2, 0], [4 / 3, 4 / 3], [4 / 3, 4 / 3], [0, 4], [0, 4]])
    np.testing.assert_allclose(leaves, expected, atol=1e-6)
    lengths = np.linalg.norm(node_centroids(x, codes, [3, 2], 1, normalize=True), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@pytest.mark.parametrize("make", [hierarchical_kmeans, residual_kmeans])
def test_same_seed_same_codes(make: Callable[..., np.ndarray]) -> None:
    """Codes are a function of vectors, sizes and seed."""
    x = vectors(200)
    assert np.array_equal(make(x, [4, 4], seed=3), make(x, [4, 4], seed=3))
    assert np.array_equal(random_codes(50, [4, 4], seed=3), random_codes(50, [4, 4], seed=3))
