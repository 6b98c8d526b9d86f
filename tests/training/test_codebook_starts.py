"""Codebooks at clusters of what they describe: means by hand, bounds, one Parameter for two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.errors import ConfigError
from hf_genret.training.codebook_starts import codebook_points
from hf_genret.training.stage_actions import perform


def counts(codes: torch.Tensor, size: int) -> list[int]:
    return sorted(torch.bincount(codes, minlength=size).tolist())


def means(points: np.ndarray, codes: torch.Tensor, size: int) -> np.ndarray:
    labels = codes.numpy()
    return np.stack([points[labels == code].mean(0) for code in range(size)])


def test_codebook_heads_start_at_clusters_of_their_points(shop_with):
    """Level 1 of the vectors, level 2 of what level 1 leaves over; the labels are kept."""
    shop = shop_with(head_type="codebook")
    perform(shop, {"codebook": "balanced"})
    start, heads = shop.state.start_codes, shop.model.heads
    first, second = (centres.detach().numpy() for centres in heads.centres)
    assert np.allclose(first, means(shop.vectors, start[:, 0], 4), atol=1e-5)
    left = shop.vectors - first[start[:, 0]]
    assert np.allclose(second, means(left, start[:, 1], 3), atol=1e-5)
    assert counts(start[:, 0], 4) == [15] * 4 and counts(start[:, 1], 3) == [20] * 3
    assert (shop.state.codes == -1).all()


def test_one_level_s_codebook(shop_with):
    """The stage's level alone, below the codes that were assigned before."""
    shop = shop_with(2, head_type="codebook")
    with torch.no_grad():
        shop.model.heads.centres[0].normal_()
    before = shop.model.heads.centres[0].detach().clone()
    shop.state.codes[:, 0] = torch.arange(60) % 4
    perform(shop, {"codebook": "plain"})
    start = shop.state.start_codes
    assert (start[:, 0] == -1).all() and torch.equal(shop.model.heads.centres[0], before)
    left = shop.vectors - before[shop.state.codes[:, 0]].numpy()
    found = shop.model.heads.centres[1].detach().numpy()
    nearest = ((left[:, None] - found) ** 2).sum(-1).argmin(1)
    assert start[:, 1].tolist() == nearest.tolist()  # Lloyd's end: each the nearest centre


def test_an_untrained_quantizer_repeats_its_codebooks(shop_with):
    """Plain k-means, then the most probable code of every level by distance: the clusters."""
    shop = shop_with(indexer="rq", indexer_similarity="distance")
    perform(shop, {"codebook": "plain"})
    facts = perform(shop, {"assign": "argmax"})
    assert torch.equal(shop.state.codes, shop.state.start_codes)
    assert facts["changed_from_start_1"] == facts["changed_from_start_2"] == 0


def test_a_codebook_between_bounds(shop_with):
    """Sizes as multiples of the even one, 15: between 12 and 18 here."""
    shop = shop_with(1, head_type="codebook")
    setting = {"method": "constrained", "size_min": 0.8, "size_max": 1.2}
    perform(shop, {"codebook": setting})
    loads = counts(shop.state.start_codes[:, 0], 4)
    assert min(loads) >= 12 and max(loads) <= 18 and sum(loads) == 60


@pytest.mark.parametrize("indexer", ["rq", "pq"])
def test_an_indexer_s_own_codebooks(shop_with, indexer):
    """A residual quantizer describes what is left, a product quantizer its part of the vector."""
    shop = shop_with(indexer=indexer)
    perform(shop, {"codebook": "balanced"})
    start = shop.state.start_codes
    first, second = (book.detach().numpy() for book in shop.model.indexer.codebooks)
    one, two = shop.vectors, shop.vectors - first[start[:, 0]] if indexer == "rq" else None
    if indexer == "pq":
        one, two = shop.vectors[:, :8], shop.vectors[:, 8:]
    assert np.allclose(first, means(one, start[:, 0], 4), atol=1e-5)
    assert np.allclose(second, means(two, start[:, 1], 3), atol=1e-5)


def test_a_tied_quantizer_starts_the_heads(shop_with):
    """DGI: one Parameter for both."""
    shop = shop_with(head_type="codebook", indexer="tied", indexer_scale=0)
    perform(shop, {"codebook": "balanced"})
    first = shop.model.heads.centres[0].detach().numpy()
    assert np.allclose(first, means(shop.vectors, shop.state.start_codes[:, 0], 4), atol=1e-5)


def test_a_model_without_codebooks(shop_with):
    """One sentence."""
    with pytest.raises(ConfigError, match="codebook: the model has no codebooks"):
        perform(shop_with(head_type="plain"), {"codebook": "balanced"})


def test_a_codebook_of_what_queries_say(shop_with, seen_by_queries):
    """Each item's point is the mean of its own and its queries', below its own codes."""
    shop = shop_with(head_type="codebook", indexer="tied", indexer_scale=0)
    perform(shop, {"codebook": "query_aware"})
    start, seen = shop.state.start_codes, seen_by_queries(shop)
    first, second = (centres.detach().numpy() for centres in shop.model.heads.centres)
    assert not np.allclose(seen, shop.vectors, atol=0.01)
    assert np.allclose(first, means(seen, start[:, 0], 4), atol=1e-5)
    left = seen - first[start[:, 0]]
    found = codebook_points(shop, shop.model.heads, 1, start, queries=True)
    assert np.allclose(found, left, atol=1e-5)
    assert np.allclose(second, means(left, start[:, 1], 3), atol=1e-5)


def test_a_codebook_below_each_prefix(shop_with):
    """Cluster heads: balanced below every parent, whatever is clustered."""
    shop = shop_with(head_type="cluster", head_similarity="cosine")
    perform(shop, {"codebook": "query_aware"})
    start = shop.state.start_codes
    assert counts(start[:, 0] * 3 + start[:, 1], 12) == [5] * 12
