from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hf_genret.data.schema import Queries
from hf_genret.errors import DataError
from hf_genret.evaluation import Run
from hf_genret.evaluation.metrics import candidate_recall, item_metrics
from hf_genret.evaluation.pools import candidate_recall_at, pool_curve, pool_values


def arrays(*buckets):
    return [np.asarray(bucket, dtype=np.int64) for bucket in buckets]


def every_pool(buckets, size):
    """All sets of the first `size` documents: whole leaves, then each choice from the next one."""
    pool, seen = [], set()
    for bucket in buckets:
        fresh = [int(row) for row in bucket if int(row) not in seen]
        seen.update(fresh)
        if len(pool) + len(fresh) > size:
            return [pool + list(some) for some in itertools.combinations(fresh, size - len(pool))]
        pool += fresh
    return [pool]


BUCKETS = arrays([4, 1, 7], [2, 9], [], [4, 0, 3, 5, 8], [6])
RANKING = np.array([5, 1, 8, 2, 0, 6, 9, 4, 3, 7])
RELEVANT = {5: 1.0, 0: 2.0, 9: 3.0, 4: 1.0, 11: 1.0}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 50])
def test_equal_to_the_mean_over_every_pool(size):
    """Enumerating what the cut may keep of its leaf gives the same expectation."""
    pools = every_pool(BUCKETS, size)
    rankings = [RANKING[np.isin(RANKING, pool)] for pool in pools]
    repeated = [RELEVANT] * len(pools)
    queries = Queries(["q"], [RELEVANT])
    run = Run("x", [RANKING], buckets=[BUCKETS])
    for k in (1, 3, 10):
        values = pool_values(run, queries, [size], k=k)[size]
        expected = item_metrics(rankings, repeated, (k,))[f"ndcg@{k}"].mean()
        assert values[f"ndcg@{k}"][0] == pytest.approx(expected, abs=1e-12)
        assert values["documents"][0] == len(pools[0])
    recall = candidate_recall([np.asarray(pool) for pool in pools], repeated).mean()
    assert candidate_recall_at([BUCKETS], [RELEVANT], [size])[size][0] == pytest.approx(recall)
    assert values["candidate_recall"][0] == pytest.approx(recall)


def test_equal_to_sampling_on_larger_leaves(random_split):
    """Random leaves of several queries: exact values lie close to sampled ones."""
    rng = np.random.default_rng(1)
    queries, rows = random_split(num_queries=4, depth=60)
    buckets = [np.array_split(rng.permutation(60), 4) for _ in range(4)]
    run = Run("x", rows, buckets=buckets)
    exact = pool_values(run, queries, [20])[20]["ndcg@10"]
    for query in range(4):
        rankings = []
        for _ in range(3000):
            drawn = np.concatenate([rng.permutation(leaf) for leaf in buckets[query]])[:20]
            rankings.append(rows[query][np.isin(rows[query], drawn)])
        sampled = item_metrics(rankings, [queries.relevant[query]] * 3000, (10,))["ndcg@10"]
        assert exact[query] == pytest.approx(sampled.mean(), abs=0.012)


def test_the_whole_pool_is_the_run(random_split):
    """A pool that holds everything gives the figures of the run itself."""
    queries, rows = random_split()
    rng = np.random.default_rng(0)
    buckets = [np.array_split(rng.permutation(60), 6) for _ in rows]
    curve = pool_curve(Run("x", rows, buckets=buckets), queries, [10, 60])
    assert curve["pool"] == [10, 60]
    assert curve["documents"] == [10.0, 60.0]
    assert curve["candidate_recall"][1] == pytest.approx(1.0)
    assert curve["ndcg@10"][1] == pytest.approx(
        item_metrics(rows, queries.relevant, (10,))["ndcg@10"].mean()
    )
    assert curve["ndcg@10"][0] < curve["ndcg@10"][1]


def test_a_run_without_leaves_visits_its_ranking(random_split):
    """Candidate recall at P is recall@P, nDCG that of the first P ranks."""
    queries, rows = random_split()
    values = pool_values(Run("dense", rows), queries, [5, 20])
    exact = item_metrics(rows, queries.relevant, (5, 20))
    for size in (5, 20):
        np.testing.assert_allclose(values[size]["candidate_recall"], exact[f"recall@{size}"])
        assert values[size]["documents"].tolist() == [min(size, len(row)) for row in rows]
    cut = item_metrics([row[:5] for row in rows], queries.relevant, (10,))
    np.testing.assert_allclose(values[5]["ndcg@10"], cut["ndcg@10"])


def test_queries_without_leaves_or_judgments():
    """Nothing visited is 0; nothing relevant is no value and left out of means."""
    queries = Queries(["a", "b", "c"], [{1: 1.0}, {}, {1: 1.0}])
    rows = arrays([], [1], [1, 0])
    run = Run("x", rows, buckets=[[], arrays([1]), arrays([0, 1])])
    values = pool_values(run, queries, [1])[1]
    assert values["ndcg@10"][0] == 0.0
    assert math.isnan(values["ndcg@10"][1])
    # One of two documents is kept; the relevant one is then ranked first.
    assert values["ndcg@10"][2] == pytest.approx(0.5)
    assert pool_curve(run, queries, [1])["candidate_recall"] == [0.25]
    empty = pool_curve(Run("x", [rows[1]]), queries.take([1]), [1])
    assert empty["ndcg@10"] == [None]


def test_a_document_ranked_but_in_no_leaf_does_not_count():
    """The ranking is restricted to what the leaves hold."""
    run = Run("x", arrays([3, 1]), buckets=[arrays([1, 2])])
    values = pool_values(run, Queries(["a"], [{1: 1.0, 3: 1.0}]), [2])[2]
    assert values["ndcg@10"][0] == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_a_run_of_another_split_is_refused():
    """Lengths have to agree."""
    with pytest.raises(DataError, match="1 queries; 2 were expected"):
        pool_curve(Run("x", arrays([1])), Queries(["a", "b"], [{}, {}]), [1])
