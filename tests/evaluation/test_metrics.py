from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from hf_genret.evaluation.metrics import candidate_recall, item_metrics

KS = (1, 3, 10, 30)


def rows(*values):
    return [np.asarray(value, dtype=np.int64) for value in values]


RANX = """
import json, sys
import ranx
asked = json.load(sys.stdin)
qrels, run = ranx.Qrels(asked["qrels"]), ranx.Run(asked["run"])
ranx.evaluate(qrels, run, asked["metrics"])
print(json.dumps({name: dict(values) for name, values in run.scores.items()}))
"""


def test_equal_to_ranx_on_random_runs(random_split):
    """An independent implementation gives the same values for every query."""
    pytest.importorskip("ranx")
    queries, ranked = random_split()
    names = {"ndcg": "ndcg", "recall": "recall", "mrr": "mrr", "map": "map", "hit": "hit_rate"}
    theirs = {f"{ours}@{k}": f"{name}@{k}" for ours, name in names.items() for k in KS}
    asked = {"qrels": {}, "run": {}, "metrics": list(theirs.values())}
    for name, gains, found in zip(queries.ids, queries.relevant, ranked, strict=True):
        asked["qrels"][name] = {str(row): int(gain) for row, gain in gains.items()}
        asked["run"][name] = {str(row): float(-place) for place, row in enumerate(found)}
    # Compiling would take longer than the test, and numba can be told so only before its import.
    done = subprocess.run(
        [sys.executable, "-c", RANX],
        input=json.dumps(asked),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    values = item_metrics(ranked, queries.relevant, KS)
    for ours, name in theirs.items():
        expected = [scores[name][query] for query in queries.ids]
        np.testing.assert_allclose(values[ours], expected, atol=1e-9, err_msg=ours)


def test_one_query_by_hand():
    """Gains 2 and 1 at ranks 2 and 4, a third relevant document not found."""
    values = item_metrics(rows([7, 1, 8, 2]), [{1: 2.0, 2: 1.0, 3: 1.0}], (3, 4))
    assert values["recall@3"][0] == pytest.approx(1 / 3)
    assert values["recall@4"][0] == pytest.approx(2 / 3)
    assert values["mrr@4"][0] == pytest.approx(1 / 2)
    assert values["map@4"][0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert values["hit@3"][0] == 1.0
    dcg = 2 / math.log2(3) + 1 / math.log2(5)
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert values["ndcg@4"][0] == pytest.approx(dcg / ideal)


def test_gain_is_linear():
    """A gain of 3 counts three times a gain of 1, not seven times."""
    value = item_metrics(rows([0, 1]), [{0: 1.0, 1: 3.0}], (2,))["ndcg@2"][0]
    assert value == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


def test_a_judgment_of_zero_is_not_relevant():
    """Zero and negative gains change nothing."""
    with_zero = item_metrics(rows([4, 1]), [{1: 1.0, 4: 0.0, 5: -1.0}], (1, 2))
    without = item_metrics(rows([4, 1]), [{1: 1.0}], (1, 2))
    assert {name: value[0] for name, value in with_zero.items()} == {
        name: value[0] for name, value in without.items()
    }


def test_a_query_without_relevant_documents_has_no_value():
    """It is NaN, so that it can be left out of means."""
    values = item_metrics(rows([1], [1]), [{1: 1.0}, {}], (1,))
    assert all(value[0] == 1.0 and math.isnan(value[1]) for value in values.values())


def test_an_empty_ranking_scores_zero():
    """Nothing found is 0 everywhere, also when every ranking is empty."""
    values = item_metrics(rows([], []), [{1: 1.0}, {0: 1.0}], (1, 10))
    assert all((value == 0).all() for value in values.values())


def test_a_row_beyond_all_judged_rows_is_not_another_querys_document():
    """Row numbers larger than any judged one do not wrap into the next query."""
    assert item_metrics(rows([5], [0]), [{2: 1.0}, {2: 1.0}], (1,))["hit@1"].tolist() == [0, 0]
    assert item_metrics(rows([3], [0]), [{2: 1.0}, {0: 1.0}], (1,))["hit@1"].tolist() == [0, 1]


def test_no_judgments_at_all():
    """Every value is missing and nothing fails."""
    assert np.isnan(item_metrics(rows([1], [2]), [{}, {}], (1,))["recall@1"]).all()


def test_candidate_recall_counts_the_pool_once():
    """Rows twice in a pool count once; without pools every document was ranked."""
    relevant = [{1: 1.0, 2: 1.0}, {3: 1.0}, {}]
    values = candidate_recall(rows([1, 1, 9], [], [1]), relevant)
    assert values[:2].tolist() == [0.5, 0.0]
    assert math.isnan(values[2])
    assert candidate_recall(None, relevant)[:2].tolist() == [1.0, 1.0]
