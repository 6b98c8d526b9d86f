"""A whole search beside what a user would take instead: FAISS, BM25, the encoder alone."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from ids import random_ids
from timing import interleaved, medians, ratio

from hf_genret.modeling import EncoderOutput, GenRetConfig, GenRetModel, beam_search
from hf_genret.training.bag import train_tokenizer

DIM, BEAMS, K = 384, 20, 20
COUNTS = [c for c in (100_000, 1_000_000) if c <= int(os.environ.get("BENCH_IDS", "1000000"))]
MINILM = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
}


def clustered(count, seed=0):
    """Unit vectors around a thousand centres, float32 [count, 384]."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1000, DIM), dtype=np.float32)
    out = np.empty((count, DIM), dtype=np.float32)
    for first in range(0, count, 100_000):
        some = slice(first, min(first + 100_000, count))
        size = some.stop - some.start
        out[some] = centres[rng.integers(1000, size=size)]
        out[some] += 0.5 * rng.standard_normal((size, DIM), dtype=np.float32)
        out[some] /= np.linalg.norm(out[some], axis=1, keepdims=True)
    return out


def model_over(count, vectors, encoder=None):
    """2 layers of 96 over random ids, with the vectors to rank by."""
    torch.manual_seed(0)
    reads = {"type": "text", "backbone": encoder} if encoder else None
    model = GenRetModel(
        GenRetConfig(
            query_encoder=reads or {"type": "bag", "vocab_size": 10, "dim": DIM},
            vector_dim=DIM,
            codebook_sizes=[256] * 4,
            decoder_dim=96,
            decoder_layers=2,
            decoder_heads=4,
            head_type="plain",
            search_beams=BEAMS,
        )
    ).eval()
    model.set_index(random_ids(count, 256), vectors=torch.from_numpy(vectors))
    return model


@pytest.mark.parametrize("count", COUNTS)
@torch.no_grad()
def test_against_faiss(count, record, goals):
    """The search part alone: from query vectors to ranked documents."""
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(torch.get_num_threads())
    vectors = clustered(count)
    model = model_over(count, vectors)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors)
    coarse = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, 1024, faiss.METRIC_INNER_PRODUCT)
    coarse.train(vectors[:: max(1, count // 100_000)])
    coarse.add(vectors)
    coarse.nprobe = 16
    methods, figures = {"flat": flat, "ivf1024 nprobe 16": coarse}, {}
    if count <= 100_000:
        graph = faiss.IndexHNSWFlat(DIM, 32, faiss.METRIC_INNER_PRODUCT)
        graph.add(vectors)
        graph.hnsw.efSearch = 64
        methods["hnsw32 ef 64"] = graph
    for batch in (1, 32):
        queries = vectors[:batch] + 0.01
        states = torch.from_numpy(queries)
        found = EncoderOutput(states[:, None], states, torch.ones(batch, 1, dtype=torch.long))
        runs = {name: lambda i=i, q=queries: i.search(q, K) for name, i in methods.items()}
        runs["beam search"] = lambda f=found: beam_search(model, f, BEAMS)
        runs["search and ranking"] = lambda f=found: model.search(k=K, encoder_outputs=f)
        times = interleaved(runs, rounds=7)
        figures[batch] = {name: value / batch for name, value in medians(times).items()}
        if batch == 1:
            goals.add(
                f"search, times faster than FAISS Flat, {count:,} documents, one query",
                *(35 if count >= 1_000_000 else 3.5, ratio(times, "flat", "search and ranking")),
                "faiss.IndexFlatIP",
                least=True,
            )
    record(f"search_{count}", {"documents": count, "dim": DIM, "milliseconds_a_query": figures})


@torch.no_grad()
def test_text_in_hits_out(record, goals):
    """One query of 32 tokens: tokenizer, a MiniLM-sized encoder, search over all documents."""
    count = COUNTS[-1]
    model = model_over(count, clustered(count), MINILM)
    words = [f"w{n}" for n in range(2000)]
    tokenizer = train_tokenizer([" ".join(words)] * 2, vocab_size=4000)
    text = " ".join(words[:32])
    settings = {"truncation": True, "max_length": 32, "return_tensors": "pt"}
    assert tokenizer(text, **settings)["input_ids"].shape == (1, 32)
    times = interleaved(
        {
            "whole": lambda: model.search(k=10, **tokenizer(text, **settings)),
            "encoder": lambda: model.encode_query(**tokenizer(text, **settings)),
        }
    )
    goals.add(
        f"text in, hits out, {count:,} documents, one query of 32 tokens",
        *(1.35, ratio(times, "whole", "encoder"), "tokenizer and encoder alone (random weights)"),
    )
    record("text_in_hits_out", {"documents": count, "milliseconds": medians(times)})


def test_bm25_beside_it(record):
    """bm25s over documents of 40 words, queries of 6: for the reader, no goal."""
    bm25s = pytest.importorskip("bm25s")
    count = min(COUNTS[-1], 100_000)
    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in range(20_000)]
    share = 1 / np.arange(1, 20_001)
    drawn = rng.choice(20_000, (count, 40), p=share / share.sum())
    retriever = bm25s.BM25()
    retriever.index([[words[n] for n in row] for row in drawn], show_progress=False)
    query = [[words[n] for n in rng.choice(20_000, 6, p=share / share.sum())]]
    times = interleaved({"bm25s": lambda: retriever.retrieve(query, k=K, show_progress=False)})
    record("bm25s", {"documents": count, "milliseconds_a_query": medians(times)["bm25s"]})
