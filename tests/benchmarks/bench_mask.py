"""The constraint step alone: how much it adds to a step of an unconstrained search."""

from __future__ import annotations

import os

import pytest
import torch
from ids import KINDS, index_of, rows_at
from peers import dict_processor, marisa_processor, static_over
from timing import interleaved, medians, ratio

from hf_genret.modeling.mask_genret import Children, mask_scores

COUNT = int(os.environ.get("BENCH_IDS", "1000000"))
SHAPES = {"1x20": (1, 20), "16x20": (16, 20), "64x50": (64, 50)}


def steps(index, batch, beams, size):
    """One step of a search, averaged over levels: the choice without ids, and the mask."""
    nodes, _ = rows_at(index, batch * beams)
    make = torch.Generator().manual_seed(1)
    logits = torch.randn(batch * beams, size, generator=make)
    before = torch.randn(batch, beams, 1, generator=make)

    def choose(scores):
        total = (before + scores.view(batch, beams, size)).flatten(1)
        return total.topk(beams, dim=1)

    def free():
        for _ in nodes:
            choose(logits.log_softmax(-1))

    scratch = logits.clone()  # a search masks what it has just computed, in place

    def mask():
        for level, node in enumerate(nodes):
            mask_scores(Children(index, level, node), scratch, out=scratch)

    return {"free": free, "mask": mask}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [256, 2048])
def test_against_an_unconstrained_step(kind, size, record, goals):
    """log_softmax and top-k of a step, and the mask beside it, at a million ids."""
    index = index_of(KINDS[kind](COUNT, size), size)
    figures = {}
    for shape, (batch, beams) in SHAPES.items():
        times = interleaved(steps(index, batch, beams, size))
        share = ratio(times, "mask", "free")
        figures[shape] = {**medians(times), "mask_of_free": share}
        if batch > 1:
            most = 0.55 if kind == "zipf" else 0.40 if shape == "16x20" else 0.35
            goals.add(
                f"mask step, {COUNT:,} {kind} ids, K = {size}, {shape}",
                *(most, share, "unconstrained log_softmax and top-k"),
            )
    record(f"mask_{kind}_{size}", {"ids": COUNT, "codes": size, "milliseconds": figures})


def test_ids_of_a_trained_checkpoint(checkpoint, record, goals):
    """The same on learned ids."""
    from hf_genret import GenRetriever

    index = GenRetriever.from_pretrained(checkpoint, device="cpu").model.index
    if len(set(index.sizes)) > 1:
        pytest.skip(f"levels of different sizes: {index.sizes}")
    figures, size = {}, index.sizes[0]
    for shape, (batch, beams) in SHAPES.items():
        times = interleaved(steps(index, batch, beams, size))
        share = ratio(times, "mask", "free")
        figures[shape] = {**medians(times), "mask_of_free": share}
        if batch > 1:
            goals.add(
                f"mask step, learned ids ({index.num_nodes[-1]:,}, K = {size}), {shape}",
                *(0.55, share, "unconstrained log_softmax and top-k"),
            )
    facts = {"ids": index.num_nodes[-1], "sizes": index.sizes, "documents": len(index)}
    record("mask_checkpoint", {**facts, "milliseconds": figures})


def test_growth_with_the_number_of_ids(record, goals):
    """From ten thousand ids to ten million, at 320 rows."""
    times = {}
    counts = [c for c in (10_000, 100_000, 1_000_000, 10_000_000) if c <= 10 * COUNT]
    for count in counts:
        index = index_of(KINDS["random"](count, 256), 256)
        mask = steps(index, 16, 20, 256)["mask"]
        times[count] = medians(interleaved({"mask": mask}))["mask"]
    grown = times[counts[-1]] / times[counts[0]]
    goals.add(f"mask step, growth from {counts[0]:,} to {counts[-1]:,} ids", 3.0, grown, "itself")
    record("mask_growth", {"codes": 256, "rows": 320, "milliseconds": times})


@pytest.mark.parametrize("shape", SHAPES)
def test_against_transformers_processor(shape, record, goals):
    """PrefixConstrainedLogitsProcessor over a dict trie, and over marisa-trie where it is there."""
    size, (batch, beams) = 256, SHAPES[shape]
    count = min(COUNT, 100_000)  # of dictionaries
    ids = KINDS["random"](count, size)
    index = index_of(ids, size)
    nodes, chosen = rows_at(index, batch * beams)
    scores = torch.randn(batch * beams, size)
    theirs, marisa = dict_processor(ids, beams), marisa_processor(ids, beams)

    def ours():
        for level, node in enumerate(nodes):
            mask_scores(Children(index, level, node), scores)

    def of(processor):
        return lambda: [processor(chosen[:, :level], scores) for level in range(len(nodes))]

    methods = {"ours": ours, "dict": of(theirs)}
    if marisa is not None and batch * beams <= 320:
        methods["marisa"] = of(marisa)
    for level, node in enumerate(nodes):  # the same mask, before anything is timed
        masked = mask_scores(Children(index, level, node), scores)
        assert torch.equal(theirs(chosen[:, :level], scores), masked)
    times = interleaved(methods, rounds=5)
    for name, processor in (("a dict trie", "dict"), ("marisa-trie", "marisa")):
        goals.add(
            f"mask, times faster than {name}, {count:,} ids, K = {size}, {shape}",
            20 if batch == 1 else 75,
            ratio(times, processor, "ours") if processor in methods else None,
            f"PrefixConstrainedLogitsProcessor with {name}",
            least=True,
        )
    record(f"mask_peers_{shape}", {"ids": count, "codes": size, "milliseconds": medians(times)})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [256, 2048])
def test_against_static(kind, size, record, goals):
    """STATIC's torch code on the same ids and rows; it leaves candidates, we leave a whole mask."""
    ids = KINDS[kind](COUNT, size)
    theirs, index = static_over(ids, size), index_of(ids, size)
    figures = {}
    for shape, (batch, beams) in SHAPES.items():
        faster = None
        if theirs is not None:
            _, chosen = rows_at(index, batch * beams)
            static = theirs.steps(chosen, torch.randn(batch * beams, size))
            methods = {"ours": steps(index, batch, beams, size)["mask"], "static": static}
            times = interleaved(methods, rounds=7)
            figures[shape], faster = medians(times), ratio(times, "static", "ours")
        if batch > 1 or kind == "random":
            goals.add(
                f"mask, times faster than STATIC, {COUNT:,} {kind} ids, K = {size}, {shape}",
                *(3.5 if kind == "zipf" else 1.0, faster, "STATIC's torch code"),
                least=True,
            )
    record(f"mask_static_{kind}_{size}", {"ids": COUNT, "milliseconds": figures})
