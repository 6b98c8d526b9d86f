"""Index building: codes of equal load beside a plain product, k-means beside FAISS."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from timing import interleaved, medians, ratio

from hf_genret.indexing import assign, kmeans

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
    """Ten Lloyd steps over all points, here and in FAISS."""
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(torch.get_num_threads())
    x, _ = points

    def theirs():
        whole = faiss.Kmeans(DIM, CODES, niter=10, seed=0, max_points_per_centroid=ITEMS)
        whole.train(x)

    times = interleaved(
        {"ours": lambda: kmeans(x, CODES, seed=0, iterations=10), "faiss": theirs}, rounds=3
    )
    goals.add(
        f"k-means, {ITEMS:,} points, {CODES} clusters, 10 steps",
        *(1.8, ratio(times, "ours", "faiss"), "faiss.Kmeans over all points"),
    )
    record("kmeans", {"items": ITEMS, "milliseconds": medians(times)})
