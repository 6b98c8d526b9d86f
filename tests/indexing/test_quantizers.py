from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from hf_genret.indexing.autoencoder import (
    BETA,
    Codebooks,
    QuantizedAutoencoder,
    ResidualCodebooks,
    SplitCodebooks,
)
from hf_genret.indexing.codes import random_codes
from hf_genret.indexing.quantizers import product_quantization, rq_vae, vq_vae

Learned = Callable[..., np.ndarray]
LEARNED = pytest.mark.parametrize("learn", [rq_vae, vq_vae])
SHORT = {"steps": 200, "hidden": 32, "latent": 8, "batch_size": 64}
SIZES = [8, 8]


@pytest.fixture(scope="module")
def clustered() -> np.ndarray:
    """600 vectors: 8 topics, each with 8 shades, of length 1."""
    rng = np.random.default_rng(0)
    topics, shades = rng.standard_normal((8, 24)), 0.5 * rng.standard_normal((8, 24))
    x = topics[rng.integers(8, size=600)] + shades[rng.integers(8, size=600)]
    x += 0.05 * rng.standard_normal(x.shape)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def unexplained(x: np.ndarray, codes: np.ndarray, sizes: list[int]) -> float:
    """Share of the variance that the best code vectors, summed over levels, leave over."""
    x = x - x.mean(axis=0)
    chosen = np.hstack([np.eye(k)[codes[:, level]] for level, k in enumerate(sizes)])
    best = np.linalg.lstsq(chosen, x, rcond=None)[0]
    return float(np.square(x - chosen @ best).sum() / np.square(x).sum())


def test_product_quantization_equals_brute_force_on_separable_data() -> None:
    """Each group of dimensions has few values far apart: every code pair is one value pair."""
    left = np.array([[0, 0], [9, 0], [0, 9]])
    right = np.array([[5, 5], [-5, -5]])
    pairs = list(product(range(3), range(2)))
    rng = np.random.default_rng(0)
    pick = np.array(pairs * 10)[rng.permutation(60)]
    x = np.hstack([left[pick[:, 0]], right[pick[:, 1]]]) + 0.1 * rng.standard_normal((60, 4))
    codes = product_quantization(x, [3, 2], seed=0)
    assert codes.dtype == np.int32 and codes.shape == (60, 2)
    for level, groups in enumerate((left, right)):
        half = x[:, 2 * level : 2 * level + 2]
        nearest = np.square(half[:, None] - groups).sum(axis=2).argmin(axis=1)
        renamed = {(int(a), int(b)) for a, b in zip(nearest, codes[:, level], strict=True)}
        assert len(renamed) == len(groups) == len({b for _, b in renamed})


def test_product_quantization_cuts_uneven_dimensions() -> None:
    """Five dimensions in two levels: three and two, each level deaf to the other's."""
    x = np.random.default_rng(0).standard_normal((80, 5)).astype(np.float32)
    changed = x.copy()
    changed[:, 3:] *= -2
    assert np.array_equal(
        product_quantization(x, [4, 4], seed=0)[:, 0],
        product_quantization(changed, [4, 4], seed=0)[:, 0],
    )


@LEARNED
def test_learned_codes_say_far_more_than_random_ones(learn: Learned, clustered: np.ndarray) -> None:
    """Rebuilding from codes leaves over less than half of the variance, random ids nearly all."""
    random = unexplained(clustered, random_codes(600, SIZES, seed=0), SIZES)
    assert unexplained(clustered, learn(clustered, SIZES, seed=0, **SHORT), SIZES) < 0.5 < random


@LEARNED
def test_few_codes_are_dead(learn: Learned, clustered: np.ndarray) -> None:
    """At most a quarter of each level's codes is without an item."""
    codes = learn(clustered, SIZES, seed=0, **SHORT)
    assert codes.dtype == np.int32 and codes.shape == (600, 2)
    for level, size in enumerate(SIZES):
        used = np.unique(codes[:, level])
        assert used.min() >= 0 and used.max() < size and len(used) >= 0.75 * size


@LEARNED
def test_same_seed_same_codes(learn: Learned, clustered: np.ndarray) -> None:
    """Codes are a function of vectors, sizes and seed; torch's own generator stays as it was."""
    short = {**SHORT, "steps": 30}
    state = torch.random.get_rng_state()
    first = learn(clustered, SIZES, seed=3, **short)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(1)
    assert np.array_equal(first, learn(clustered, SIZES, seed=3, **short))
    assert not np.array_equal(first, learn(clustered, SIZES, seed=4, **short))


