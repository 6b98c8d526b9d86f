"""The terms of ASI and ASI++ in plain NumPy, and where each moves ids and vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_genret.training.objectives import asi_losses as losses

SIZES = [3, 4]
BATCH, DIM = 4, 6
SAME = np.array([[1, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]], dtype=bool)


def levels(seed: int, rows: int = BATCH) -> list[Tensor]:
    """Log-probabilities of ids, leaves of a graph."""
    make = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(rows, size, generator=make).log_softmax(-1) for size in SIZES]
    return [level.requires_grad_() for level in drawn]


def vectors(seed: int, rows: int = BATCH) -> Tensor:
    """Unit vectors, leaves of a graph."""
    drawn = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))
    return (drawn / drawn.norm(dim=-1, keepdim=True)).requires_grad_()


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def by_hand_distance(a: list[np.ndarray], b: list[np.ndarray], i: int, j: int) -> float:
    return sum(float(((x[i] - y[j]) ** 2).sum()) for x, y in zip(a, b, strict=True))


def codes_of(log_p: list[Tensor]) -> Tensor:
    return torch.stack([level.argmax(-1) for level in log_p], dim=1)


# ---- the terms by hand --------------------------------------------------------------------


def test_contrastive_margin_by_hand():
    """Eq. 1: every query against every document that is irrelevant to it."""
    q, d = levels(1), levels(2)
    found = losses.contrastive_margin(
        [level.exp() for level in q], [level.exp() for level in d], torch.from_numpy(SAME), 1.5
    )
    p, r = [np.exp(array(level)) for level in q], [np.exp(array(level)) for level in d]
    terms = [
        max(0.0, by_hand_distance(p, r, i, i) - by_hand_distance(p, r, i, j) + 1.5)
        for i in range(BATCH)
        for j in range(BATCH)
        if not SAME[i, j]
    ]
    assert len(terms) == 8
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_distances_reach_twice_the_levels():
    """So that a margin of 3 at four levels means something."""
    one = [torch.eye(size) for size in (5, 5, 5, 5)]
    distance = losses.id_distances(one, one)
    torch.testing.assert_close(distance, 8 * (1 - torch.eye(5)))


def test_the_margin_is_met():
    """Far enough apart nothing is left to do; no pair to look at is no loss either."""
    eye = [torch.eye(3), torch.eye(3)]
    same = torch.eye(3, dtype=torch.bool)
    assert losses.contrastive_margin(eye, eye, same, 4.0).item() == 0.0
    assert losses.contrastive_margin(eye, eye, same, 4.5).item() == pytest.approx(0.5)
    assert losses.contrastive_margin(eye, eye, torch.ones_like(same), 9.0).item() == 0.0


def test_generation_by_hand():
    """Eq. 2 with soft targets: the sum over levels of cross-entropies."""
    logits, targets = levels(4), [level.exp() for level in levels(5)]
    expected = 0.0
    for level, target in zip(logits, targets, strict=True):
        expected -= float((array(target) * array(level)).sum(-1).mean())
    assert losses.generation(logits, targets).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["reverse", "bounded"])
def test_repulsion_by_hand(form):
    """-1/(V-1) sum of the other codes' log p, or -log(1 - p), summed over levels."""
    log_p, codes = levels(6), torch.tensor([[0, 3], [2, 1], [2, 2]])
    found = array(losses.repulsion(log_p, codes, form))
    assert found.shape == (BATCH, 3)
    for a in range(BATCH):
        for b in range(3):
            expected = 0.0
            for level, size in enumerate(SIZES):
                row, code = array(log_p[level][a]), int(codes[b, level])
                others = [row[v] for v in range(size) if v != code]
                mass = sum(math.exp(x) for x in others)
                expected += -math.log(mass) if form == "bounded" else -np.mean(others)
            assert found[a, b] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weight", ["close", "far"])
def test_density_by_hand(weight):
    """Eq. 5: pairs weighted by how close, or how far, their ids are."""
    log_p = levels(7)
    codes, apart = codes_of(log_p), torch.from_numpy(~SAME & ~SAME.T)
    found = losses.density(log_p, codes, apart, "reverse", weight)
    p = [np.exp(array(level)) for level in log_p]
    away = array(losses.repulsion(log_p, codes))
    terms = []
    for i in range(BATCH):
        for j in range(BATCH):
            if apart[i, j]:
                share = by_hand_distance(p, p, i, j) / 4
                terms.append((share if weight == "far" else 1 - share) * away[i, j])
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_literal_density_by_hand():
    """Eq. 5 as printed: a product of two means."""
    log_p = levels(8)
    codes, apart = codes_of(log_p), ~torch.eye(BATCH, dtype=torch.bool)
    p = [np.exp(array(level)) for level in log_p]
    pairs = [(i, j) for i in range(BATCH) for j in range(BATCH) if i != j]
    share = np.mean([by_hand_distance(p, p, i, j) / 4 for i, j in pairs])
    cross = np.mean([-sum(array(log_p[k])[i, codes[j, k]] for k in (0, 1)) for i, j in pairs])
    found = losses.literal_density(log_p, codes, apart)
    assert found.item() == pytest.approx(share * cross, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_info_nce_by_hand(temperature):
    """The positive is among the candidates, other relevant documents are not."""
    q, d = vectors(1), vectors(2)
    scores = np.exp(array(q) @ array(d).T / temperature)
    expected = []
    for i in range(BATCH):
        against = [scores[i, j] for j in range(BATCH) if not SAME[i, j]]
        expected.append(-math.log(scores[i, i] / (scores[i, i] + sum(against))))
    found = losses.info_nce(q, d, torch.from_numpy(SAME), temperature)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_crowding_by_hand():
    """1 / (D + .01) over the pairs that are asked for; duplicates do not blow it up."""
    d = torch.cat([vectors(1, 3), vectors(1, 3)[:1]]).detach().requires_grad_()
    apart = ~torch.eye(4, dtype=torch.bool)
    x = array(d)
    terms = [1 / (((x[i] - x[j]) ** 2).sum() + 0.01) for i in range(4) for j in range(4) if i != j]
    found = losses.crowding(d, apart)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-4)
    assert torch.isfinite(torch.autograd.grad(found, d)[0]).all()
    assert losses.crowding(d, torch.zeros_like(apart)).item() == 0.0


