from __future__ import annotations

from importlib import import_module
from itertools import permutations

import numpy as np
import pytest

from hf_genret.indexing.kmeans import Clusters, balanced_kmeans, kmeans

module = import_module("hf_genret.indexing.kmeans")  # the package has the function of that name


def blobs(sizes: list[int], seed: int = 0, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Well-separated groups of the given sizes and the group of every row."""
    rng = np.random.default_rng(seed)
    centres = 10 * np.eye(len(sizes), d)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return (centres[group] + 0.1 * rng.standard_normal((len(group), d))).astype(np.float32), group


def error(x: np.ndarray, found: Clusters) -> float:
    return float(np.square(x - found.centroids[found.labels]).sum())


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist()))


def test_kmeans_finds_separated_groups() -> None:
    """Groups far apart come back whole, centroids are their means."""
    x, group = blobs([30, 5, 12, 3])
    found = kmeans(x, 4, seed=0)
    assert same_partition(group, found.labels)
    for label in range(4):
        np.testing.assert_allclose(
            found.centroids[label], x[found.labels == label].mean(axis=0), atol=1e-5
        )


@pytest.mark.parametrize("with_faiss", [False, True])
@pytest.mark.parametrize("cosine", [False, True])
def test_kmeans_of_many_points(with_faiss: bool, cosine: bool, monkeypatch) -> None:
    """Beyond the limit, with FAISS or without, the groups and their means are the same."""
    if with_faiss:
        pytest.importorskip("faiss")
    monkeypatch.setattr(module, "_MANY", 100)
    monkeypatch.setattr(module, "find_spec", lambda name: with_faiss or None)
    x, group = blobs([90, 50, 70, 60])
    found = kmeans(x, 4, seed=0, cosine=cosine)
    assert same_partition(group, found.labels)
    for label in range(4):
        mean = x[found.labels == label]
        mean = (mean / np.linalg.norm(mean, axis=1, keepdims=True) if cosine else mean).mean(axis=0)
        mean = mean / np.linalg.norm(mean) if cosine else mean
        np.testing.assert_allclose(found.centroids[label], mean, atol=1e-4)


def test_the_start_is_drawn_among_some(monkeypatch) -> None:
    """Of many points k-means++ sees a sample, the same for the same seed."""
    monkeypatch.setattr(module, "_MANY", 1 << 15)
    x = np.random.default_rng(0).standard_normal((40_000, 2)).astype(np.float32)
    points, seen = module.as_points(x, 4, False), []
    real = module._squares
    monkeypatch.setattr(module, "_squares", lambda p: seen.append(len(p)) or real(p))
    first, again = (module._plus_plus(points, 4, seed=3) for _ in range(2))
    assert seen == [1 << 14] * 2 and first.equal(again)


def test_balanced_finds_groups_of_equal_size() -> None:
    """Where groups are equal, the balanced clusters are the groups."""
    x, group = blobs([12, 12, 12, 12])
    assert same_partition(group, balanced_kmeans(x, 4, seed=0).labels)


@pytest.mark.parametrize("assignment", ["exact", "greedy"])
@pytest.mark.parametrize(("n", "k"), [(50, 4), (203, 7), (8, 8), (3, 6), (1, 1)])
def test_balanced_sizes_are_floor_or_ceil(n: int, k: int, assignment: str) -> None:
    """Whatever the data, sizes differ by one at most."""
    x = np.random.default_rng(0).standard_exponential((n, 6)).astype(np.float32)
    found = balanced_kmeans(x, k, seed=1, assignment=assignment)  # type: ignore[arg-type]
    loads = np.bincount(found.labels, minlength=k)
    assert loads.min() >= n // k and loads.max() <= -(-n // k)
    assert found.labels.dtype == np.int32 and found.centroids.shape == (k, 6)


def test_balanced_reaches_the_best_split_of_six_points() -> None:
    """On six points, one of a few seeds gives the best of all splits into three pairs."""
    x = np.random.default_rng(3).standard_normal((6, 2)).astype(np.float32)

    def cost(order: tuple[int, ...]) -> float:
        pairs = x[list(order)].reshape(3, 2, 2)
        return float(np.square(pairs - pairs.mean(axis=1, keepdims=True)).sum())

    best = min(cost(order) for order in permutations(range(6)))
    found = min(error(x, balanced_kmeans(x, 3, seed=seed)) for seed in range(10))
    assert found == pytest.approx(best, rel=1e-4)


def test_more_steps_never_cost_more() -> None:
    """Exact assignment and means both lower the error, so that it only falls."""
    x = np.random.default_rng(0).standard_exponential((400, 8)).astype(np.float32)
    errors = [error(x, balanced_kmeans(x, 6, seed=0, iterations=i)) for i in (1, 2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)


def test_exact_is_no_worse_than_greedy() -> None:
    """The same start, the better assignment."""
    x = np.random.default_rng(5).standard_exponential((500, 8)).astype(np.float32)
    exact, greedy = (
        error(x, balanced_kmeans(x, 10, seed=0, assignment=way, iterations=1))
        for way in ("exact", "greedy")
    )
    assert exact <= greedy


def test_cosine_clusters_directions() -> None:
    """Lengths do not matter and centroids have length 1."""
    x, group = blobs([10, 10, 10])
    lengths = np.random.default_rng(0).uniform(0.1, 50, (30, 1)).astype(np.float32)
    found = balanced_kmeans(x * lengths, 3, seed=0, cosine=True)
    assert same_partition(group, found.labels)
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-5)


def test_duplicates_do_no_harm() -> None:
    """Fewer distinct points than clusters: finite centroids, balanced sizes still exact."""
    x = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    assert np.isfinite(kmeans(x, 5, seed=0).centroids).all()
    assert np.bincount(balanced_kmeans(x, 5, seed=0).labels).tolist() == [8] * 5


def test_few_items_keep_to_themselves() -> None:
    """Fewer items than clusters: each its own, at its own place; the others at the mean."""
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    found = balanced_kmeans(x, 5, seed=0)
    assert len(set(found.labels.tolist())) == 3
    np.testing.assert_allclose(found.centroids[found.labels], x)
    empty = np.setdiff1d(np.arange(5), found.labels)
    np.testing.assert_allclose(found.centroids[empty], np.tile(x.mean(axis=0), (2, 1)), atol=1e-6)


@pytest.mark.parametrize("method", [kmeans, balanced_kmeans])
def test_same_seed_same_clusters(method: type) -> None:
    """Twice the same seed gives the same bits, and the input is left alone."""
    x = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    before = x.copy()
    first, second = method(x, 6, seed=4), method(x, 6, seed=4)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.centroids, second.centroids)
    assert np.array_equal(x, before)


def test_unusable_input_is_named() -> None:
    """No vectors, no clusters or a NaN: one sentence each."""
    x = np.ones((4, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="found 0 and"):
        kmeans(x, 0, seed=0)
    with pytest.raises(ValueError, match="at least 1 cluster and 1 vector"):
        kmeans(x[:0], 2, seed=0)
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        balanced_kmeans(x, 2, seed=0)
