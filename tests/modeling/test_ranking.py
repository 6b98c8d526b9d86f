"""Similarities of the ranker, and the order of candidates by beam then ranker."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.modeling import GenRetModel, beam_search


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def ranked_model(make_indexed, kind: str, **changes) -> GenRetModel:
    """25 documents whose vectors have different lengths, the similarity's weights random."""
    model = make_indexed(documents=25, ranker_similarity=kind, ranker_rank=5, **changes)
    model.set_vectors(model.vectors * torch.rand(25, 1).add(0.5))
    with torch.no_grad():
        for weight in model.ranker.similarity.parameters():
            weight.normal_()
    return model


def formula(model: GenRetModel, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Each similarity as it is written, [B, N]."""
    weights = {
        n: p.detach().double().numpy() for n, p in model.ranker.similarity.named_parameters()
    }
    kind = model.config.ranker_similarity
    if kind == "cosine":
        return unit(queries) @ unit(items).T
    if kind == "bilinear":
        return queries @ (np.eye(queries.shape[1]) + weights["change"]) @ items.T
    if kind == "low_rank":
        return queries @ weights["left"] @ weights["right"].T @ items.T
    return queries @ items.T


KINDS = ["dot", "cosine", "bilinear", "low_rank"]


@pytest.mark.parametrize("kind", KINDS)
def test_ranker_similarities_by_their_formulas(make_indexed, kind):
    """Shared items and items of each query alike, times the scale."""
    model = ranked_model(make_indexed, kind, ranker_scale=7.0)
    queries, items = torch.randn(2, 16), torch.randn(5, 16)
    wanted = 7 * formula(model, queries.double().numpy(), items.double().numpy())
    with torch.no_grad():
        together = model.ranker(queries, items)
        alone = model.ranker(queries, items.expand(2, -1, -1))
    np.testing.assert_allclose(together, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(alone, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_search_over_everything_is_exhaustive(make_indexed, text, kind):
    """All leaves visited: documents in the order of the formula, scores without the scale."""
    model = ranked_model(make_indexed, kind)
    with torch.no_grad():
        queries = model.encode_query(**text).pooler_output.double().numpy()
    wanted = formula(model, queries, model.vectors.double().numpy())
    out = model.search(**text, k=25, num_beams=60)
    assert (out.pool == 25).all()
    for row in range(3):
        order = np.argsort(-wanted[row])
        assert out.rows[row].tolist() == order.tolist()
        np.testing.assert_allclose(out.scores[row], wanted[row][order], rtol=1e-3, atol=1e-4)


def test_a_low_rank_map_starts_near_the_inner_product(make_model):
    """A and B start equal, so that a new ranker is a positive semi-definite form."""
    config = make_model(ranker_similarity="low_rank", ranker_rank=4).config
    low = GenRetModel(config).ranker.similarity
    assert torch.equal(low.left, low.right) and low.left.shape == (16, 4)
    full = GenRetModel(make_model(ranker_similarity="bilinear").config).ranker.similarity
    assert not full.change.any()


# ---- lexicographic ranking --------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3, 60])
def test_first_the_beam_then_the_ranker(make_indexed, text, width):
    """DGI's rule: leaves in the beam's order, the documents of a leaf by similarity."""
    model = ranked_model(make_indexed, "cosine", codebook_sizes=[2, 2, 2], ranking="lexicographic")
    with torch.no_grad():
        encoded = model.encode_query(**text)
        beams = beam_search(model, encoded, width)
        scores = formula(
            model, encoded.pooler_output.double().numpy(), model.vectors.double().numpy()
        )
    out = model.search(**text, k=25, num_beams=width)
    paths = [tuple(path) for path in model.index.paths.tolist()]
    for row in range(3):
        wanted = []
        for path, log_p in zip(beams.codes[row].tolist(), beams.scores[row].tolist(), strict=True):
            mine = [model.index.rows[i].item() for i, p in enumerate(paths) if p == tuple(path)]
            wanted += [(doc, log_p) for doc in sorted(mine, key=lambda doc: -scores[row, doc])]
        size = len(wanted)
        assert out.rows[row, :size].tolist() == [doc for doc, _ in wanted]
        np.testing.assert_allclose(out.scores[row, :size], [p for _, p in wanted], atol=1e-5)
        assert (out.rows[row, size:] == -1).all()
        assert torch.equal(out.path_scores[row, :size], out.scores[row, :size])


def test_the_beams_weight_does_not_matter_then(make_indexed, text):
    """The order is the rule's, whatever the weight says."""
    model = ranked_model(make_indexed, "dot", ranking="lexicographic")
    before = model.search(**text, k=9).rows
    model.config.beam_weight = 50.0
    assert torch.equal(model.search(**text, k=9).rows, before)


def test_the_default_is_another_order(make_indexed, text):
    """The weighted sum does not follow the rule."""
    model = ranked_model(make_indexed, "dot")
    by_sum = model.search(**text, k=25, num_beams=60).rows
    model.config.ranking = "lexicographic"
    assert not torch.equal(model.search(**text, k=25, num_beams=60).rows, by_sum)
