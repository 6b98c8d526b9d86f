"""The constraint step alone: how much it adds to a step of an unconstrained search."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from ids import KINDS, index_of, rows_at
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


def test_ids_of_a_trained_checkpoint(record):
    """The same on learned ids, of `BENCH_CHECKPOINT` or what `hf-genret quickstart` left here."""
    folder = Path(os.environ.get("BENCH_CHECKPOINT", "genret-stdlib"))
    if not folder.is_dir():
        pytest.skip("no checkpoint: run hf-genret quickstart, or set BENCH_CHECKPOINT")
    from hf_genret import GenRetriever

    index = GenRetriever.from_pretrained(folder, device="cpu").model.index
    if len(set(index.sizes)) > 1:
        pytest.skip(f"levels of different sizes: {index.sizes}")
    figures = {}
    for shape, (batch, beams) in SHAPES.items():
        times = interleaved(steps(index, batch, beams, index.sizes[0]))
        figures[shape] = {**medians(times), "mask_of_free": ratio(times, "mask", "free")}
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


class DictTrie:
    """Ids as nested dictionaries, what users write today."""

    def __init__(self, ids):
        self.root = {}
        for path in ids.tolist():
            node = self.root
            for code in path:
                node = node.setdefault(code, {})

    def after(self, prefix):
        node = self.root
        for code in prefix:
            node = node.get(code, {})
        return list(node)


@pytest.mark.parametrize("shape", SHAPES)
def test_against_transformers_processor(shape, record, goals):
    """PrefixConstrainedLogitsProcessor over a dict trie, and over marisa-trie where it is there."""
    from transformers.generation import PrefixConstrainedLogitsProcessor

    size, (batch, beams) = 256, SHAPES[shape]
    count = min(COUNT, 100_000)  # of dictionaries
    ids = KINDS["random"](count, size)
    index, trie = index_of(ids, size), DictTrie(ids)
    nodes, chosen = rows_at(index, batch * beams)
    scores = torch.randn(batch * beams, size)
    theirs = PrefixConstrainedLogitsProcessor(
        lambda batch_id, sequence: trie.after(sequence.tolist()), num_beams=beams
    )

    def ours():
        for level, node in enumerate(nodes):
            mask_scores(Children(index, level, node), scores)

    def by_dict():
        for level in range(len(nodes)):
            theirs(chosen[:, :level], scores)

    methods = {"ours": ours, "dict": by_dict}
    marisa = _marisa(ids, beams)
    if marisa is not None and batch * beams <= 320:
        methods["marisa"] = lambda: [marisa(chosen[:, :i], scores) for i in range(len(nodes))]
    for level, node in enumerate(nodes):  # the same mask, before anything is timed
        same = theirs(chosen[:, :level], scores) == mask_scores(
            Children(index, level, node), scores
        )
        assert bool(same.all())
    times = interleaved(methods, rounds=5)
    faster = ratio(times, "dict", "ours")
    least = 20 if batch == 1 else 75
    goals.add(
        f"times faster than a dict trie, {count:,} ids, K = {size}, {shape}",
        *(least, faster, "PrefixConstrainedLogitsProcessor with a dict trie"),
        least=True,
    )
    record(f"mask_peers_{shape}", {"ids": count, "codes": size, "milliseconds": medians(times)})


def _marisa(ids, beams):
    """transformers' processor over marisa-trie; None where that is not installed."""
    try:
        from marisa_trie import Trie
    except ImportError:
        return None
    from transformers.generation import PrefixConstrainedLogitsProcessor

    trie = Trie("".join(map(chr, path)) for path in (ids + 1).tolist())

    def after(prefix):
        start = "".join(chr(code + 1) for code in prefix)
        return sorted({ord(key[len(start)]) - 1 for key in trie.keys(start)})

    return PrefixConstrainedLogitsProcessor(
        lambda batch_id, sequence: after(sequence.tolist()), num_beams=beams
    )
