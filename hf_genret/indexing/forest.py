"""Several balanced trees over the same items, each on features of its own (RecForest)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_genret.indexing.codes import hierarchical_kmeans


def forest(
    x: np.ndarray,
    trees: int,
    sizes: Sequence[int],
    *,
    seed: int,
    feature_ratio: float = 0.5,
    cosine: bool = False,
    iterations: int = 15,
) -> np.ndarray:
    """Balanced k-ary trees in one path space: an id is the number of a tree and the path in it.

    Each tree is a hierarchical balanced k-means on a random subset of the features, so that items
    at the border of two clusters in one tree stand together in another (wuchao-li/RecForest:
    `kmeans_equal`, `feature_ratio`). With enough levels a leaf holds one item.

    Args:
        x: Vectors, float32 [n, d].
        trees: Number of trees T.
        sizes: Codes of each level of a tree, without the tree's number.
        seed: Of the subsets and of all starts; the first trees of a larger forest are the same.
        feature_ratio: Share of the features that a tree sees, above 0 to 1; 1 leaves trees to
            differ by their starts alone.
        cosine: Cluster directions instead of points.
        iterations: At most so many steps of every k-means.

    Returns:
        Paths, int32 [n, T, 1 + levels].

    Raises:
        ValueError: When a number is out of range.
    """
    x = np.asarray(x, dtype=np.float32)
    if trees < 1 or not 0 < feature_ratio <= 1:
        raise ValueError(
            f"A forest needs a tree or more and a feature_ratio above 0 up to 1, found {trees} "
            f"and {feature_ratio}."
        )
    paths = np.zeros((len(x), trees, 1 + len(sizes)), dtype=np.int32)
    count = max(1, round(feature_ratio * x.shape[1]))
    for tree in range(trees):
        rng = np.random.default_rng([seed, tree])
        features = np.sort(rng.permutation(x.shape[1])[:count])
        paths[:, tree, 0] = tree
        paths[:, tree, 1:] = hierarchical_kmeans(
            x[:, features],
            sizes,
            seed=int(rng.integers(2**31)),
            cosine=cosine,
            iterations=iterations,
        )
    return paths