def test_information_by_hand():
    """Eq. 8 and 9 between normal densities, coordinate by coordinate."""
    x, sigma = array(vectors(3)), 0.3
    mean, spread = x.mean(0), x.std(0)
    terms = np.log(spread / sigma) + (sigma**2 + (x - mean) ** 2) / (2 * spread**2) - 0.5
    found = losses.information(vectors(3), sigma)
    assert found.item() == pytest.approx(terms.sum(1).mean(), rel=1e-3)


def test_quantization_by_hand():
    """The squared error of a row, averaged over rows."""
    a, b = vectors(1), vectors(2)
    expected = ((array(a) - array(b)) ** 2).sum(1).mean()
    assert losses.quantization(a, b).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.01), (0.5, 0.13), (1, 0.25), (2.7, 0.25)])
def test_lambda_rises_over_the_first_epoch(epoch, expected):
    """From .01 to .25, then it stays."""
    assert losses.ramp(epoch, 0.01, 0.25) == pytest.approx(expected)
    assert losses.ramp(epoch, 0.01, 0.25, length=0) == 0.25


# ---- what the terms move ------------------------------------------------------------------


def after(loss_of: Any, start: list[Tensor], steps: int = 60, rate: float = 0.2) -> list[Tensor]:
    """Ids after some steps of gradient descent on their logits."""
    logits = [level.detach().clone().requires_grad_() for level in start]
    for _ in range(steps):
        loss = loss_of([level.log_softmax(-1) for level in logits])
        for level, grad in zip(logits, torch.autograd.grad(loss, logits), strict=True):
            level.data -= rate * grad
    return [level.softmax(-1) for level in logits]


@pytest.mark.parametrize(
    ("reading", "parts"), [("reverse", True), ("bounded", True), ("literal", False)]
)
def test_density_parts_ids_and_the_printed_sign_pulls_them_together(reading, parts):
    """From ids that lie close: the recommended readings part them, Eq. 5 as printed does not."""
    base = torch.randn(1, SIZES[0]), torch.randn(1, SIZES[1])
    start = [level + 0.3 * torch.randn(BATCH, level.shape[1]) for level in base]
    apart = ~torch.eye(BATCH, dtype=torch.bool)

    def loss(log_p: list[Tensor]) -> Tensor:
        if reading == "literal":
            return losses.literal_density(log_p, codes_of(log_p), apart)
        return losses.density(log_p, codes_of(log_p), apart, reading)

    def shared(p: list[Tensor]) -> float:
        """Probability that two ids agree, the mean over pairs and levels."""
        agree = [level @ level.T for level in p]
        return torch.stack(agree)[:, apart].mean().item()

    before, end = [level.softmax(-1) for level in start], after(loss, start)
    assert (shared(end) < shared(before)) == parts
    distance = [float(losses.id_distances(p, p).mean()) for p in (before, end)]
    assert distance[1] < distance[0] if not parts else True


def test_the_weight_of_density_is_a_constant():
    """The gradient is that of the cross-entropies alone, weights held."""
    log_p = levels(7)
    codes, apart = codes_of(log_p), ~torch.eye(BATCH, dtype=torch.bool)
    found = torch.autograd.grad(losses.density(log_p, codes, apart), log_p)
    p = [level.detach().exp() for level in log_p]
    share = 1 - losses.id_distances(p, p) / 4
    expected = (share * losses.repulsion(log_p, codes))[apart].mean()
    torch.testing.assert_close(found, torch.autograd.grad(expected, log_p))


def test_information_leaves_a_batch_of_the_right_spread_alone():
    """Zero gradient at sigma; wider is drawn together, narrower spread; a shift costs nothing."""
    x = torch.randn(64, DIM)
    x = (x - x.mean(0)) / x.std(0, unbiased=False)
    for scale, sign in ((0.1, 0), (0.3, 1), (0.05, -1)):
        rows = (scale * x).requires_grad_()
        (grad,) = torch.autograd.grad(losses.information(rows, 0.1), rows)
        outward = float((grad * rows).sum())
        assert float(grad.sum(0).abs().max()) < 1e-4
        if sign:
            assert outward * sign > 0.1
        else:
            assert float(grad.abs().max()) < 1e-3


def test_the_margin_draws_pairs_together_and_others_apart():
    """D of the pair falls, D of the irrelevant grows."""
    item = [level.detach() for level in levels(2)]
    same = torch.eye(BATCH, dtype=torch.bool)

    def loss(log_p: list[Tensor]) -> Tensor:
        return losses.contrastive_margin(
            [level.exp() for level in log_p], [level.exp() for level in item], same, 1.5
        )

    start = levels(1)
    distance = [
        losses.id_distances(p, [level.exp() for level in item])
        for p in ([level.softmax(-1) for level in start], after(loss, start))
    ]
    gaps = [float(d[~same].mean() - d.diagonal().mean()) for d in distance]
    assert gaps[1] > gaps[0] + 0.2
