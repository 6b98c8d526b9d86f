"""The ranker's vectors in less bytes: what is lost, and that they travel as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.modeling import GenRetModel


def by_hand(vectors, precision):
    """Vectors as a precision leaves them, in NumPy."""
    x = vectors.numpy()
    if precision == "float16":
        return x.astype(np.float16).astype(np.float32)
    if precision == "int8":
        step = np.abs(x).max(1, keepdims=True).astype(np.float32) / 127
        return np.round(x / step).astype(np.float32) * step
    return x


@pytest.mark.parametrize(("precision", "a_number"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_vectors_in_fewer_bytes(make_indexed, precision, a_number):
    """Rounded as NumPy rounds; a scale a document beside integers."""
    model = make_indexed()
    before = model.vectors.clone()
    model.compress_vectors(precision)
    wanted = by_hand(before, precision)
    np.testing.assert_allclose(model.vectors.float().numpy(), wanted, atol=1e-6)
    rows = torch.tensor([[4, 0], [29, 4]])
    np.testing.assert_allclose(model.vector_rows(rows).float().numpy(), wanted[rows], atol=1e-6)
    scales = 30 * 4 if precision == "int8" else 0
    assert model.vector_bytes == 30 * 16 * a_number + scales


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("documents", [30, 400])
def test_search_ranks_by_them(make_indexed, text, precision, documents):
    """Few and many candidates: the scores of the rounded vectors, near those of the exact ones."""
    exact, model = make_indexed(documents=documents), make_indexed(documents=documents)
    rounded = torch.from_numpy(by_hand(model.vectors, precision))
    model.compress_vectors(precision)
    exact.set_vectors(rounded)
    for beams in (1, 6, 60):
        ours, theirs = (m.search(**text, k=8, num_beams=beams) for m in (model, exact))
        torch.testing.assert_close(ours.scores, theirs.scores, atol=2e-3, rtol=0)
        assert float((ours.rows == theirs.rows).float().mean()) > 0.9


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_they_are_saved_as_they_are(make_indexed, text, tmp_path, precision):
    """A loaded model has the same vectors, bytes and hits; saving it over itself keeps them."""
    model = make_indexed()
    model.compress_vectors(precision)
    model.save_pretrained(tmp_path)
    loaded = GenRetModel.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path)
    again = GenRetModel.from_pretrained(tmp_path)
    assert torch.equal(again.vectors, model.vectors) and again.vector_bytes == model.vector_bytes
    assert torch.equal(again.search(**text, k=5).rows, model.search(**text, k=5).rows)


def test_a_document_of_zeros_stays_one(make_indexed):
    """No scale of nothing."""
    model = make_indexed()
    model.set_vectors(torch.zeros(30, 16))
    model.compress_vectors("int8")
    assert torch.equal(model.vectors, torch.zeros(30, 16))


def test_an_unknown_precision(make_indexed):
    """One sentence, and nothing changes."""
    model = make_indexed()
    before = model.vectors
    with pytest.raises(ValueError, match="precision of vectors is 'int4'; known: float32"):
        model.compress_vectors("int4")
    assert torch.equal(model.vectors, before)
