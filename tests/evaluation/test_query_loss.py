from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.data.schema import Documents, Queries
from hf_genret.demo.tiny import word_tokenizer
from hf_genret.encoding import QuerySource
from hf_genret.evaluation import query_loss as module
from hf_genret.evaluation.query_loss import query_loss
from hf_genret.modeling import GenRetConfig, GenRetModel

TEXTS = ["red fox", "blue whale sings", "green frog", "old grey owl", "red whale", "frog"]
RELEVANT = [{0: 1.0}, {1: 2.0, 7: 1.0}, {}, {2: 1.0}, {4: 1.0, 5: 1.0, 6: 3.0}, {11: 1.0}]
SIZES = [4, 3, 5]


@pytest.fixture
def tokenizer():
    """Knows the words of the queries."""
    return word_tokenizer(Documents([str(i) for i in range(len(TEXTS))], [""] * len(TEXTS), TEXTS))


@pytest.fixture
def model(tokenizer):
    """Random weights and random ids of 12 documents; the last has none."""
    torch.manual_seed(3)
    bag = {"type": "bag", "vocab_size": len(tokenizer), "dim": 16}
    config = GenRetConfig(
        query_encoder=bag, vector_dim=16, codebook_sizes=SIZES, decoder_dim=16, decoder_heads=2
    )
    model = GenRetModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.4)
    codes = torch.stack([torch.randint(0, size, (11,)) for size in SIZES], 1)
    model.set_index(codes, vectors=torch.randn(12, 16))
    return model


@pytest.fixture
def source(model, tokenizer):
    """The queries as the model reads them."""
    return QuerySource(model, Queries(TEXTS, RELEVANT, texts=TEXTS), tokenizer)


def by_hand(model, source):
    """Loss and most probable codes through forward(), one query and document after another."""
    codes, offsets = model.index.codes_of(torch.arange(11))[0].tolist(), model.config.level_offsets
    values = []
    for number, gains in enumerate(RELEVANT):
        of_query = []
        for row in (row for row in gains if row < 11):
            inputs = [0, *(c + o for c, o in zip(codes[row][:-1], offsets, strict=False))]
            tokens = source.batch(np.array([number]))
            with torch.no_grad():
                logits = model(decoder_input_ids=torch.tensor([inputs]), **tokens).logits[0]
            of_document = []
            for level, size in enumerate(SIZES):
                p = logits[level, offsets[level] : offsets[level] + size].double().exp().numpy()
                code = codes[row][level]
                of_document.append((-np.log(p[code] / p.sum()), float(p.argmax() == code)))
            of_query.append(of_document)
        if of_query:
            values.append(np.mean(of_query, axis=0))
    return np.mean(values, axis=0)


@pytest.mark.parametrize("cells", [2**24, 10])
def test_equal_to_forward_one_after_another(model, source, monkeypatch, cells):
    """Means over the documents of a query, then over queries that have a document with an id."""
    monkeypatch.setattr(module, "_CELLS", cells)
    found = query_loss(model, source, RELEVANT, batch_size=4)
    expected = by_hand(model, source)
    assert [level["level"] for level in found] == [1, 2, 3]
    np.testing.assert_allclose([level["loss"] for level in found], expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose([level["first"] for level in found], expected[:, 1])


def test_heads_that_know_nothing_guess_evenly(model, source):
    """ln K at every level."""
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.zero_()
    found = query_loss(model, source, RELEVANT)
    np.testing.assert_allclose([level["loss"] for level in found], np.log(SIZES), rtol=1e-6)
    assert [level["even"] for level in found] == pytest.approx(np.log(SIZES))


def test_without_judgments_there_is_no_loss(model, source):
    """Nor where the relevant documents have no id."""
    assert query_loss(model, source, [{}] * len(TEXTS)) == []
    assert query_loss(model, source, [{11: 1.0}] * len(TEXTS)) == []
