"""What it takes to give codes to more items than a matrix in memory has rows.

`BENCH_ITEMS` sets the number of items; the log-probabilities of 256 codes are a random function of
vectors of 16 dimensions. Memory is the peak beside what stood there before: imports and vectors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from memory import forget_peaks, memory

CODES, DIM = 256, 16
BELOW = 16  # of the first level's codes, below which the second level is assigned


class Watch:
    """Seconds, by the clock and of work, and MB above what the process held at the start."""

    def __init__(self):
        self.base, self.figures = memory("VmRSS"), {}

    def __call__(self, name, function):
        forget_peaks()
        start, worked = time.perf_counter(), time.process_time()
        result = function()
        self.figures[name] = {
            "seconds": round(time.perf_counter() - start, 1),
            "cpu_seconds": round(time.process_time() - worked, 1),
            "peak_mb": round(memory("VmHWM") - self.base),
        }
        return result


def measure(items):
    """Every rule on the first level, the exact one below some codes, and clusters of one size."""
    from hf_genret.indexing import assign, assign_within, balanced_kmeans
    from hf_genret.indexing.priced import priced_codes
    from hf_genret.indexing.scratch import ScratchMatrix, blocks

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((items, DIM), dtype=np.float32)
    vectors *= np.exp(-np.arange(DIM, dtype=np.float32) / 8)
    books = rng.standard_normal((2, DIM, CODES), dtype=np.float32)
    watch = Watch()

    def fill(scores, numbers, book):
        for rows in blocks(*scores.shape):
            some = vectors[numbers[rows]] @ book
            some -= some.max(axis=1, keepdims=True)
            scores.put(rows, some - np.log(np.exp(some).sum(axis=1, keepdims=True)))

    with ScratchMatrix(items, CODES) as scores:
        watch("write", lambda: fill(scores, np.arange(items), books[0]))
        found = {}
        for rule in ("argmax", "greedy", "sinkhorn"):
            found[rule] = watch(rule, lambda rule=rule: assign(scores, method=rule).codes)
        found["exact"], _, gap = watch(
            "exact", lambda: priced_codes(lambda rows: -scores.take(rows), items, CODES)
        )
        for rule, codes in found.items():
            watch.figures[rule]["log_likelihood"] = likelihood(scores, codes)
            watch.figures[rule]["largest"] = int(np.bincount(codes, minlength=CODES).max())
        watch.figures["exact"]["at_most_below_the_optimum"] = round(gap / items, 8)
    parents = found["exact"]
    below = np.flatnonzero(parents < BELOW)
    with ScratchMatrix(len(below), CODES) as scores:
        fill(scores, below, books[1])
        name = f"exact below {BELOW} parents"
        watch(name, lambda: assign_within(scores, parents[below]))
    watch("balanced k-means, 1 step", lambda: balanced_kmeans(vectors, CODES, seed=0, iterations=1))
    return watch.figures


def likelihood(scores, codes):
    """Mean log-probability of the codes."""
    from hf_genret.indexing.scratch import blocks

    total = 0.0
    for rows in blocks(*scores.shape):
        total += float(scores.take(rows)[np.arange(len(rows)), codes[rows]].sum(dtype=np.float64))
    return round(total / len(codes), 6)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_assignment(record):
    """A fresh process, so that nothing else counts."""
    items = int(os.environ.get("BENCH_ITEMS", "200000"))
    command = [sys.executable, __file__, str(items)]
    here = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=here)
    record("assignment", {"items": items, "codes": CODES, **json.loads(done.stdout)})


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]))))
