from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hf_genret.evaluation.expectation import expectation_metrics
from hf_genret.evaluation.metrics import item_metrics

KS = (1, 2, 3, 5, 8)


def arrays(*buckets):
    return [np.asarray(bucket, dtype=np.int64) for bucket in buckets]


def every_order(buckets):
    """All rankings that some order inside the buckets gives, each as often as the others."""
    seen, fresh = set(), []
    for bucket in buckets:
        kept = [int(row) for row in bucket if int(row) not in seen]
        seen.update(kept)
        fresh.append(kept)
    for orders in itertools.product(*(itertools.permutations(rows) for rows in fresh)):
        yield np.asarray([row for order in orders for row in order], dtype=np.int64)


@pytest.mark.parametrize(
    ("buckets", "relevant"),
    [
        (arrays([0, 1, 2], [3, 4], [5, 6, 7]), {1: 1.0}),
        (arrays([0, 1, 2], [3, 4], [5, 6, 7]), {1: 1.0, 2: 3.0, 6: 1.0, 9: 2.0}),
        (arrays([0, 1, 2, 3], [4, 5]), {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}),
        (arrays([0], [], [1, 2]), {2: 1.0}),
        (arrays([0, 1, 2], [2, 1, 3, 4]), {2: 2.0, 3: 1.0}),
        (arrays([8, 9], [7]), {1: 1.0}),
    ],
)
def test_equal_to_the_mean_over_every_order(buckets, relevant):
    """Enumerating all orders inside the buckets gives the same expectation."""
    rankings = list(every_order(buckets))
    enumerated = item_metrics(rankings, [relevant] * len(rankings), KS)
    items, _ = expectation_metrics([buckets], [relevant], KS)
    for name, value in items.items():
        assert value[0] == pytest.approx(enumerated[name].mean(), abs=1e-12), name


def test_equal_to_sampling_on_larger_buckets():
    """Random orders of random buckets come close to the exact value."""
    rng = np.random.default_rng(0)
    buckets = [np.array_split(rng.permutation(60), 7) for _ in range(3)]
    relevant = [{int(row): 1.0 for row in rng.choice(70, 6, replace=False)} for _ in range(3)]
    items, _ = expectation_metrics(buckets, relevant, (10, 25))
    for query in range(3):
        rankings = [
            np.concatenate([rng.permutation(bucket) for bucket in buckets[query]])
            for _ in range(4000)
        ]
        sampled = item_metrics(rankings, [relevant[query]] * len(rankings), (10, 25))
        for name, value in items.items():
            # a hit is 0 or 1, whose mean is less certain than that of what lies between
            error = 0.025 if name.startswith("hit") else 0.012
            assert value[query] == pytest.approx(sampled[name].mean(), abs=error), name


@pytest.mark.parametrize("limit", [1, 4, 5, 7, 20])
def test_a_limit_is_equal_to_cutting_at_random(limit):
    """Sampled orders, cut after the limit, have the same means; also at bucket level."""
    rng = np.random.default_rng(limit)
    buckets = arrays([0, 1, 2], [3, 4], [5, 6, 7, 1])
    relevant = {1: 1.0, 3: 2.0, 6: 1.0, 9: 2.0}
    cut = [
        np.concatenate([rng.permutation(b) for b in arrays([0, 1, 2], [3, 4], [5, 6, 7])])[:limit]
        for _ in range(20_000)
    ]
    sampled = item_metrics(cut, [relevant] * len(cut), KS)
    items, coarse = expectation_metrics([buckets], [relevant], KS, limit)
    for name, value in items.items():
        assert value[0] == pytest.approx(sampled[name].mean(), abs=0.01), name
    kept = np.mean([len(relevant.keys() & set(rows.tolist())) for rows in cut]) / len(relevant)
    assert coarse["bucket_recall@3"][0] == pytest.approx(kept, abs=0.01)


def test_a_limit_leaves_earlier_cuts_alone():
    """Up to the limit nothing changes; a limit beyond everything changes nothing at all."""
    rng = np.random.default_rng(0)
    buckets = [np.array_split(rng.permutation(60), 7) for _ in range(3)]
    relevant = [{int(row): 1.0 for row in rng.choice(70, 6, replace=False)} for _ in range(3)]
    free, coarse = expectation_metrics(buckets, relevant, (10, 40))
    cut, coarse_cut = expectation_metrics(buckets, relevant, (10, 40), 25)
    assert all((free[name] == cut[name]).all() for name in free if name.endswith("@10"))
    assert (cut["recall@40"] < free["recall@40"]).all()
    assert (coarse_cut["bucket_recall@10"] < coarse["bucket_recall@10"]).all()
    wide = expectation_metrics(buckets, relevant, (10, 40), 60)
    for ours, theirs in zip((free, coarse), wide, strict=True):
        assert all((ours[name] == theirs[name]).all() for name in ours)
    with pytest.raises(ValueError, match="at least 1"):
        expectation_metrics(buckets, relevant, (10,), 0)


def test_queries_do_not_mix():
    """Each query has the value that it has alone, also beside queries without buckets."""
    buckets = [arrays([0, 1], [2]), [], arrays([2, 0], [1])]
    relevant = [{1: 1.0}, {0: 1.0}, {0: 1.0, 1: 1.0}]
    together, coarse = expectation_metrics(buckets, relevant, KS)
    for query in range(3):
        alone, coarse_alone = expectation_metrics([buckets[query]], [relevant[query]], KS)
        assert {name: value[query] for name, value in together.items()} == pytest.approx(
            {name: value[0] for name, value in alone.items()}
        )
        assert coarse["bucket_recall@1"][query] == coarse_alone["bucket_recall@1"][0]


def test_unique_ids_leave_nothing_to_chance():
    """Buckets of one document are a ranking."""
    ranking = np.array([4, 2, 0, 3])
    relevant = [{2: 1.0, 3: 2.0, 7: 1.0}]
    items, coarse = expectation_metrics([[np.array([row]) for row in ranking]], relevant, KS)
    exact = item_metrics([ranking], relevant, KS)
    assert {name: value[0] for name, value in items.items()} == pytest.approx(
        {name: exact[name][0] for name in items}
    )
    assert coarse["bucket_recall@3"][0] == exact["recall@3"][0]


def test_bucket_recall_counts_buckets():
    """A relevant document in the second bucket is found at 2 buckets, however far down it is."""
    buckets = [arrays(range(100), range(100, 200))]
    items, coarse = expectation_metrics(buckets, [{150: 1.0}], (1, 2))
    assert [coarse[f"bucket_recall@{k}"][0] for k in (1, 2)] == [0.0, 1.0]
    assert items["recall@2"][0] == 0.0


def test_no_buckets_and_no_judgments():
    """Nothing retrieved is 0, nothing relevant is no value."""
    items, coarse = expectation_metrics([[], []], [{1: 1.0}, {}], (1,))
    for value in (items | coarse).values():
        assert value[0] == 0.0
        assert math.isnan(value[1])
