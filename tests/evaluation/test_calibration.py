from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hf_genret.errors import DataError
from hf_genret.evaluation import calibration
from hf_genret.evaluation.calibration import (
    calibration_report,
    confidence,
    drift,
    expected_calibration_error,
    log_z,
    rank_correlation,
    sampled_log_z,
)


def drawn(documents, k, positive, seed=0):
    """The negatives of the first query."""
    pick = np.random.default_rng(seed).choice(documents - 1, k, replace=False, shuffle=False)
    return [int(row) + (row >= positive) for row in pick]


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def test_log_z_by_hand():
    """The sum of exponentials, also of scores far from zero."""
    scores = np.array([[0.0, math.log(2), math.log(5)], [1000.0, 1000.0, -1000.0]])
    np.testing.assert_allclose(log_z(scores), [math.log(8), 1000 + math.log(2)])


def test_sampled_log_z_by_hand():
    """The positive once, each negative for (N - 1)/K documents."""
    scores = np.array([[0.3, -1.0, 2.0, 0.5, 1.5, -0.2]])
    negatives = drawn(6, 2, positive=3)
    expected = math.exp(0.5) + 5 / 2 * sum(math.exp(scores[0, row]) for row in negatives)
    assert 3 not in negatives
    assert sampled_log_z(scores, [{3: 1.0}], 2)[0] == pytest.approx(math.log(expected))


def test_kl_equals_that_of_the_written_out_distribution(rng):
    """p_K made document by document sums to one; scipy's KL from it is ours."""
    scores = rng.normal(0, 2, (1, 40))
    negatives = drawn(40, 6, positive=11)
    weights = np.exp(scores[0])
    claimed = np.full(40, weights[negatives].mean())
    claimed[[11, *negatives]] = weights[[11, *negatives]]
    normaliser = math.exp(sampled_log_z(scores, [{11: 1.0}], 6)[0])
    assert claimed.sum() == pytest.approx(normaliser)
    expected = stats.entropy(softmax(scores[0]), claimed / claimed.sum())
    found = drift(scores, [{11: 1.0}], 6)
    assert found["kl"][0] == pytest.approx(expected)
    assert found["gap"][0] == pytest.approx(log_z(scores)[0] - math.log(normaliser))


@pytest.mark.parametrize("k", [None, 29, 500])
def test_nothing_drifts_when_all_documents_are_negatives(rng, k):
    """K = N - 1, and more than there are, gives the normaliser itself."""
    scores, relevant = rng.normal(0, 3, (20, 30)), [{int(i): 1.0} for i in range(20)]
    found = drift(scores, relevant, k)
    np.testing.assert_allclose(found["kl"], 0, atol=1e-12)
    np.testing.assert_allclose(found["gap"], 0, atol=1e-12)


def test_drift_falls_with_negatives_and_grows_with_documents(rng):
    """What 5.3.1 says of the gap; the estimate of Z itself has no bias."""
    relevant = [{0: 1.0}] * 300
    scores = rng.normal(0, 2, (300, 400))
    by_k = [drift(scores, relevant, k)["kl"].mean() for k in (2, 8, 32, 128)]
    assert by_k == sorted(by_k, reverse=True)
    by_n = [drift(scores[:, :n], relevant, 8)["kl"].mean() for n in (20, 100, 400)]
    assert by_n == sorted(by_n)
    assert drift(scores, relevant, 8)["gap"].mean() > 0  # the log of a mean, Jensen
    draws = [sampled_log_z(scores[:1], relevant[:1], 8, seed)[0] for seed in range(3000)]
    assert np.exp(draws).mean() == pytest.approx(np.exp(scores[0]).sum(), rel=0.05)


def test_negatives_are_drawn_alike(rng):
    """Two systems are compared on the same negatives, whoever has judgments."""
    scores = rng.normal(size=(3, 50))
    some = sampled_log_z(scores, [{}, {4: 1.0}, {9: 1.0, 7: 2.0}], 5)
    every = sampled_log_z(scores, [{2: 1.0}, {4: 1.0}, {7: 1.0}], 5)
    assert math.isnan(some[0])
    np.testing.assert_array_equal(some[1:], every[1:])


