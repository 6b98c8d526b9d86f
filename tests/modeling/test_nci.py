"""NCI's heads: the formula written out, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.modeling.nci_genret import PrefixAwareHeads

SIZES = [3, 2, 4]


def heads(**changes) -> PrefixAwareHeads:
    """Heads of 4 dimensions that mix 2 matrices, every weight at random."""
    settings = {"codebook_sizes": SIZES, "decoder_dim": 4, "decoder_heads": 1, "head_matrices": 2}
    made = PrefixAwareHeads(GenRetConfig(head_type="prefix_aware", **{**settings, **changes}))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def times(matrix, vector) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def plus(*vectors) -> list[float]:
    return [sum(values) for values in zip(*vectors, strict=True)]


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def by_hand(made: PrefixAwareHeads, level: int, hidden: list[float], prefix: list[int]):
    """Logits of one level in Python floats."""
    w = {name: value.tolist() for name, value in made.named_parameters()}
    before = [0.0] * 4
    if prefix:
        first = [1, 1 + 3, 1 + 3 + 2]  # 0 is the start
        rows = [w["codes.weight"][first[i] + code] for i, code in enumerate(prefix)]
        total = plus(*rows)
        mean = sum(total) / 4
        deviation = math.sqrt(sum((x - mean) ** 2 for x in total) / 4 + 1e-5)
        before = [
            (x - mean) / deviation * a + b
            for x, a, b in zip(total, w["norm.weight"], w["norm.bias"], strict=True)
        ]
    inner = [gelu(x) for x in plus(times(w["read.weight"], hidden + before), w["read.bias"])]
    weights = plus(times(w["mix.weight"], inner), w["mix.bias"])
    adapted = hidden
    for weight, matrix in zip(weights, w["matrices"], strict=True):
        adapted = plus(adapted, [weight * x for x in times(matrix, hidden)])
    return plus(times(w[f"maps.{level}.weight"], adapted), w[f"maps.{level}.bias"])


@pytest.mark.parametrize("level", [0, 1, 2])
def test_logits_by_hand(level):
    """W (h + sum_r s_r M_r h) + b with weights from state and prefix, row by row."""
    made, hidden = heads(), torch.randn(5, 4)
    prefix = torch.stack([torch.randint(size, (5,)) for size in SIZES], 1)[:, :level]
    with torch.no_grad():
        found = made(level, hidden, torch.zeros(5, 9), prefix)
    assert found.shape == (5, SIZES[level])
    for row in range(5):
        wanted = by_hand(made, level, hidden[row].tolist(), prefix[row].tolist())
        assert found[row].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_a_code_means_something_else_elsewhere():
    """After another prefix, and at another level, the same state has other logits."""
    made, hidden = heads(), torch.randn(1, 4)
    ways = [torch.tensor([[a, b]]) for a, b in ((0, 1), (1, 0), (1, 1))]
    found = [made(2, hidden, hidden, way) for way in ways]
    for i, one in enumerate(found):
        assert not any(torch.allclose(one, other, atol=1e-3) for other in found[:i])


def test_a_new_model_has_plain_heads():
    """The matrices start at zero and learn: nothing is adapted yet, and their gradient is not 0."""
    config = GenRetConfig(
        query_encoder={"type": "bag", "vocab_size": 9, "dim": 8},
        vector_dim=8,
        codebook_sizes=SIZES,
        head_type="prefix_aware",
    )
    made, hidden = GenRetModel(config).heads, torch.randn(2, 128)
    prefix = torch.tensor([[2, 0], [1, 1]])
    logits = made(2, hidden, hidden, prefix)
    torch.testing.assert_close(logits, made.maps[2](hidden), atol=0, rtol=0)
    logits.square().sum().backward()
    assert made.matrices.grad.abs().sum() > 0


def test_soft_codes_are_refused():
    """A distribution is no code."""
    with pytest.raises(ValueError, match="read codes, not distributions"):
        heads()(1, torch.zeros(2, 4), torch.zeros(2, 4), [torch.full((2, 3), 1 / 3)])
