from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hf_genret.evaluation import bootstrap
from hf_genret.evaluation.bootstrap import bootstrap_interval, paired_p_value, summarise


def test_interval_agrees_with_scipy():
    """The percentile interval of an independent implementation, up to sampling."""
    values = np.random.default_rng(0).beta(1, 2, 300)
    low, high = bootstrap_interval(values, samples=4000, seed=1)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=2
    ).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.004)


def test_same_seed_same_interval_in_any_chunks(monkeypatch):
    """Memory limits do not show in the figures."""
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_interval(values, seed=3)
    monkeypatch.setattr(bootstrap, "_CELLS", 170)
    assert bootstrap_interval(values, seed=3) == pytest.approx(whole, abs=1e-12)
    assert bootstrap_interval(values, seed=4) != whole


def test_level_widens_the_interval():
    """99 % holds 90 %."""
    values = np.random.default_rng(0).random(80)
    low, high = bootstrap_interval(values, level=0.9, seed=0)
    lower, higher = bootstrap_interval(values, level=0.99, seed=0)
    assert lower < low < values.mean() < high < higher


def test_missing_values_are_left_out():
    """NaN queries count neither in the mean nor in the interval; none left is NaN."""
    values = np.array([0.0, 1.0, np.nan, 1.0])
    assert bootstrap_interval(values, seed=0) == bootstrap_interval(values[[0, 1, 3]], seed=0)
    assert summarise({"x": values})["x"]["mean"] == pytest.approx(2 / 3)
    assert all(math.isnan(end) for end in bootstrap_interval(np.array([np.nan])))
    assert summarise({"x": np.array([np.nan])}) == {}
    assert summarise({}) == {}


def test_summary_equals_single_intervals():
    """Metrics summarised together have the intervals they have alone."""
    rng = np.random.default_rng(0)
    values = {"a": rng.random(30), "b": rng.random(30)}
    summary = summarise(values, seed=5)
    for name, column in values.items():
        low, high = bootstrap_interval(column, seed=5)
        expected = {"mean": column.mean(), "low": low, "high": high}
        assert summary[name] == pytest.approx(expected)


def test_paired_test_agrees_with_scipy():
    """The randomization test of an independent implementation, up to sampling."""
    rng = np.random.default_rng(0)
    first = rng.random(60)
    second = first + rng.normal(0.05, 0.2, 60)
    reference = stats.permutation_test(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=1,
    ).pvalue
    assert paired_p_value(first, second, seed=2) == pytest.approx(reference, abs=0.02)


def test_paired_test_of_equal_and_of_clearly_different_systems():
    """p is 1 without a difference, and never 0."""
    values = np.linspace(0, 1, 40)
    assert paired_p_value(values, values) == 1.0
    assert paired_p_value(values, values + 1, samples=500) == pytest.approx(1 / 501)


def test_paired_test_needs_pairs():
    """Different lengths are an error, not a broadcast."""
    with pytest.raises(ValueError, match="equal lengths"):
        paired_p_value(np.ones(3), np.ones(1))
