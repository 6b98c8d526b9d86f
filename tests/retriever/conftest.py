"""Small retrievers: one that reads text, one that reads histories; neither is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.encoding import ItemSource, pooled_vectors
from hf_genret.indexing import random_codes
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.retriever import GenRetriever

WORDS = {
    "colour": ("red", "blue", "green", "black", "white"),
    "animal": ("fox", "owl", "cat", "hen"),
    "place": ("hill", "roof"),
}


@pytest.fixture
def corpus():
    """40 documents whose words say what they are, with one extra column."""
    texts, places = [], []
    for colour in WORDS["colour"]:
        for animal in WORDS["animal"]:
            for place in WORDS["place"]:
                texts.append(f"{colour} {animal} on the {place}")
                places.append(place)
    count = len(texts)
    return Documents(
        [f"d{i}" for i in range(count)],
        [f"Title {i}" for i in range(count)],
        texts,
        {"place": places},
    )


@pytest.fixture
def retriever(corpus):
    """Reads text; ids of two levels with one to three documents each; ids count in the score."""
    found = tiny_retriever(corpus, codebook_sizes=[4, 5], dim=256)
    found.model.config.beam_weight = 0.05
    return found


@pytest.fixture
def forest(corpus):
    """The same documents in three random trees, path scores summed."""
    found = tiny_retriever(corpus, codebook_sizes=[3, 2, 4], dim=256)
    config, rows = found.model.config, np.arange(len(corpus))
    config.forest, config.ids_per_document, config.path_merge = True, 3, "sum"
    config.beam_weight = 0.05
    trees = [random_codes(len(rows), [2, 4], seed=tree) for tree in range(3)]
    codes = [np.column_stack([np.full(len(rows), i), tree]) for i, tree in enumerate(trees)]
    paths = torch.from_numpy(np.concatenate(codes).astype(np.int64))
    found.model.set_index(paths, torch.from_numpy(np.tile(rows, 3)), found.model.vectors)
    return found


@pytest.fixture
def shop(corpus):
    """Reads histories: items are rows of a catalogue with embeddings of their own."""
    config = GenRetConfig(
        item_encoder={"type": "items", "num_items": len(corpus), "dim": 16},
        history_encoder={"type": "sequence", "dim": 16, "max_length": 5},
        vector_dim=16,
        codebook_sizes=[4, 5],
        head_type="plain",
        decoder_dim=16,
        search_beams=6,
    )
    model = GenRetModel(config).eval()
    torch.nn.init.normal_(model.encoder.items.embedding.weight)
    vectors = pooled_vectors(model, ItemSource(model, corpus, None))
    codes = random_codes(len(corpus), [4, 5], seed=0)
    model.set_index(torch.from_numpy(codes.astype(np.int64)), vectors=vectors)
    return GenRetriever(model, None, corpus)


@pytest.fixture
def brute_force():
    """Ranks every document by formula: <q, d> + weight * sum of log P(code | query, codes)."""

    @torch.no_grad()
    def rank(retriever, query, rows=None):
        model = retriever.model
        tokens = retriever.processing_class([query], return_tensors="pt")
        encoded = model.encode_query(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        scored = []
        for path, row in zip(model.index.paths, model.index.rows.tolist(), strict=True):
            logits = model.path_logits(encoded, path[None].long())
            steps = zip(logits, path.tolist(), strict=True)
            log_p = sum(level[0].log_softmax(-1)[code] for level, code in steps)
            inner = (encoded.pooler_output[0] * model.vectors[row]).sum()
            score = float(inner + model.config.beam_weight * log_p)
            if rows is None or row in rows:
                scored.append((-score, row, tuple(path.tolist())))
        return [(row, -score, path) for score, row, path in sorted(scored)]

    return rank
