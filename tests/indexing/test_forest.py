"""Forests of balanced trees."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.indexing import hierarchical_kmeans
from hf_genret.indexing.forest import forest


@pytest.fixture(scope="module")
def vectors():
    """120 points of 10 features."""
    return np.random.default_rng(0).normal(size=(120, 10)).astype(np.float32)


def test_every_tree_is_balanced_below_its_number(vectors):
    """The first code is the tree; every child of a node gets floor or ceil of its items."""
    paths = forest(vectors, 3, [4, 5], seed=1)
    assert paths.shape == (120, 3, 3)
    assert (paths[:, :, 0] == np.arange(3)).all()
    for tree in range(3):
        assert (np.bincount(paths[:, tree, 1], minlength=4) == 30).all()
        for code in range(4):
            below = paths[paths[:, tree, 1] == code, tree, 2]
            assert (np.bincount(below, minlength=5) == 6).all()


def test_leaves_of_one_item(vectors):
    """With as many leaves as items every path is its own."""
    paths = forest(vectors[:60], 2, [4, 4, 4], seed=0)
    for tree in range(2):
        assert len(np.unique(paths[:, tree], axis=0)) == 60


def test_trees_see_different_features(vectors):
    """Two groups per feature: a tree of one feature splits by that feature and no other."""
    signs = np.sign(vectors)
    paths = forest(signs * 5, 6, [2], seed=3, feature_ratio=0.1)
    seen = set()
    for tree in range(6):
        codes = paths[:, tree, 1] * 2 - 1
        agree = np.abs((codes[:, None] * signs).mean(0))
        feature = int(agree.argmax())
        assert agree[feature] > 0.75  # balance moves a few
        seen.add(feature)
    assert len(seen) > 1


def test_all_features_of_one_tree_are_hierarchical_kmeans(vectors):
    """A ratio of 1 gives the clusters of the whole vectors, with a start of the tree's own."""
    seed = int(_start_of(7, tree=0))
    wanted = hierarchical_kmeans(vectors, [4, 3], seed=seed)
    assert np.array_equal(forest(vectors, 1, [4, 3], seed=7, feature_ratio=1.0)[:, 0, 1:], wanted)


def _start_of(seed: int, tree: int) -> int:
    rng = np.random.default_rng([seed, tree])
    rng.permutation(10)
    return rng.integers(2**31)


def test_the_seed_fixes_it_and_more_trees_change_none(vectors):
    """Equal seeds, equal forests; another seed, another one."""
    three, five = (forest(vectors, trees, [4, 3], seed=2) for trees in (3, 5))
    assert np.array_equal(three, five[:, :3])
    assert not np.array_equal(three, forest(vectors, 3, [4, 3], seed=4))
    assert not np.array_equal(three[:, 0, 1:], three[:, 1, 1:])


@pytest.mark.parametrize(("trees", "ratio"), [(0, 0.5), (2, 0.0), (2, 1.5)])
def test_what_is_no_forest(vectors, trees, ratio):
    """One sentence."""
    with pytest.raises(ValueError, match="needs a tree or more and a feature_ratio above 0"):
        forest(vectors, trees, [4], seed=0, feature_ratio=ratio)
