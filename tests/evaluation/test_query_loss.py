from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.encoding import QuerySource
from hf_genret.evaluation import query_loss as module
from hf_genret.evaluation.query_loss import query_loss

RELEVANT = [{0: 1.0}, {1: 2.0, 7: 1.0}, {}, {2: 1.0}, {4: 1.0, 9: 1.0, 10: 3.0}, {11: 1.0}]
SIZES = [4, 3, 5]  # of the models that `make_model` makes


@pytest.fixture
def model(make_model):
    """Ids of ten documents, two of them one document's; documents 10 and 11 have none."""
    return make_model(rows=torch.tensor([*range(10), 9]), paths=11)


@pytest.fixture
def source(model, queries, tokenizer):
    """The queries as the model reads them."""
    return QuerySource(model, queries, tokenizer)


def by_hand(model, source):
    """Loss and most probable codes through forward(), one query and document after another."""
    codes, offsets = model.index.codes_of(torch.arange(10))[0].tolist(), model.config.level_offsets
    values = []
    for number, gains in enumerate(RELEVANT):
        of_query = []
        for row in (row for row in gains if row < 10):
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
    assert query_loss(model, source, [{}] * 6) == []
    assert query_loss(model, source, [{10: 1.0}, {11: 1.0}] * 3) == []
