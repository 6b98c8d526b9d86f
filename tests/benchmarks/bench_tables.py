"""A table of a million items: moving the rows of a batch against moving all of them."""

from __future__ import annotations

import torch
from timing import interleaved, medians, ratio
from torch import nn

from hf_genret.training.sparse_tables import RowAdamW, clip_gradients

ROWS, WIDTH = 1_000_000, 96
ROUNDS = 7
READ = 16_384  # items of a batch, histories and negatives together


def learner(made_by, sparse, **settings):
    """A whole step of a table, from reading it to the update, and the update alone."""
    torch.manual_seed(0)
    table = nn.Embedding(ROWS, WIDTH, sparse=sparse)
    optimizer = made_by(table.parameters(), lr=1e-3, **settings)
    clip = clip_gradients if sparse else nn.utils.clip_grad_norm_
    rows = torch.randint(ROWS, (READ,), generator=torch.Generator().manual_seed(1))
    weight = torch.randn(READ, WIDTH)

    def whole():
        optimizer.zero_grad()
        table(rows).backward(weight)
        clip(table.parameters(), 1.0)
        optimizer.step()

    return whole, optimizer.step


def test_sparse_update_of_a_large_table(record, goals):
    """torch's AdamW as it is by default, and fused, which the Trainer would take.

    The rows cost what their places in memory cost: three tables are read and written at 16,384
    places each, against three that are read and written from end to end.
    """
    learners = {
        "rows": learner(RowAdamW, True, fused=True),
        "torch_sparse_adam": learner(torch.optim.SparseAdam, True),
        "dense": learner(torch.optim.AdamW, False),
        "dense_fused": learner(torch.optim.AdamW, False, fused=True),
    }
    whole = interleaved({name: pair[0] for name, pair in learners.items()}, rounds=ROUNDS)
    update = interleaved({name: pair[1] for name, pair in learners.items()}, rounds=ROUNDS)
    for peer, said in (("dense", "dense AdamW"), ("dense_fused", "fused dense AdamW")):
        goals.add(
            f"sparse update of {ROWS:,} x {WIDTH}, {READ:,} rows read, whole step, to {said}",
            20.0,
            ratio(whole, peer, "rows"),
            said,
            least=True,
        )
    figures = {"whole_step": medians(whole), "update_alone": medians(update)}
    record("sparse_tables", {"milliseconds": figures})
