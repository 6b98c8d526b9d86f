from __future__ import annotations

import json
import math

import numpy as np
import pytest

from hf_genret.evaluation.docids import balance, entropy
from hf_genret.evaluation.health import Thresholds, as_dicts, check_displaced, check_ids, check_use
from hf_genret.indexing import random_codes


def figures(findings):
    return {(finding.figure, finding.level) for finding in findings}


@pytest.mark.parametrize("n", [0, 1, 5, 10, 30, 200, 3000])
@pytest.mark.parametrize("sizes", [[32, 32], [8, 4, 2], [256, 256, 256], [1, 64]])
def test_balanced_ids_of_any_corpus_are_well(n, sizes):
    """Balanced nodes raise nothing, whether there are fewer documents than codes or more."""
    assert check_ids(random_codes(n, sizes, seed=0), sizes) == []


@pytest.mark.parametrize("n", [10, 16, 32, 64, 200, 3000])
def test_codes_drawn_at_random_are_well(n):
    """Unbalanced, but not collapsed: chance alone raises no alarm."""
    for seed in range(20):
        codes = np.random.default_rng(seed).integers(0, 32, (n, 3))
        assert check_ids(codes, [32, 32, 32]) == []


def test_one_code_for_all_is_found_in_every_figure():
    """A level that collapsed is unused, uneven and unbalanced, and 240 of 256 ids are lost."""
    codes = random_codes(400, [16, 16], seed=0)
    codes[:, 1] = 3
    found = check_ids(codes, [16, 16])
    level_2 = {(figure, 2) for figure in ("share_used", "entropy", "balance")}
    assert figures(found) == level_2 | {("duplicates", None)}
    assert found[-1].value == pytest.approx(240 / 400)
    share = next(finding for finding in found if finding.figure == "share_used")
    assert (share.value, share.threshold) == (1 / 16, 0.5)
    assert "Level 2 uses 1 of 16 possible codes (6 %, at least 50 %" in share.message
    assert "balance term" in share.message


def test_values_are_those_of_the_definitions():
    """Entropy and balance by their own functions, relative to the codes."""
    counts = np.array([97, 1, 1, 1])
    codes = np.repeat(np.arange(4), counts)[:, None]
    found = {finding.figure: finding.value for finding in check_ids(codes, [4])}
    assert found["entropy"] == pytest.approx(entropy(counts) / math.log(4))
    assert found["balance"] == pytest.approx(balance(counts, 4))
    assert found["bucket"] == pytest.approx(0.97 - 0.25)
    assert "share_used" not in found


def test_few_documents_are_compared_with_what_they_can_use():
    """12 documents with 12 of 256 codes use all they can; with 2 they do not."""
    assert check_use(np.bincount(np.arange(12), minlength=256), 1) == []
    found = check_use(np.bincount(np.arange(12) % 2, minlength=256), 1)
    assert figures(found) == {("share_used", 1), ("entropy", 1)}
    assert found[0].value == pytest.approx(2 / 12)
    assert check_use(np.bincount(np.zeros(9, int), minlength=256), 1) == []
    assert check_use(np.zeros(4), 1) == []


def test_shared_ids_count_beyond_what_is_necessary():
    """100 documents on 4 of 16 ids: 12 ids are unused without need; on all 16 none is."""
    codes = np.stack([np.arange(100) % 4, np.arange(100) % 4], axis=1)
    strict = Thresholds(duplicates=0.1)
    found = [f for f in check_ids(codes, [4, 4], thresholds=strict) if f.figure == "duplicates"]
    assert found[0].value == pytest.approx(12 / 100)
    assert "100 documents use 4 of 16 ids" in found[0].message
    even = np.stack([np.arange(100) % 4, np.arange(100) // 4 % 4], axis=1)
    assert check_ids(even, [4, 4], thresholds=strict) == []


def test_most_documents_on_few_ids_are_found():
    """1,000 documents on 20 of 4,096 ids, every level well used."""
    ids = random_codes(20, [16, 16, 16], seed=0)
    found = check_ids(ids[np.arange(1000) % 20], [16, 16, 16])
    assert ("duplicates", None) in figures(found)


def test_one_large_bucket_is_found():
    """A fifth of all documents on one id, the rest apart."""
    codes = random_codes(1000, [32, 32], seed=0)
    codes[:200] = codes[0]
    (found,) = check_ids(codes, [32, 32])
    assert (found.figure, found.level) == ("bucket", None)
    assert found.value == pytest.approx(0.2 - 1 / 1000, abs=0.003)
    assert "of 1,000 documents" in found.message


def test_displaced_documents_are_found_at_their_level():
    """Only the share beyond the threshold, with its figure."""
    codes = random_codes(50, [8, 8], seed=0)
    (found,) = check_ids(codes, [8, 8], displaced=[0.3, 0.45])
    assert (found.figure, found.level, found.value) == ("displaced", 2, 0.45)
    assert "45 % of the documents" in found.message
    assert check_displaced(float("nan"), 1) == []


def test_levels_that_are_uneven_by_design_are_left_out():
    """A last level that only tells equal ids apart is mostly 0."""
    codes = np.concatenate([random_codes(300, [16, 16], seed=0), np.zeros((300, 1), int)], axis=1)
    sizes = [16, 16, 8]
    assert {finding.level for finding in check_ids(codes, sizes)} == {3}
    assert check_ids(codes, sizes, levels=[1, 2]) == []


def test_findings_are_json():
    """As reports hold them."""
    found = check_ids(np.zeros((100, 1), int), [8])
    dicts = as_dicts(found)
    assert [entry["figure"] for entry in dicts] == ["share_used", "entropy", "balance", "bucket"]
    assert set(dicts[0]) == {"figure", "level", "value", "threshold", "message"}
    json.dumps(dicts, allow_nan=False)


def test_ids_of_another_shape_are_refused():
    """Levels, ranges and shares have to fit."""
    with pytest.raises(ValueError, match=r"\[N, 2\], found \[3, 1\]"):
        check_ids(np.zeros((3, 1), int), [4, 4])
    with pytest.raises(ValueError, match="below"):
        check_ids(np.array([[4]]), [4])
    with pytest.raises(ValueError, match="1 shares, found 2"):
        check_ids(np.zeros((3, 1), int), [4], displaced=[0.1, 0.2])