def test_confidence_of_a_bucket():
    """Documents of one bucket are equally probable; one of two is relevant."""
    log_p = np.log([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    sure, right = confidence(log_p, [{1: 1.0}, {2: 1.0, 0: 1.0}, {}])
    np.testing.assert_allclose(sure, [0.4, 0.7, np.nan])
    np.testing.assert_array_equal(right, [0.5, 1.0, np.nan])


def test_calibration_error_by_hand():
    """Two bins: .1 against .3 and .4 against .75, the four queries half and half."""
    log_p = np.log([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.9, 0.1]])
    relevant = [{0: 1.0}, {1: 1.0}, {0: 1.0}, {0: 1.0}]
    found, table = expected_calibration_error(log_p, relevant, bins=2)
    assert found == pytest.approx(0.5 * abs(0.65 - 0.5) + 0.5 * abs(0.85 - 1.0))
    assert [row["queries"] for row in table] == [2, 2]
    assert table[0]["confidence"] == pytest.approx(0.65)
    assert table[1]["accuracy"] == pytest.approx(1.0)


def test_calibration_error_of_a_calibrated_model(rng):
    """Answers drawn from the model's own distribution: next to nothing, and less than sharpened."""
    scores = rng.normal(0, 2, (8000, 5))
    relevant = [{int(rng.choice(5, p=softmax(row))): 1.0} for row in scores]
    found, _ = expected_calibration_error(scores, relevant)
    sharp, _ = expected_calibration_error(3 * scores, relevant)
    assert found < 0.02
    assert sharp > 0.15


def test_rank_correlation_agrees_with_scipy(rng):
    """Without what is not known; a constant has no order."""
    first, second = rng.normal(size=50), rng.normal(size=50)
    first[3] = np.nan
    keep = np.arange(50) != 3
    expected = stats.spearmanr(first[keep], second[keep]).statistic
    assert rank_correlation(first, second) == pytest.approx(expected)
    assert math.isnan(rank_correlation(np.full(50, 2.0), second))


def test_report_of_logits_and_of_log_probabilities(rng):
    """A model that normalises by itself has log Z = 0 and no drift, a dense one has both."""
    scores = rng.normal(0, 2, (100, 60)) + 30 * rng.random((100, 1))
    relevant = [{int(row.argmax()): 1.0} for row in scores]
    dense = calibration_report(scores, relevant, 4)
    log_p = scores - log_z(scores)[:, None]
    own = calibration_report(log_p.astype(np.float32), relevant, None)
    kl = drift(scores, relevant, 4)["kl"]
    assert dense["kl"]["mean"] == pytest.approx(kl.mean())
    assert dense["kl"]["low"] < kl.mean() < dense["kl"]["high"]
    assert dense["log_z_std"] == pytest.approx(log_z(scores).std())
    spread = stats.bootstrap(
        (log_z(scores),), np.std, method="percentile", rng=1
    ).confidence_interval
    ends = dense["log_z_spread"]["low"], dense["log_z_spread"]["high"]
    assert ends == pytest.approx((spread.low, spread.high), rel=0.05)
    assert 0.8 < dense["log_z_rank_correlation"] < 1
    assert own["kl"]["mean"] == pytest.approx(0, abs=1e-5)
    assert own["log_z_std"] == pytest.approx(0, abs=1e-5)
    assert own["log_z_rank_correlation"] is None
    assert own["ece"]["mean"] == pytest.approx(dense["ece"]["mean"], abs=1e-5)
    assert own["ece"]["low"] <= own["ece"]["mean"] <= own["ece"]["high"]


def test_same_figures_in_any_chunks(rng, monkeypatch):
    """Memory limits do not show."""
    scores, relevant = rng.normal(size=(9, 20)), [{1: 1.0}] * 9
    whole = calibration_report(scores, relevant, 3)
    monkeypatch.setattr(calibration, "_CELLS", 50)
    assert calibration_report(scores, relevant, 3) == whole


def test_what_does_not_fit_is_refused(rng):
    """One sentence each."""
    scores = rng.normal(size=(2, 5))
    with pytest.raises(DataError, match=r"scores \[3, documents\]"):
        drift(scores, [{0: 1.0}] * 3, 2)
    with pytest.raises(DataError, match="row 5 is relevant"):
        confidence(scores, [{5: 1.0}, {}])
    with pytest.raises(DataError, match="at least 1 negative"):
        drift(scores, [{0: 1.0}] * 2, 0)
    with pytest.raises(DataError, match="at least 1 bin"):
        expected_calibration_error(scores, [{0: 1.0}] * 2, bins=0)
