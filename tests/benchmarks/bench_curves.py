"""Curves: the constraint step against the number of ids and of rows, beside what others do."""

from __future__ import annotations

import os

import pytest
import torch
from bench_mask import SHAPES, steps
from ids import KINDS, index_of, rows_at
from peers import dict_processor, static_over
from timing import interleaved, medians

COUNT = int(os.environ.get("BENCH_IDS", "1000000"))
COUNTS = [c for c in (10_000, 100_000, 1_000_000, 10_000_000) if c <= 10 * COUNT]
SIZE, FOR_DICT = 256, 100_000


def milliseconds(ids, batch, beams):
    """A step of each method, averaged over levels."""
    index = index_of(ids, SIZE)
    methods = steps(index, batch, beams, SIZE)
    _, chosen = rows_at(index, batch * beams)
    scores = torch.randn(batch * beams, SIZE)
    static = static_over(ids, SIZE)
    if static is not None:
        methods["STATIC"] = static.steps(chosen, scores)
    if len(ids) <= FOR_DICT:
        theirs = dict_processor(ids, beams)
        levels = range(ids.shape[1])
        methods["dict"] = lambda: [theirs(chosen[:, :level], scores) for level in levels]
    return {
        name: value / ids.shape[1]
        for name, value in medians(interleaved(methods, rounds=5)).items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_curves(kind, record, picture):
    """Ids from ten thousand to ten million at 320 rows, and 20 to 3,200 rows at a million ids."""
    by_ids = {count: milliseconds(KINDS[kind](count, SIZE), *SHAPES["16x20"]) for count in COUNTS}
    ids = KINDS[kind](COUNT, SIZE)
    by_rows = {b * m: milliseconds(ids, b, m) for b, m in SHAPES.values()}
    record(f"curves_{kind}", {"codes": SIZE, "by_ids": by_ids, "by_rows": by_rows})
    axes = picture(f"mask_{kind}", f"Constraint step, {kind} ids, K = {SIZE}, 4 levels", 2)
    named = {"free": "unconstrained choice", "mask": "mask", "dict": "dict trie"}
    for axis, (what, points) in zip(
        axes, (("ids, at 320 rows", by_ids), (f"rows, at {COUNT:,} ids", by_rows)), strict=True
    ):
        for method in ("free", "mask", "STATIC", "dict"):
            line = {x: found[method] for x, found in points.items() if method in found}
            if line:
                axis.loglog(*zip(*line.items(), strict=True), "o-", label=named.get(method, method))
        axis.set_xlabel(what)
        axis.set_ylabel("ms a step")
    axes[0].legend(frameon=False)
