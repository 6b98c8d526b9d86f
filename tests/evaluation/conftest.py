from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.data.schema import Documents, Queries, RetrievalData
from hf_genret.demo.tiny import word_tokenizer
from hf_genret.modeling import GenRetConfig, GenRetModel

TEXTS = ["red fox", "blue whale sings", "green frog", "old grey owl", "red whale", "frog"]
DIM = 16


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


@pytest.fixture
def tokenizer():
    """Knows the words of the queries."""
    return word_tokenizer(Documents([str(i) for i in range(len(TEXTS))], [""] * len(TEXTS), TEXTS))


@pytest.fixture
def queries():
    """Six short texts, each with one relevant document."""
    relevant = [{i: 1.0} for i in range(len(TEXTS))]
    return Queries([str(i) for i in range(len(TEXTS))], relevant, texts=TEXTS)


@pytest.fixture
def make_model(tokenizer):
    """Models with random weights and random ids of 30 documents, some of them shared."""

    def make(rows=None, paths=30, **changes):
        settings = {
            "query_encoder": {"type": "bag", "vocab_size": len(tokenizer), "dim": DIM},
            "vector_dim": DIM,
            "codebook_sizes": [4, 3, 5],
            "decoder_dim": DIM,
            "decoder_heads": 2,
            **changes,
        }
        torch.manual_seed(3)
        model = GenRetModel(GenRetConfig(**settings)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.4)
        columns = [torch.randint(0, size, (paths,)) for size in model.config.codebook_sizes]
        model.set_index(torch.stack(columns, 1), rows=rows, vectors=torch.randn(paths, DIM))
        return model

    return make
