"""Heads: logits written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from hf_genret.modeling import GenRetConfig, heads_genret
from hf_genret.modeling.heads_genret import ClusterHeads, PlainHeads, node_number


@pytest.fixture(autouse=True)
def no_gradients():
    """Heads are only read here."""
    with torch.no_grad():
        yield


def heads(sizes, **changes) -> ClusterHeads:
    """Cluster heads with random centres and, as in a new model, residual maps of zero."""
    made = ClusterHeads(
        GenRetConfig(codebook_sizes=sizes, vector_dim=8, decoder_dim=16, head_scale=5.0, **changes)
    )
    for level, centres in enumerate(made.centres):
        made.start(level, torch.randn_like(centres))
    return made


def cosine(a, b) -> float:
    """Cosine of two vectors, in Python floats."""
    a, b = a.tolist(), b.tolist()
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_untrained_logits_are_similarities_to_centres(similarity):
    """scale * sim(z, centre of the child), child by child."""
    made, sizes = heads([3, 2, 4], head_similarity=similarity), [3, 2, 4]
    vectors, hidden = torch.randn(5, 8), torch.randn(5, 16)
    prefix = torch.stack([torch.randint(0, size, (5,)) for size in sizes], 1)
    for level, size in enumerate(sizes):
        logits = made(level, hidden, vectors, prefix[:, :level])
        assert logits.shape == (5, size)
        for row in range(5):
            node = 0
            for code, radix in zip(prefix[row, :level].tolist(), sizes, strict=False):
                node = node * radix + code
            for code in range(size):
                centre = made.centres[level][node * size + code]
                pair = (vectors[row], centre)
                wanted = 5 * (cosine(*pair) if similarity == "cosine" else float(pair[0] @ centre))
                assert float(logits[row, code]) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_node_by_node_is_one_by_one(similarity, monkeypatch):
    """The same logits and gradients as with gathered centres, also where a node has no point."""
    made = heads([3, 5], head_similarity=similarity)
    vectors, hidden = torch.randn(200, 8, requires_grad=True), torch.randn(200, 16)
    prefix = torch.randint(0, 2, (200, 1))  # nobody at the third
    weights, found = torch.randn(200, 5), []
    for product in (math.inf, 0):  # never, and always
        monkeypatch.setattr(heads_genret, "_PRODUCT", product)
        with torch.enable_grad():
            logits = made(1, hidden, vectors, prefix)
            gradients = torch.autograd.grad((logits * weights).sum(), [vectors, made.centres[1]])
        found.append([logits, *gradients])
    for gathered, by_node in zip(*found, strict=True):
        torch.testing.assert_close(by_node, gathered, atol=1e-4, rtol=1e-4)


def test_a_flat_level_compares_the_residual():
    """Below max_head_nodes one centre a code, compared with z minus the centres above."""
    sizes = [3, 2, 4, 5]
    made = heads(sizes, max_head_nodes=6)
    assert [made.is_flat(level) for level in range(4)] == [False, False, True, True]
    assert [len(centres) for centres in made.centres] == [3, 6, 4, 5]
    vectors, hidden = torch.randn(4, 8), torch.randn(4, 16)
    prefix = torch.stack([torch.randint(0, size, (4,)) for size in sizes[:3]], 1)
    third, fourth = (made(i, hidden, vectors, prefix[:, :i]) for i in (2, 3))
    for row, (a, b, c) in enumerate(prefix.tolist()):
        left = vectors[row] - made.centres[1][a * 2 + b]
        for code in range(4):
            wanted = 5 * cosine(left, made.centres[2][code])
            assert float(third[row, code]) == pytest.approx(wanted, abs=1e-4)
        left = left - made.centres[2][c]
        for code in range(5):
            wanted = 5 * cosine(left, made.centres[3][code])
            assert float(fourth[row, code]) == pytest.approx(wanted, abs=1e-4)


def test_levels_below_a_unary_one_keep_a_centre_a_node():
    """As many nodes as codes does not make a level flat."""
    made = heads([1, 6])
    assert not made.is_flat(1)
    vectors = torch.randn(2, 8)
    logits = made(1, torch.zeros(2, 16), vectors, torch.zeros(2, 1, dtype=torch.long))
    wanted = functional.normalize(vectors, dim=-1) @ functional.normalize(made.centres[1], dim=-1).T
    torch.testing.assert_close(logits, 5 * wanted)


def test_the_residual_map_moves_the_point():
    """Trained, the point is z + r(h)."""
    made = heads([3, 2], head_similarity="dot")
    made.residuals[0].weight.normal_()
    vectors, hidden = torch.randn(2, 8), torch.randn(2, 16)
    point = vectors + hidden @ made.residuals[0].weight.T
    wanted = 5 * point @ made.centres[0].T
    torch.testing.assert_close(made(0, hidden, vectors, torch.zeros(2, 0)), wanted)
    made.start(0, made.centres[0].clone())
    torch.testing.assert_close(
        made(0, hidden, vectors, torch.zeros(2, 0)), 5 * vectors @ made.centres[0].T
    )


def test_a_new_model_starts_with_residuals_at_zero(make_model, text):
    """Whatever the decoder says, a fresh model's logits are those of its centres."""
    from hf_genret.modeling import GenRetModel

    model = GenRetModel(make_model().config).eval()
    assert all((residual.weight == 0).all() for residual in model.heads.residuals)
    assert all((residual.bias == 0).all() for residual in model.heads.residuals)
    assert model.heads.scale.tolist() == [10.0] * 3
    encoded = model.encode_query(**text)
    logits = model.level_logits(encoded, torch.zeros(3, 0, dtype=torch.long))
    centres = functional.normalize(model.heads.centres[0], dim=-1)
    torch.testing.assert_close(logits, 10 * encoded.pooler_output @ centres.T)


def test_plain_heads_are_linear_maps():
    """One map a level, or one for all."""
    separate = PlainHeads(GenRetConfig(codebook_sizes=[3, 4], head_type="plain", decoder_dim=16))
    hidden, none = torch.randn(2, 16), torch.zeros(2, 0)
    for level in range(2):
        wanted = hidden @ separate.maps[level].weight.T + separate.maps[level].bias
        torch.testing.assert_close(separate(level, hidden, none, none), wanted)
    shared = PlainHeads(
        GenRetConfig(codebook_sizes=[4, 4], head_type="plain", share_levels=True, decoder_dim=16)
    )
    assert len(shared.maps) == 1
    assert torch.equal(shared(0, hidden, none, none), shared(1, hidden, none, none))


def test_nodes_are_numbered_in_mixed_radix(every_id):
    """Prefixes in lexicographic order are 0, 1, 2, ..."""
    assert node_number(every_id([3, 1, 4]), [3, 1, 4]).tolist() == list(range(12))
    assert node_number(torch.zeros(2, 0), [3]).tolist() == [0, 0]
