"""A contrastive step with a gradient cache: the memory it needs, and the time it takes for it."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import torch
from memory import forget_peaks, memory

from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.training.objectives import Context, RankerObjective

BATCH, TOKENS, WORDS, WIDTH = 128, 32, 2000, 256
CHUNKS = (0, 32, 8)  # 0: all at once


def step_of(chunk, threads):
    """Megabytes that a step adds to a fresh process at its peak, and its milliseconds."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    backbone = {"model_type": "bert", "vocab_size": WORDS, "hidden_size": WIDTH}
    backbone |= {"num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 4 * WIDTH}
    model = GenRetModel(
        GenRetConfig(
            query_encoder={"type": "text", "backbone": backbone, "pooling": "mean"},
            vector_dim=WIDTH,
            codebook_sizes=[4, 4],
        )
    ).train()
    texts = [torch.randint(1, WORDS, (BATCH, TOKENS)) for _ in range(2)]
    sides = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in texts]
    rows = torch.arange(BATCH)
    batch = {"query": sides[0], "item": sides[1], "queries": rows, "rows": rows}
    batch |= {"sampled": {}, "sampled_rows": {}}
    codes = torch.zeros(BATCH, 2, dtype=torch.long)
    context = Context(codes, 0, [4, 4], [{row: 1.0} for row in range(BATCH)])
    objective = RankerObjective(context, {"cache_chunk": chunk})
    for parameter in model.encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)  # needed either way
    before = memory("VmRSS")
    forget_peaks()
    start = time.perf_counter()
    objective(model, batch)["ranker"].backward()
    seconds = time.perf_counter() - start
    return memory("VmHWM") - before, 1e3 * seconds


def test_memory_of_a_contrastive_step(record):
    """Each size of a chunk in a process of its own, since a peak is never forgotten."""
    found = {}
    for chunk in CHUNKS:
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            megabytes, milliseconds = pool.submit(step_of, chunk, torch.get_num_threads()).result()
        name = f"chunks of {chunk}" if chunk else "all at once"
        found[name] = {"peak_megabytes": megabytes, "milliseconds": milliseconds}
    record("gradient_cache", {"batch": BATCH, "tokens": TOKENS, "steps": found})
