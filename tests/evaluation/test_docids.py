from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hf_genret.evaluation.docids import (
    ape,
    ape_report,
    balance,
    docid_report,
    entropy,
    leaf_of_row,
    theorem1_report,
)

CODES = np.array([[0, 0], [0, 0], [0, 1], [2, 1]])


def test_code_use_by_hand():
    """Level 1 uses codes 0 and 2 of 3 with counts 3 and 1; level 2 both of 2 evenly."""
    first, second = docid_report(CODES, [3, 2])["levels"]
    assert (first["used"], first["share_used"]) == (2, pytest.approx(2 / 3))
    assert first["entropy"] == pytest.approx(stats.entropy([3, 1]))
    assert first["entropy_normalised"] == pytest.approx(stats.entropy([3, 1], base=3))
    assert first["balance"] == pytest.approx(1 - (5 / 3 + 4 / 3 + 1 / 3) / 8)
    assert second["entropy_normalised"] == second["balance"] == pytest.approx(1.0)


def test_buckets_by_hand():
    """Three of six leaves are used with 2, 1 and 1 documents; two documents share an id."""
    buckets = docid_report(CODES, [3, 2])["buckets"]
    assert (buckets["leaves"], buckets["used"], buckets["empty"]) == (6, 3, 3)
    assert buckets["size"] == {"min": 1, "median": 1.0, "mean": pytest.approx(4 / 3), "max": 2}
    assert buckets["duplicate_ids"] == 2
    assert buckets["largest_share"] == 0.5


def test_no_documents():
    """An empty index is all zeros, not a failure."""
    report = docid_report(np.zeros((0, 2), dtype=int), [3, 2])
    assert report["buckets"]["used"] == 0
    assert report["buckets"]["size"]["min"] == 0
    assert report["levels"][0]["entropy"] == 0.0


def test_balance_runs_from_one_place_to_even():
    """1 when even, 1/K when one place holds everything, also with more leaves than 64 bits."""
    assert balance(np.full(8, 5), 8) == pytest.approx(1.0)
    assert balance(np.array([40]), 8) == pytest.approx(1 / 8)
    assert 0 <= balance(np.ones(10), 512**8) < 1e-12


def test_entropy_of_nothing_is_zero():
    """No count, no uncertainty."""
    assert entropy(np.array([])) == entropy(np.array([0, 7, 0])) == 0.0


def test_leaf_numbers_follow_codes():
    """Equal codes share a bucket; fewer levels give coarser buckets."""
    assert leaf_of_row(CODES).tolist() == [0, 0, 1, 2]
    assert leaf_of_row(CODES, 1).tolist() == [0, 0, 0, 1]


def test_ape_by_hand():
    """Positives split 2 and 1 over leaves for one query, all in one leaf for the other."""
    relevant = [{0: 1.0, 1: 3.0, 2: 1.0}, {0: 1.0, 1: 1.0, 3: 0.0}, {}]
    expected = (stats.entropy([2, 1]) + 0.0) / 2
    assert ape(leaf_of_row(CODES), relevant) == pytest.approx(expected)
    assert math.isnan(ape(leaf_of_row(CODES), [{}]))


def test_ape_of_random_ids_loses_what_collisions_cost():
    """n positives over B random leaves lose about (n - 1) / B * ln 2 nats against unique ids."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (20_000, 2))
    relevant = [dict.fromkeys(rng.choice(20_000, 7, replace=False), 1.0) for _ in range(20_000)]
    report = ape_report(codes, relevant, [16, 16], pool=240.0)
    assert report["unbucketed"] == pytest.approx(math.log(7))
    assert math.log(7) - report["leaf"]["ape"] == pytest.approx(6 / 256 * math.log(2), rel=0.1)
    assert report["leaf"]["ape"] == pytest.approx(report["leaf"]["random"], abs=0.003)
    assert report["level_1"]["ape"] < report["leaf"]["ape"]
    assert (report["positives"], report["pool"]) == (7.0, 240.0)


def test_collapsed_ids_show_in_balance():
    """Everything in one bucket has the best APE, so balance stands beside it."""
    report = ape_report(np.zeros((10, 1), dtype=int), [{0: 1.0, 1: 1.0}], [5])
    assert report["leaf"]["ape"] == report["leaf"]["random"] == 0.0
    assert report["leaf"]["balance"] == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("counts", "needed", "met"),
    [
        ((1_093_920, 191_330, 112_388, 64), 62_700, True),  # KuaiSAR
        ((162_713, 41_895, 15_817, 32), 13_700, True),  # Beauty
        ((90_557, 13_271, 25_357, 32), 14_300, False),  # Toys
    ],
)
def test_theorem_1_on_the_papers_data_sets(counts, needed, met):
    """Level 1 holds on two of the three sets, the leaves on all of them."""
    report = theorem1_report(*counts)
    assert report["level_1"]["needed"] == pytest.approx(needed, abs=50)
    assert report["level_1"]["met"] is met
    assert report["leaf"]["buckets"] == counts[3] ** 2
    assert report["leaf"]["met"] is True


@pytest.mark.parametrize("counts", [(0, 5, 5, 2), (30, 5, 5, 2)])
def test_theorem_1_needs_a_density(counts):
    """No interactions, or more than there are pairs, is an error."""
    with pytest.raises(ValueError, match="Theorem 1 needs"):
        theorem1_report(*counts)