@LEARNED
def test_scale_of_the_vectors_does_not_matter(learn: Learned, clustered: np.ndarray) -> None:
    """A thousand times longer, the same codes (a power of two, so that rounding is the same)."""
    short = {**SHORT, "steps": 20}
    plain = learn(clustered, SIZES, seed=0, **short)
    assert (plain == learn(1024 * clustered, SIZES, seed=0, **short)).all()


@LEARNED
def test_fewer_items_than_codes(learn: Learned) -> None:
    """Three items and eight codes: every item has codes in range."""
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    codes = learn(x, SIZES, seed=0, **{**SHORT, "steps": 60})
    assert codes.shape == (3, 2) and codes.min() >= 0 and codes.max() < 8


@pytest.mark.parametrize("way", [ResidualCodebooks, SplitCodebooks])
def test_quantizing_by_hand(way: type[Codebooks]) -> None:
    """Two levels of two codes: what each reads, takes and makes of it."""
    residual = way is ResidualCodebooks
    books = way([2, 2], [2, 2] if residual else [1, 1])
    first = [[0.0, 0.0], [4.0, 4.0]] if residual else [[0.0], [4.0]]
    second = [[1.0, 0.0], [0.0, -1.0]] if residual else [[-1.0], [3.0]]
    for book, rows in zip(books.books, (first, second), strict=True):
        book.data = torch.tensor(rows)
    quantized, codes, inputs = books(torch.tensor([[3.5, 2.8]]))
    assert [code.item() for code in codes] == [1, 1]
    expected = [[4.0, 3.0]]  # (4, 4) + (0, -1), or 4 beside 3
    torch.testing.assert_close(quantized, torch.tensor(expected))
    second_input = [[-0.5, -1.2]] if residual else [[2.8]]
    torch.testing.assert_close(inputs[1], torch.tensor(second_input))


def test_codebook_and_commitment_loss_by_hand() -> None:
    """One code at 1, one item at 3: 4 for the code, a quarter of it for the item, both pulled."""
    books = SplitCodebooks([1], [1])
    books.books[0].data = torch.tensor([[1.0]])
    latent = torch.tensor([[3.0]], requires_grad=True)
    _, codes, inputs = books(latent)
    loss = books.loss(codes, inputs)
    assert loss.item() == pytest.approx(4 + BETA * 4)
    loss.backward()
    assert books.books[0].grad is not None and latent.grad is not None
    assert books.books[0].grad.item() == pytest.approx(-4)
    assert latent.grad.item() == pytest.approx(BETA * 4)


def test_unused_codes_start_anew_at_items() -> None:
    """A code that was taken stays; the others move onto items of the batch."""
    books = SplitCodebooks([3], [2])
    books.books[0].data = torch.tensor([[0.0, 0.0], [90.0, 90.0], [80.0, 80.0]])
    batch = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    _, codes, inputs = books(batch)
    books.count(codes)
    books.restart(inputs, torch.Generator().manual_seed(0))
    moved = {tuple(row) for row in books.books[0].tolist()}
    assert moved == {(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)}
    books.forget()
    assert books.used[0].sum() == 0


def test_gradient_reaches_the_encoder_through_the_codes() -> None:
    """Straight-through: reconstruction alone moves the encoder."""
    model = QuantizedAutoencoder(4, 8, 4, ResidualCodebooks([2], [4]))
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.codebooks.start(model.encoder(x), 0)
    model._quantized_loss(x)[0].backward()
    assert model.encoder[0].weight.grad is not None
    assert model.encoder[0].weight.grad.abs().sum() > 0


def test_wrong_arguments_are_named() -> None:
    """More levels than dimensions, no steps, no levels."""
    x = np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match="found 3 levels and 2 dimensions"):
        product_quantization(x, [2, 2, 2], seed=0)
    with pytest.raises(ValueError, match="found 2 levels and 1 dimensions"):
        vq_vae(x, [2, 2], seed=0, latent=1)
    with pytest.raises(ValueError, match="at least 1 step, found 0"):
        rq_vae(x, [2], seed=0, steps=0)
    with pytest.raises(ValueError, match="at least 1 level"):
        product_quantization(x, [], seed=0)
    with pytest.raises(ValueError, match=r"found 1 and \(5,\)"):
        product_quantization(x[:, 0], [2], seed=0)
    with pytest.raises(ValueError, match="at least 1 cluster"):
        rq_vae(x, [], seed=0)
