"""Ids to measure on, evenly random or skewed, and rows of a search that stand among them."""

from __future__ import annotations

import torch

from hf_genret.modeling import DocidIndex, GenRetConfig

LEVELS = 4


def random_ids(count, size, seed=0):
    """Unique ids, every code as likely as any other, [count, 4]."""
    return _unique(count, size, torch.ones(size, dtype=torch.float64), seed)


def zipf_ids(count, size, seed=0):
    """Unique ids whose codes follow Zipf's law on every level, [count, 4]."""
    return _unique(count, size, 1 / torch.arange(1, size + 1, dtype=torch.float64), seed)


def _unique(count, size, weights, seed):
    make = torch.Generator().manual_seed(seed)
    edges = weights.cumsum(0) / weights.sum()
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        wanted = int(1.2 * count) + 1024
        drawn = torch.rand(wanted, LEVELS, dtype=torch.float64, generator=make)
        codes = torch.searchsorted(edges, drawn).clamp(max=size - 1)
        key = torch.zeros(wanted, dtype=torch.int64)
        for level in range(LEVELS):
            key = key * size + codes[:, level]
        found = torch.unique(torch.cat([found, key]))
    key = found[torch.randperm(len(found), generator=make)[:count]].sort().values
    return torch.stack([key // size ** (LEVELS - 1 - i) % size for i in range(LEVELS)], dim=1)


KINDS = {"random": random_ids, "zipf": zipf_ids}


def index_of(ids, size):
    """The id index over ids."""
    index = DocidIndex(GenRetConfig(codebook_sizes=[size] * ids.shape[1]))
    index.build(ids)
    return index


def rows_at(index, rows, seed=0):
    """Nodes [rows] of every level, those of ids drawn at random."""
    make = torch.Generator().manual_seed(seed)
    chosen = index.paths[torch.randint(len(index), (rows,), generator=make)].long()
    return [index.locate(chosen[:, :level]) for level in range(index.num_levels)], chosen
