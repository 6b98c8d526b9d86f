"""Estimators forward and backward, and noise that decays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_genret.training.objectives.estimators import (
    ESTIMATORS,
    DeviationDecay,
    FrequencyDecay,
    Noise,
    gumbel,
    make_noise,
)

LOGITS = torch.tensor([[1.0, 0.2, -0.5], [0.1, 0.0, 0.3]])


def one_hot(codes: list[int]) -> Tensor:
    return torch.eye(3)[codes]


def chosen(name: str, noise: Tensor | None = None, tau: float = 1.0) -> tuple[Tensor, Tensor]:
    """Weights and the logits they were made of."""
    logits = LOGITS.clone().requires_grad_()
    noisy = logits if noise is None else logits + noise
    weights = ESTIMATORS[name]()((noisy / tau).softmax(-1), logits.argmax(-1))
    return weights, logits


def test_soft_is_the_distribution():
    """Forward and backward."""
    weights, _ = chosen("soft", tau=0.5)
    torch.testing.assert_close(weights, (LOGITS / 0.5).softmax(-1))


def test_a_drawn_code_is_the_greatest_with_noise():
    """DIGER: one-hot forward, at what the noise made greatest."""
    noise = torch.tensor([[0.0, 5.0, 0.0], [9.0, 0.0, 0.0]])
    weights, _ = chosen("hard_gumbel", noise, tau=2.0)
    torch.testing.assert_close(weights, one_hot([1, 0]))


@pytest.mark.parametrize("name", ["straight_through", "detached"])
def test_noise_does_not_choose_for_the_others(name):
    """The most probable codes without it."""
    weights, _ = chosen(name, torch.tensor([[0.0, 5.0, 0.0], [9.0, 0.0, 0.0]]))
    torch.testing.assert_close(weights, one_hot([0, 2]))


@pytest.mark.parametrize("name", ["soft", "hard_gumbel", "straight_through"])
@pytest.mark.parametrize("tau", [0.3, 2.0])
def test_the_gradient_is_that_of_the_distribution(name, tau):
    """d p_k / d s_j = p_k (1[k = j] - p_j) / tau, whatever stood forward."""
    noise = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.0]])
    weights, logits = chosen(name, noise, tau)
    push = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    (weights * push).sum().backward()
    p = ((LOGITS + noise) / tau).softmax(-1).double().numpy()
    wanted = np.zeros((2, 3))
    for row in range(2):
        for j in range(3):
            for k in range(3):
                slope = p[row, k] * ((k == j) - p[row, j]) / tau
                wanted[row, j] += float(push[row, k]) * slope
    np.testing.assert_allclose(logits.grad, wanted, rtol=1e-4, atol=1e-6)


def test_a_detached_choice_has_no_gradient():
    """It is a constant."""
    assert not chosen("detached")[0].requires_grad


def test_codes_are_drawn_by_their_probability():
    """The greatest of logits plus Gumbel noise is a draw from softmax(logits), at any tau."""
    logits = LOGITS[:1].expand(40_000, -1)
    p = ((logits + gumbel(logits)) / 2.0).softmax(-1)
    weights = ESTIMATORS["hard_gumbel"]()(p, logits.argmax(-1))
    torch.testing.assert_close(weights.mean(0), LOGITS[0].softmax(-1), atol=0.01, rtol=0)


def test_gumbel_noise_has_gumbels_moments():
    """Mean .577, variance pi^2 / 6, and no infinity."""
    noise = gumbel(torch.empty(100_000))
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(noise.var()) == pytest.approx(np.pi**2 / 6, abs=0.05)


def test_noises_by_name():
    """None is nothing; the others are made with their constants."""
    constants = {"momentum": 0.9, "hot": 2.0, "bias": 0.4}
    still = make_noise("none", 3, **constants)
    assert type(still) is Noise and not still(0, LOGITS).any()
    still.observe(torch.tensor(1.0))
    still.restore(still.state())
    assert make_noise("gumbel", 3, **constants)(0, LOGITS).all()
    assert make_noise("frqud", 3, **constants).hot == 2.0
    assert make_noise("sdud", 3, **constants).bias == 0.4


def test_only_hot_codes_draw():
    """FrqUD: use above 1.5 times the mean; the first level decides for the whole id."""
    noise = FrequencyDecay(4, momentum=0.5, hot=1.5)
    logits = torch.eye(4)[[0, 0, 0, 1]]
    assert not noise(0, logits).any()  # use starts even
    torch.testing.assert_close(noise.use, torch.tensor([0.5, 0.25, 0.125, 0.125]))
    first = noise(0, logits)
    assert first[:3].all() and not first[3].any()
    torch.testing.assert_close(noise.use, torch.tensor([0.625, 0.25, 0.0625, 0.0625]))
    later = noise(1, torch.zeros(4, 7))
    assert later[:3].all() and not later[3].any() and later.shape == (4, 7)
    torch.testing.assert_close(noise.use.sum(), torch.tensor(1.0))


def test_use_that_evens_out_ends_the_noise():
    """No code stays hot."""
    noise = FrequencyDecay(4, momentum=0.9, hot=1.5)
    for _ in range(20):
        noise(0, torch.eye(4)[[0, 0, 0, 0]])
    assert noise(0, torch.eye(4)).any()
    for _ in range(60):
        noise(0, torch.eye(4))
    assert not noise(0, torch.eye(4)).any()


@pytest.mark.parametrize("loss", [0.9, 1.3, 2.0])
def test_sigma_is_the_least_of_its_loss(loss):
    """SDUD: L / (2 (s + b)^2) + log(s + b), tried on a grid of s >= 0."""
    noise = DeviationDecay(3, momentum=0.99, bias=0.7)
    noise.observe(torch.tensor(loss))
    grid = np.linspace(0, 3, 300_001)
    values = loss / (2 * (grid + 0.7) ** 2) + np.log(grid + 0.7)
    assert noise.sigma == pytest.approx(grid[values.argmin()], abs=1e-4)


def test_sigma_falls_with_the_moving_average():
    """1 before the first batch, never above, and 0 when the loss is below bias squared."""
    noise = DeviationDecay(3, momentum=0.5, bias=0.5)
    assert noise.sigma == 1.0
    noise.observe(torch.tensor(9.0))
    assert noise.sigma == 1.0
    seen = []
    for _ in range(8):
        noise.observe(torch.tensor(0.1))
        seen.append(noise.sigma)
    assert seen == sorted(seen, reverse=True) and seen[-1] == 0.0
    assert not noise(0, LOGITS).any()
    noise.restore({"mean_loss": torch.tensor([1.0])})
    assert noise.sigma == pytest.approx(0.5)
    torch.manual_seed(1)
    drawn = noise(0, LOGITS)
    torch.manual_seed(1)
    torch.testing.assert_close(drawn, 0.5 * gumbel(LOGITS))
