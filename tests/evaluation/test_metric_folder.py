from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from hf_genret.evaluation import metric_folder
from hf_genret.evaluation.metrics import item_metrics


@pytest.fixture
def metric(tmp_path):
    """The metric as `evaluate.load` gives it, with its caches in a folder of its own."""
    import evaluate

    return evaluate.load(str(metric_folder()), cache_dir=str(tmp_path / "metrics"))


def as_ids(rows):
    return [[f"d{row}" for row in ranked] for ranked in rows]


@pytest.mark.parametrize("k", [1, 5, 10])
def test_equal_to_the_packages_own_metrics(metric, random_split, k):
    """The figures are those of `item_metrics` for judgments that all count the same."""
    queries, rows = random_split()
    relevant = [dict.fromkeys(gains, 1.0) for gains in queries.relevant]
    values = item_metrics(rows, relevant, (k,))
    result = metric.compute(predictions=as_ids(rows), references=as_ids(relevant), k=k)
    expected = {name: values[name].mean() for name in (f"recall@{k}", f"ndcg@{k}", f"mrr@{k}")}
    assert result == pytest.approx(expected)


def test_batches_add_up(metric):
    """`add_batch` and one `compute` see all queries; those without relevant ids are left out."""
    metric.add_batch(predictions=[["b", "a"]], references=[["a"]])
    metric.add_batch(predictions=[["c"], []], references=[[], ["x"]])
    result = metric.compute()
    assert result == pytest.approx(
        {"recall@10": 1 / 2, "ndcg@10": 1 / math.log2(3) / 2, "mrr@10": 1 / 4}
    )


def test_nothing_to_measure_is_nan(metric):
    """No query with a relevant id has no mean."""
    result = metric.compute(predictions=[["a"]], references=[[]], k=3)
    assert all(np.isnan(value) for value in result.values())


@pytest.mark.parametrize(
    ("predictions", "k", "message"), [([["a", "a"]], 10, "twice"), ([["a"]], 0, "at least 1")]
)
def test_bad_input_is_one_sentence(metric, predictions, k, message):
    """Ids ranked twice and cuts below 1 are refused."""
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=[["a"]], k=k)


def test_loads_offline_in_a_fresh_process(tmp_path):
    """No network, no cache, no import of the package."""
    code = (
        "import sys, evaluate; m = evaluate.load(sys.argv[1]);"
        "r = m.compute(predictions=[['b', 'a']], references=[['a']], k=2);"
        "assert r['mrr@2'] == .5, r; assert 'hf_genret' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(metric_folder())],
        cwd=tmp_path,
        env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
