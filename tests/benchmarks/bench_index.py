"""What the id index weighs and how long it takes to build."""

from __future__ import annotations

import os
import time

import pytest
from ids import KINDS, LEVELS, index_of

COUNT = int(os.environ.get("BENCH_IDS", "1000000"))


@pytest.mark.parametrize(("size", "most"), [(256, 11), (2048, 16)])
def test_bytes_and_seconds(size, most, record, goals):
    """Bytes of the tree alone an id, what stands beside it, and seconds from sorted ids."""
    ids = KINDS["random"](COUNT, size)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        index = index_of(ids, size)
        seconds.append(time.perf_counter() - start)
    tree = sum(array.nbytes for level in range(LEVELS) for array in index.level(level))
    beside = {
        "paths": index.paths.nbytes,
        "rows": index.rows.nbytes,
        "buckets": index.buckets.nbytes,
        "keys": sum(index.keys(level).nbytes for level in range(LEVELS)),
    }
    goals.add(f"bytes an id, {COUNT:,} ids, K = {size}", most, tree / COUNT, "goal alone")
    million = sorted(seconds)[2] / COUNT * 1e6
    goals.add(f"seconds to build from a million sorted ids, K = {size}", 0.1, million, "goal alone")
    bytes_an_id = {name: round(value / COUNT, 2) for name, value in beside.items()}
    record(
        f"index_{size}",
        {"ids": COUNT, "tree": tree / COUNT, "beside": bytes_an_id, "seconds": seconds},
    )
