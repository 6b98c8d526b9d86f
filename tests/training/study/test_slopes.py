from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hf_genret.errors import DataError
from hf_genret.training.study.lines import make_lines, ratio
from hf_genret.training.study.slopes import METRICS, slopes


def slope_of(study, factor, system, metric="ndcg@10"):
    """The entry of one line and metric."""
    found = slopes(study.cells, study.values)
    keys = ("factor", "system", "metric")
    return next(s for s in found if tuple(s[key] for key in keys) == (factor, system, metric))


def test_slope_is_that_of_numpy(make_study):
    """Least squares of the means on log2 of the value."""
    study = make_study().line("corpus", "dense", {100: 0.6, 300: 0.5, 1000: 0.45, 7000: 0.2})
    entry = slope_of(study, "corpus", "dense")
    means = [study.values[cell["slug"]]["ndcg@10"].mean() for cell in study.cells]
    expected = np.polyfit(np.log2([100, 300, 1000, 7000]), means, 1)[0]
    assert entry["per_doubling"]["mean"] == pytest.approx(expected)
    assert entry["relative_per_doubling"]["mean"] == pytest.approx(expected / np.mean(means))
    assert entry["points"] == [100, 300, 1000, 7000]


def test_interval_is_paired_and_agrees_with_scipy(make_study):
    """Queries are resampled with all their cells: their own difficulty does not widen it."""
    study = make_study().line("beams", "generative", {1: 0.3, 2: 0.35, 4: 0.42})
    entry = slope_of(study, "beams", "generative")["per_doubling"]
    table = np.stack([study.values[cell["slug"]]["ndcg@10"] for cell in study.cells], axis=1)

    def statistic(first, second, third, axis=-1):
        del second
        return (third.mean(axis) - first.mean(axis)) / 2  # the slope over 0, 1, 2

    reference = stats.bootstrap(
        tuple(table.T.astype(float)),
        statistic,
        paired=True,
        method="percentile",
        n_resamples=2000,
        rng=1,
    ).confidence_interval
    assert entry["low"] == pytest.approx(reference.low, abs=4e-4)
    assert entry["high"] == pytest.approx(reference.high, abs=4e-4)
    alone = study.cells[0]["metrics"]["ndcg@10"]
    assert entry["high"] - entry["low"] < 0.3 * (alone["high"] - alone["low"])


def test_what_stands_apart_has_no_part_in_the_slope(make_study):
    """In-batch negatives, the full width and levels of reference."""
    study = make_study().line("negatives", "dense", {1: 0.3, 2: 0.4, 4: 0.5}, noise=0)
    study.add("negatives", "in-batch", "dense", 0.9, value=63.0)
    study.add("negatives", "reference", "generative", 0.9)
    study.line("dim", "dense", {16: 0.3, 32: 0.4}, noise=0)
    study.add("dim", "full", "dense", 0.9, value=384.0)
    assert slope_of(study, "negatives", "dense")["per_doubling"]["mean"] == pytest.approx(0.1)
    assert slope_of(study, "dim", "dense")["per_doubling"]["mean"] == pytest.approx(0.1)
    found = slopes(study.cells, study.values)
    assert len(found) == 2 * len(METRICS)
    points = make_lines(study.cells, study.values)["negatives", "dense"].points
    assert [point.label for point in points] == ["1", "2", "4", "in-batch"]


def test_hardness_runs_from_none_to_all(make_study):
    """Its values start at 0, which has no doubling."""
    study = make_study().line("hardness", "dense", {0: 0.5, 0.5: 0.4, 1: 0.3}, noise=0)
    entry = slope_of(study, "hardness", "dense")
    assert entry["from_0_to_1"]["mean"] == pytest.approx(-0.2)
    assert "per_doubling" not in entry


def test_seeds_are_averaged_query_by_query(make_study):
    """Two trainings of each value make one line."""
    study = make_study()
    for seed, lift in ((0, 0.0), (1, 0.2)):
        study.line("beams", "generative", {1: 0.3 + lift, 2: 0.4 + 2 * lift}, seed=seed, noise=0)
    entry = slope_of(study, "beams", "generative")
    assert entry["per_doubling"]["mean"] == pytest.approx(0.2)
    assert entry["seeds"] == [0, 1]


def test_queries_without_a_value_are_left_out(make_study):
    """NaN in one cell leaves the query out of the whole line."""
    study = make_study().line("beams", "generative", {1: 0.3, 2: 0.4}, noise=0)
    for cell, gap in zip(study.cells, (slice(0, 5), slice(5, 9)), strict=True):
        study.values[cell["slug"]]["ndcg@10"][gap] = np.nan
    entry = slope_of(study, "beams", "generative")["per_doubling"]
    assert entry["mean"] == pytest.approx(0.1)


def test_lines_without_a_slope(make_study):
    """One point, names for values, or nothing at all give no entry."""
    study = make_study().line("corpus", "dense", {100: 0.5})
    study.add("similarity", "dot", "dense", 0.5).update(value=1.0)
    study.add("similarity", "cosine", "dense", 0.5).update(value=2.0)
    assert slopes(study.cells, study.values) == []
    assert slopes([], {}) == []


def test_a_ratio_over_zero_is_not_known():
    """No share of what may be nothing."""
    values = np.random.default_rng(0).normal(0, 1, 200)
    assert ratio(values, values - values.mean()) is None
    found = ratio(values + 4, values + 2)
    assert found["low"] < found["mean"] == pytest.approx((values.mean() + 4) / (values.mean() + 2))
    assert ratio(np.array([np.nan]), np.array([1.0])) is None


def test_cells_of_one_factor_share_their_queries(make_study):
    """Another number of queries is refused; another factor may have one."""
    study = make_study().line("corpus", "dense", {1: 0.5, 2: 0.4}).line("dim", "dense", {1: 0.1})
    study.values["dim-1-dense-s0"] = {"ndcg@10": np.zeros(7)}
    slopes(study.cells, study.values)
    study.values["corpus-2-dense-s0"] = {"ndcg@10": np.zeros(7)}
    with pytest.raises(DataError, match="corpus-2-dense-s0 has values for 7 queries"):
        slopes(study.cells, study.values)
