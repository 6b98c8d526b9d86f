from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.schema import Documents, Queries, RetrievalData


@pytest.fixture
def random_split():
    """Makes queries with graded judgments and rankings of different lengths."""

    def make(num_queries=40, num_documents=60, depth=30, seed=0):
        rng = np.random.default_rng(seed)
        relevant, rows = [], []
        for _ in range(num_queries):
            judged = rng.choice(num_documents, rng.integers(1, 9), replace=False)
            relevant.append({int(row): float(rng.integers(1, 4)) for row in judged})
            rows.append(rng.permutation(num_documents)[: rng.integers(1, depth + 1)])
        return Queries([f"q{i}" for i in range(num_queries)], relevant), rows

    return make


@pytest.fixture
def shop():
    """Five items; three users whose training baskets are {0, 1, 2}, {0, 1}, {3, 0}."""

    def queries(entries):
        return Queries(
            ids=[f"{user}:{target}" for user, _, target in entries],
            relevant=[{target: 1.0} for _, _, target in entries],
            histories=[np.asarray(history, dtype=np.int64) for _, history, _ in entries],
            users=np.asarray([user for user, _, _ in entries]),
        )

    names = ["a", "b", "c", "d", "e"]
    return RetrievalData(
        name="shop",
        fingerprint="0" * 16,
        documents=Documents(names, names, names),
        splits={
            "train": queries([(0, [0], 1), (0, [0, 1], 2), (1, [0], 1), (2, [3], 0)]),
            "test": queries([(0, [0, 1, 2], 3), (1, [0, 1], 4), (2, [3, 0], 1)]),
        },
        num_users=3,
        notes=["leave-one-out"],
    )
