"""Index building: codes of equal load beside a plain product, k-means beside FAISS."""

from __future__ import annotations

import os
from importlib import import_module

import numpy as np
import pytest
import torch
from timing import interleaved, medians, ratio

from hf_genret.indexing import assign, balanced_kmeans, kmeans

ITEMS = min(int(os.environ.get("BENCH_ITEMS", "100000")), 100_000)
CODES, DIM = 256, 384


@pytest.fixture(scope="module")
def points():
    """Unit vectors around 400 centres and 256 directions to share them out to."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, DIM), dtype=np.float32)[rng.integers(400, size=ITEMS)]
    x += 0.5 * rng.standard_normal((ITEMS, DIM), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, x[rng.choice(ITEMS, CODES, replace=False)]


def test_balanced_assignment(points, record, goals):
    """Exact capacity, no slack: its time beside the product, its objective beside the free one."""
    x, centres = points
    items, codes = torch.from_numpy(x), torch.from_numpy(centres)
    scores = (items @ codes.T).numpy()
    times = interleaved(
        {
            "product": lambda: (items @ codes.T).argmax(1),
            "greedy": lambda: assign(scores, method="greedy"),
            "exact": lambda: assign(scores, method="exact"),
            "sinkhorn": lambda: assign(scores, method="sinkhorn"),
        },
        rounds=3,
    )
    objective = {}
    for rule in ("argmax", "greedy", "exact", "sinkhorn"):
        found = assign(scores, method=rule).codes
        objective[rule] = float(scores[np.arange(ITEMS), found].mean())
        if rule != "argmax":
            loads = np.bincount(found, minlength=CODES)
            assert loads.max() - loads.min() <= 1
    best = max(("greedy", "exact", "sinkhorn"), key=objective.__getitem__)
    quickest = min(("greedy", "exact", "sinkhorn"), key=lambda rule: medians(times)[rule])
    goals.add(
        f"balanced assignment ({quickest}), {ITEMS:,} x {CODES}, time",
        *(4.0, ratio(times, quickest, "product"), "one N x K product with its argmax"),
    )
    goals.add(
        f"balanced assignment ({best}), {ITEMS:,} x {CODES}, objective",
        *(0.845, objective[best] / objective["argmax"], "each item's best code, whatever the load"),
        least=True,
    )
    record("balanced", {"items": ITEMS, "objective": objective, "milliseconds": medians(times)})


def test_kmeans(points, record, goals):
    """Ten Lloyd steps over all points: ours, ours with FAISS's steps as installed, FAISS alone."""
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(torch.get_num_threads())
    x, _ = points

    def theirs():
        whole = faiss.Kmeans(DIM, CODES, niter=10, seed=0, max_points_per_centroid=ITEMS)
        whole.train(x)

    def ours():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(import_module("hf_genret.indexing.kmeans"), "find_spec", lambda _: None)
            kmeans(x, CODES, seed=0, iterations=10)

    methods = {"ours": ours, "with FAISS": lambda: kmeans(x, CODES, seed=0, iterations=10)}
    times = interleaved({**methods, "faiss": theirs}, rounds=3)
    for name in methods:
        said = "" if name == "ours" else f" {name}"
        goals.add(
            f"k-means{said}, {ITEMS:,} points, {CODES} clusters, 10 steps",
            *(1.8, ratio(times, name, "faiss"), "faiss.Kmeans over all points"),
        )
    record("kmeans", {"items": ITEMS, "milliseconds": medians(times)})


def test_balanced_kmeans_beside_a_min_cost_flow(points, record, goals):
    """k-means-constrained on what it can take: 4,000 points, 64 clusters of one size, 3 steps."""
    x, codes, steps = points[0][:4000], 64, 3
    try:
        from k_means_constrained import KMeansConstrained
    except ImportError:
        KMeansConstrained = None
    name = f"balanced k-means, 4,000 points, {codes} clusters, times faster than a min-cost flow"
    if KMeansConstrained is None:
        goals.add(name, 1.0, None, "k-means-constrained", least=True)
        return
    least, most = len(x) // codes, -(-len(x) // codes)
    settings = {"size_min": least, "size_max": most, "n_init": 1, "max_iter": steps}

    def theirs():
        return KMeansConstrained(codes, random_state=0, **settings).fit(x)

    def ours():
        return balanced_kmeans(x, codes, seed=0, iterations=steps)

    times = interleaved({"ours": ours, "theirs": theirs}, rounds=3)
    found = ours()
    own = float(np.square(x - found.centroids[found.labels]).sum())
    goals.add(name, 1.0, ratio(times, "theirs", "ours"), "k-means-constrained", least=True)
    figures = {
        "milliseconds": medians(times),
        "inertia": {"ours": own, "theirs": float(theirs().inertia_)},
    }
    record("balanced_kmeans", figures)
