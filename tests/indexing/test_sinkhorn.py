from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.indexing.sinkhorn import centred, sinkhorn


def scores(b: int, k: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(b, k, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("b", "k"), [(12, 4), (4, 12), (7, 7), (1, 3), (5, 1)])
def test_marginals(b: int, k: int) -> None:
    """Rows sum to 1, columns to B / K, whichever of the two is larger."""
    p = sinkhorn(scores(b, k))
    torch.testing.assert_close(p.sum(1), torch.ones(b))
    torch.testing.assert_close(p.sum(0), torch.full((k,), b / k), atol=1e-4, rtol=1e-4)


def test_two_by_two_by_hand() -> None:
    """A 2 x 2 scaling keeps the cross ratio ad / bc = r, so that p / (1 - p) = sqrt(r)."""
    a, b, c, d = 3.0, 1.0, 0.5, 0.2
    p = sinkhorn(torch.tensor([[a, b], [c, d]]))
    root = np.exp((a + d - b - c) / 2)
    expected = root / (1 + root)
    torch.testing.assert_close(p[0, 0].item(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(p[1, 1].item(), expected, atol=1e-5, rtol=0)


def test_epsilon_divides_the_scores() -> None:
    """Scores over epsilon at 1 is the same as the scores at epsilon."""
    x = scores(6, 3)
    torch.testing.assert_close(sinkhorn(x, epsilon=0.5), sinkhorn(x / 0.5))


def test_equals_plain_scaling() -> None:
    """Ordinary matrix scaling in double precision gives the same."""
    x = scores(9, 4)
    h = np.exp(x.double().numpy())
    for _ in range(100):
        h *= (9 / 4) / h.sum(axis=0, keepdims=True)
        h /= h.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sinkhorn(x).numpy(), h, atol=1e-5)


def test_small_epsilon_and_large_scores_stay_finite() -> None:
    """Where exp() overflows, the result is still a proper one."""
    p = sinkhorn(scores(8, 4, scale=100), epsilon=0.003)
    assert torch.isfinite(p).all()
    torch.testing.assert_close(p.sum(1), torch.ones(8))


def test_shifts_of_rows_and_columns_change_nothing() -> None:
    """Only the cross ratios of the scores matter."""
    x = scores(6, 3)
    moved = x + scores(6, 1) + scores(1, 3)
    torch.testing.assert_close(sinkhorn(moved), sinkhorn(x), atol=1e-4, rtol=1e-3)


def test_code_that_everybody_likes_is_shared_out() -> None:
    """Plain softmax collapses onto code 0, the scaled one uses all codes."""
    x = scores(40, 4, scale=0.1)
    x[:, 0] += 5
    assert (x.argmax(1) == 0).all()
    assert torch.bincount(sinkhorn(x, epsilon=0.1).argmax(1), minlength=4).min() >= 5


def test_gradient_equals_differences() -> None:
    """The gradient through the iterations is that of finite differences."""
    x = scores(4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: sinkhorn(s, epsilon=0.7, iterations=20), (x,))


def test_half_precision_is_raised() -> None:
    """bfloat16 scores give float32 probabilities that sum to 1."""
    p = sinkhorn(scores(5, 3).bfloat16())
    assert p.dtype == torch.float32
    torch.testing.assert_close(p.sum(1), torch.ones(5))


def test_empty_batch_is_empty() -> None:
    """No rows, nothing to scale."""
    assert sinkhorn(torch.empty(0, 3)).shape == centred(torch.empty(0, 3)).shape == (0, 3)


def test_centred_by_hand() -> None:
    """Largest and smallest score become 1 and -1, the middle 0."""
    x = torch.tensor([[1.0, 3.0], [5.0, 2.0]])
    torch.testing.assert_close(centred(x), torch.tensor([[-1.0, 0.0], [1.0, -0.5]]))
    torch.testing.assert_close(centred(1e-6 * x), centred(x))
    assert (centred(torch.full((2, 2), 7.0)) == 0).all()


def test_wrong_arguments_are_named() -> None:
    """Vectors, a vanishing epsilon and no iterations are refused."""
    with pytest.raises(ValueError, match=r"\[batch, codes\].*\(3,\)"):
        sinkhorn(torch.zeros(3))
    with pytest.raises(ValueError, match=r"above 0, found 0\.0 and 100"):
        sinkhorn(torch.zeros(2, 2), epsilon=0.0)
    with pytest.raises(ValueError, match=r"above 0, found 1\.0 and 0"):
        sinkhorn(torch.zeros(2, 2), iterations=0)
