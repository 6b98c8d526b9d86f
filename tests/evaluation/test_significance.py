from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hf_genret.errors import ConfigError, DataError
from hf_genret.evaluation.bootstrap import bootstrap_interval, paired_p_value
from hf_genret.evaluation.significance import compare_with, holm


def test_holm_by_hand():
    """The smallest p times 3, the next times 2, the last as it is, never falling."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]).tolist() == []


def test_holm_keeps_the_chance_of_a_false_alarm():
    """Of many families of true hypotheses about 5 % hold a corrected p below .05."""
    rng = np.random.default_rng(0)
    alarms = [(holm(rng.random(6)) <= 0.05).any() for _ in range(4000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.012)


def test_differences_are_paired():
    """Difference, interval and p are those of the differences of the same queries."""
    rng = np.random.default_rng(0)
    base = rng.random(80)
    values = {"base": base, "near": base + 0.01, "far": base + rng.normal(0.1, 0.2, 80)}
    result = compare_with(values, "base", 3)
    assert list(result) == ["near", "far"]
    assert result["near"]["difference"] == pytest.approx(0.01)
    assert (result["near"]["low"], result["near"]["high"]) == pytest.approx((0.01, 0.01))
    difference = values["far"] - base
    low, high = bootstrap_interval(difference, seed=3)
    assert (result["far"]["low"], result["far"]["high"]) == (low, high)
    assert result["far"]["p_single"] == paired_p_value(values["far"], base, seed=3)
    corrected = holm([entry["p_single"] for entry in result.values()])
    assert [entry["p"] for entry in result.values()] == corrected.tolist()


def test_single_p_agrees_with_scipy():
    """The randomization test of an independent implementation, up to sampling."""
    rng = np.random.default_rng(1)
    first = rng.random(50)
    second = first + rng.normal(0.04, 0.15, 50)
    reference = stats.permutation_test(
        (second, first),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=0,
    ).pvalue
    found = compare_with({"a": first, "b": second}, "a")["b"]
    assert found["p"] == found["p_single"] == pytest.approx(reference, abs=0.01)


def test_seeds_are_averaged_at_each_query():
    """Three trainings count as their mean, on either side and beside a single one."""
    rng = np.random.default_rng(0)
    seeds = [rng.random(30) for _ in range(3)]
    base = rng.random(30)
    plain = compare_with({"base": base, "x": np.mean(seeds, axis=0)}, "base")
    assert compare_with({"base": [base], "x": seeds}, "base") == plain
    assert compare_with({"base": [base], "x": np.stack(seeds)}, "base") == plain


def test_missing_queries_are_left_out():
    """A query that is NaN in one of the two does not count; none left is no difference."""
    first, second = np.array([1.0, np.nan, 0.5]), np.array([0.5, 1.0, np.nan])
    assert compare_with({"a": first, "b": second}, "a")["b"]["difference"] == -0.5
    empty = compare_with({"a": np.array([np.nan]), "b": np.array([1.0])}, "a")["b"]
    assert math.isnan(empty["difference"])
    assert empty["p"] == 1.0


def test_what_does_not_fit_is_refused():
    """An unknown baseline, other queries, uneven seeds."""
    with pytest.raises(ConfigError, match="Unknown baseline 'x'; known: a"):
        compare_with({"a": np.ones(2)}, "x")
    with pytest.raises(DataError, match="'b' has values for 3 queries; 'a' has 2"):
        compare_with({"a": np.ones(2), "b": np.ones(3)}, "a")
    with pytest.raises(DataError, match=r"\[2, 3\] queries"):
        compare_with({"a": [np.ones(2), np.ones(3)]}, "a")
