from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_softmax

from hf_genret.errors import DataError
from hf_genret.evaluation.spectrum import (
    centred,
    effective_rank,
    head_report,
    numerical_rank,
    residual_beyond,
    singular_values,
    spectrum_report,
)


def with_values(rng, values, shape):
    """A matrix of given singular values."""
    left = np.linalg.qr(rng.normal(size=(shape[0], len(values))))[0]
    right = np.linalg.qr(rng.normal(size=(shape[1], len(values))))[0]
    return left * np.asarray(values) @ right.T


@pytest.mark.parametrize("shape", [(6, 50), (50, 6), (8, 9)])
def test_singular_values_of_any_shape(rng, shape):
    """The reduction of a long side changes nothing."""
    matrix = with_values(rng, [5.0, 3.0, 1.0, 0.1], shape)
    found = singular_values(matrix)
    assert len(found) == min(shape)
    np.testing.assert_allclose(found[:4], [5, 3, 1, 0.1])
    np.testing.assert_allclose(found[4:], 0, atol=1e-12)


def test_effective_rank_by_hand(rng):
    """Equal values count as many, a dominant one as little more than one."""
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.ones((4, 9))) == pytest.approx(1)
    assert effective_rank(np.zeros((4, 9))) == 0.0
    shares = [0.5, 0.25, 0.25]
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert effective_rank(with_values(rng, [2.0, 1.0, 1.0], (5, 30))) == pytest.approx(expected)


def test_numerical_rank_and_what_it_leaves(rng):
    """A value below the tolerance is none; Eckart-Young shares are those of its square."""
    matrix = with_values(rng, [4.0, 2.0, 1e-3, 1e-9], (10, 40))
    assert numerical_rank(matrix) == 3
    assert numerical_rank(matrix, 0.1) == 2
    assert residual_beyond(matrix, 1) == pytest.approx(4 / 20, rel=1e-6)
    assert residual_beyond(matrix, 0) == 1.0
    assert residual_beyond(matrix, 10) == 0.0
    truncated = with_values(np.random.default_rng(0), [4.0], (10, 40))
    assert residual_beyond(truncated, 1) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("dim", [3, 8])
def test_dense_log_probabilities_have_low_rank(rng, dim):
    """At most d + 1, and d once centred; also in float32, whatever the normalisers are."""
    scores = 3 * rng.normal(size=(60, dim)) @ rng.normal(size=(dim, 300))
    log_p = log_softmax(scores, axis=1).astype(np.float32)
    assert numerical_rank(log_p) == dim + 1
    report = spectrum_report(log_p, dim)
    assert report["numerical_rank"] == dim
    assert report["residual"] < 1e-10
    assert 1 < report["effective_rank"] <= dim + 1e-6
    assert report["effective_rank"] == pytest.approx(
        spectrum_report(scores, dim)["effective_rank"], rel=1e-4
    )


def test_a_product_of_two_softmaxes_exceeds_it(rng):
    """Each level alone is of low rank; their sum of log-probabilities is not."""
    dim, queries, codes = 4, 80, 6
    hidden = np.tanh(rng.normal(size=(queries, dim)))
    first = log_softmax(2 * hidden @ rng.normal(size=(dim, codes)), axis=1)
    below = [
        # The second level sees the first code: another state, one head for all.
        np.tanh(2 * hidden @ rng.normal(size=(dim, dim)) + rng.normal(size=dim))
        for _ in range(codes)
    ]
    head = 2 * rng.normal(size=(dim, codes))
    second = [log_softmax(state @ head, axis=1) for state in below]
    for level in (first, *second):
        assert numerical_rank(level) <= dim + 1
    log_p = np.concatenate([first[:, [c]] + second[c] for c in range(codes)], axis=1)
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1)
    report = spectrum_report(log_p, dim)
    assert report["numerical_rank"] > 2 * report["bound"]
    assert report["effective_rank"] > report["bound"]
    assert report["residual"] > 0.01


def test_a_head_alone_has_the_rank_of_its_width(rng):
    """Documents of one first code are added up; what is below them does not matter."""
    dim, codes = 3, 12
    head = log_softmax(rng.normal(size=(40, dim)) @ rng.normal(size=(dim, codes)), axis=1)
    first = np.repeat(np.arange(codes), 4)
    below = log_softmax(rng.normal(size=(40, codes, 4)), axis=2).reshape(40, -1)
    order = rng.permutation(len(first))
    log_p = (head[:, first] + below)[:, order].astype(np.float32)
    found = head_report(log_p, first[order], dim)
    assert (found["numerical_rank"], found["codes"], found["bound"]) == (dim, codes, dim + 1)
    assert spectrum_report(log_p, dim)["numerical_rank"] > 2 * dim
    with pytest.raises(DataError, match=r"\[3\] codes do not fit"):
        head_report(log_p, first[:3], dim)


def test_documents_without_an_id_are_left_out(rng):
    """They have no probability to shift; the rest is centred row by row."""
    log_p = rng.normal(size=(5, 8))
    log_p[:, 2] = -np.inf
    found = centred(log_p)
    assert found.shape == (5, 7)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-12)
    assert spectrum_report(log_p, 3)["documents"] == 7


def test_what_has_no_spectrum_is_refused():
    """One sentence for infinite values and for nothing at all."""
    with pytest.raises(DataError, match=r"\[1, 2\] with 1 values"):
        singular_values(np.array([[1.0, np.inf]]))
    with pytest.raises(DataError, match="finite values"):
        spectrum_report(np.full((2, 3), -np.inf), 4)
