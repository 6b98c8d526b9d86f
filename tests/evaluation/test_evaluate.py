from __future__ import annotations

import json

import numpy as np
import pytest

from hf_genret.data.schema import Queries
from hf_genret.errors import DataError
from hf_genret.evaluation import Run, evaluate_run, per_query
from hf_genret.evaluation.frequency import frequency_groups
from hf_genret.evaluation.groups import query_groups
from hf_genret.evaluation.report import plain


def test_means_are_those_of_the_queries(random_split):
    """Every mean equals the mean of the per-query values and lies in its interval."""
    queries, rows = random_split()
    run = Run("generative", rows, latency_ms=1.5, bytes=10, notes=["x"])
    result = evaluate_run(run, queries, num_documents=60, seen_rows=None)
    values = per_query(run, queries)
    assert set(result["metrics"]) == set(values) - {"candidate_recall"}
    for name, entry in result["metrics"].items():
        assert entry["mean"] == pytest.approx(values[name].mean())
        assert entry["low"] <= entry["mean"] <= entry["high"]
    assert (result["latency_ms"], result["bytes"], result["notes"]) == (1.5, 10, ["x"])
    assert (result["documents_ranked"], result["share_ranked"]) == (60.0, 1.0)
    assert not {"seen", "unseen", "expectation", "bucket"} & result.keys()


def test_pools_and_buckets_are_reported(random_split):
    """Mean pool size, its share, candidate recall, expectation and bucket level."""
    queries, rows = random_split(num_queries=4)
    buckets = [[np.arange(0, 10), np.arange(10, 20)] for _ in range(4)]
    pools = [np.arange(20), np.arange(20), np.arange(10), np.repeat(np.arange(10), 2)]
    run = Run("generative", rows, pools=pools, buckets=buckets)
    result = evaluate_run(run, queries, num_documents=60, seen_rows=None, ks=(1, 10))
    assert result["documents_ranked"] == 15.0
    assert result["share_ranked"] == pytest.approx(0.25)
    expected = [
        len(gains.keys() & set(pool.tolist())) / len(gains)
        for gains, pool in zip(queries.relevant, pools, strict=True)
    ]
    assert result["candidate_recall"]["mean"] == pytest.approx(np.mean(expected))
    assert set(result["expectation"]) == {
        f"{m}@{k}" for m in ("ndcg", "recall", "mrr", "hit") for k in (1, 10)
    }
    assert set(result["bucket"]) == {"bucket_recall@1", "bucket_recall@10"}


def test_seen_unseen_and_mixed_stand_apart():
    """Groups follow the relevant rows; a query without any is unjudged and counts nowhere."""
    queries = Queries(
        ["a", "b", "c", "d"], [{0: 1.0, 1: 2.0}, {7: 1.0}, {0: 1.0, 8: 1.0}, {5: 0.0}]
    )
    seen = np.array([0, 1, 2])
    assert query_groups(queries, seen).tolist() == ["seen", "unseen", "mixed", "unjudged"]
    run = Run("dense", [np.array([0, 1]), np.array([1]), np.array([8]), np.array([5])])
    result = evaluate_run(run, queries, num_documents=10, seen_rows=seen)
    assert (result["queries"], result["unjudged"]) == (3, 1)
    assert result["seen"]["metrics"]["recall@10"]["mean"] == 1.0
    assert result["unseen"]["metrics"]["recall@10"]["mean"] == 0.0
    assert result["mixed"]["metrics"]["recall@10"]["mean"] == 0.5
    assert [result[group]["queries"] for group in ("seen", "unseen", "mixed")] == [1, 1, 1]


def test_groups_by_training_frequency(random_split):
    """Head, torso and tail always stand there, five buckets by their edges, and add up."""
    queries, rows = random_split()
    counts = np.arange(60)
    run = Run("x", rows)
    plainly = evaluate_run(run, queries, num_documents=60, seen_rows=None)
    result = evaluate_run(run, queries, num_documents=60, seen_rows=None, counts=counts)
    assert {name: result[name] for name in plainly} == plainly
    labels, edges = frequency_groups(queries, counts)
    values = per_query(run, queries)["ndcg@10"]
    assert list(result["frequency"]) == ["head", "torso", "tail"]
    for name, part in result["frequency"].items():
        assert part["queries"] == (labels == name).sum()
        assert part["edges"] == edges.get(name)
        if part["queries"]:
            assert part["metrics"]["ndcg@10"]["mean"] == pytest.approx(
                values[labels == name].mean()
            )
    assert list(result["frequency5"]) == list(frequency_groups(queries, counts, 5)[1])
    assert sum(part["queries"] for part in result["frequency5"].values()) == 40
    json.dumps(plain(result), allow_nan=False)


def test_a_limit_touches_ids_alone(random_split):
    """Figures of the ranking stay; bucket-level ones lose what is cut."""
    queries, rows = random_split()
    run = Run("x", rows, buckets=[[np.arange(60)]] * 40)
    free = evaluate_run(run, queries, num_documents=60, seen_rows=None)
    cut = evaluate_run(run, queries, num_documents=60, seen_rows=None, limit=30)
    assert cut["metrics"] == free["metrics"]
    assert free["bucket"]["bucket_recall@1"]["mean"] == 1.0
    assert cut["bucket"]["bucket_recall@1"]["mean"] == pytest.approx(0.5)
    assert cut["expectation"]["ndcg@20"] == free["expectation"]["ndcg@20"]


def test_an_empty_group_has_no_metrics():
    """No unseen query is a count of 0 and nothing to average, and it is still JSON."""
    queries = Queries(["a"], [{0: 1.0}])
    run = Run("dense", [np.array([0])])
    result = evaluate_run(run, queries, num_documents=2, seen_rows=np.array([0]))
    assert result["unseen"] == {"queries": 0, "metrics": {}}
    json.dumps(plain(result), allow_nan=False)


def test_same_seed_same_result(random_split):
    """Two evaluations agree to the last digit."""
    queries, rows = random_split()
    first, second = (
        evaluate_run(Run("x", rows), queries, num_documents=60, seen_rows=np.arange(30), seed=4)
        for _ in range(2)
    )
    assert first == second


def test_a_run_of_another_split_is_refused(random_split):
    """Lengths have to agree."""
    queries, rows = random_split()
    with pytest.raises(DataError, match="39 queries; 40 were expected"):
        evaluate_run(Run("x", rows[1:]), queries, num_documents=60, seen_rows=None)
    with pytest.raises(DataError, match="40 were expected"):
        per_query(Run("x", rows[1:]), queries)
