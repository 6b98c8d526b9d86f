from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.schema import Queries
from hf_genret.errors import ConfigError, DataError
from hf_genret.evaluation import Run
from hf_genret.evaluation.fusion import choose_weight, fuse
from hf_genret.evaluation.metrics import item_metrics


def run_of(name, rankings, **more):
    """A run from lists of (row, score), best first."""
    rows = [np.asarray([row for row, _ in ranking], dtype=np.int64) for ranking in rankings]
    scores = [np.asarray([score for _, score in ranking]) for ranking in rankings]
    return Run(name, rows, scores, **more)


@pytest.fixture
def two_runs(random_split):
    """Two runs of random depths over the same queries, with distinct scores."""
    rng = np.random.default_rng(3)
    queries, _ = random_split()
    runs = []
    for name in ("first", "second"):
        lists = []
        for _ in range(len(queries)):
            rows = rng.permutation(60)[: rng.integers(2, 30)]
            scores = np.sort(rng.normal(size=len(rows)) * rng.uniform(0.1, 50))[::-1]
            lists.append(list(zip(rows.tolist(), scores.tolist(), strict=True)))
        runs.append(run_of(name, lists))
    return queries, runs


def as_ranx(run):
    ranx = pytest.importorskip("ranx")
    return ranx.Run(
        {
            f"q{query}": {
                str(row): float(score)
                for row, score in zip(run.rows[query], run.scores[query], strict=True)
            }
            for query in range(len(run))
        }
    )


def weighted_by_dicts(runs, weights, query):
    """Min-max and a weighted sum, one document at a time."""
    total = {}
    for run, weight in zip(runs, weights, strict=True):
        found = dict(zip(run.rows[query].tolist(), run.scores[query].tolist(), strict=True))
        low, high = min(found.values()), max(found.values())
        for row, score in found.items():
            total[row] = total.get(row, 0.0) + weight * (score - low) / (high - low)
    return total


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.8, 0.2)])
def test_weighted_is_a_sum_of_minmax_scores(two_runs, weights):
    """Every score is that of the plain definition, the order that of the scores."""
    _, runs = two_runs
    fused = fuse(runs, method="weighted", weights=weights, name="both")
    for query in range(len(fused)):
        ours = dict(zip(fused.rows[query].tolist(), fused.scores[query], strict=True))
        assert ours == pytest.approx(weighted_by_dicts(runs, weights, query), abs=1e-9)
        assert (np.diff(fused.scores[query]) <= 0).all()


def test_rrf_agrees_with_ranx(two_runs):
    """With even weights the scores are half of the plain sums of 1 / (60 + rank)."""
    ranx = pytest.importorskip("ranx")
    _, runs = two_runs
    fused = fuse(runs, method="rrf", weights=(1, 1), name="both")
    reference = ranx.fuse(
        runs=[as_ranx(run) for run in runs], norm=None, method="rrf", params={"k": 60}
    ).to_dict()
    for query in range(len(fused)):
        ours = dict(zip(fused.rows[query].tolist(), 2 * fused.scores[query], strict=True))
        theirs = {int(row): score for row, score in reference[f"q{query}"].items()}
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_rrf_by_hand():
    """Ranks count, not scores; a run that lacks a document adds nothing to it."""
    first = run_of("a", [[(7, 100.0), (3, 1.0)]])
    second = run_of("b", [[(3, 0.1), (5, 0.0)]])
    fused = fuse([first, second], method="rrf", weights=(3, 1), name="x", k=2)
    assert fused.rows[0].tolist() == [3, 7, 5]
    expected = [0.75 / 4 + 0.25 / 3, 0.75 / 3, 0.25 / 4]
    assert fused.scores[0] == pytest.approx(expected)


def test_equal_sums_are_in_row_order():
    """Two documents with the same score follow each other by row."""
    first, second = run_of("a", [[(7, 1.0), (2, 0.0)]]), run_of("b", [[(2, 1.0), (7, 0.0)]])
    for method in ("rrf", "weighted"):
        fused = fuse([first, second], method=method, weights=(1, 1), name="x")
        assert fused.rows[0].tolist() == [2, 7]


def test_weighted_by_hand():
    """Each query has its own range; a single document or equal scores count as the best."""
    first = run_of("a", [[(1, 30.0), (2, 20.0), (3, 10.0)], [(4, 5.0)], []])
    second = run_of("b", [[(3, 2.0), (9, 1.0)], [(5, 0.2), (6, 0.2)], [(1, 3.0), (2, 2.0)]])
    fused = fuse([first, second], method="weighted", weights=(0.6, 0.4), name="x")
    assert [rows.tolist() for rows in fused.rows] == [[1, 3, 2, 9], [4, 5, 6], [1, 2]]
    assert fused.scores[0] == pytest.approx([0.6, 0.4, 0.3, 0.0])
    assert fused.scores[1] == pytest.approx([0.6, 0.4, 0.4])


@pytest.mark.parametrize("method", ["rrf", "weighted"])
def test_a_weight_of_zero_is_the_other_run(two_runs, method):
    """Neither its documents nor its costs are in the result; the depth cuts."""
    _, (first, second) = two_runs
    first.bytes, second.bytes, first.latency_ms = 5, 7, 2.0
    fused = fuse([first, second], method=method, weights=(2, 0), name="x", depth=8)
    assert [rows.tolist() for rows in fused.rows] == [rows[:8].tolist() for rows in first.rows]
    assert (fused.bytes, fused.latency_ms) == (5, 2.0)


def test_costs_add_up_and_candidates_unite():
    """Unknown costs stay unknown; a system that ranks all documents makes the union all."""
    pools = ([np.array([1, 2])], [np.array([5, 2])])
    first = run_of("a", [[(1, 1.0)]], pools=pools[0], bytes=5, latency_ms=1.5, notes=["n"])
    second = run_of("b", [[(2, 1.0)]], pools=pools[1], bytes=6, notes=["n", "m"])
    fused = fuse([first, second], method="rrf", weights=(1, 3), name="x")
    assert fused.pools[0].tolist() == [1, 2, 5]
    assert (fused.bytes, fused.latency_ms, fused.buckets) == (11, None, None)
    assert fused.notes == ["rrf: 0.25 a + 0.75 b", "n", "m"]
    second.pools = None
    assert fuse([first, second], method="rrf", weights=(1, 1), name="x").pools is None


def test_the_best_weight_is_found_by_brute_force(two_runs):
    """The chosen weight has the best nDCG@10 of all full fusions."""
    queries, runs = two_runs
    for method in ("rrf", "weighted"):
        chosen = choose_weight(tuple(runs), queries, method=method)
        quality = {}
        for weight in np.arange(11) / 10:
            fused = fuse(runs, method=method, weights=(weight, 1 - weight), name="x")
            values = item_metrics(fused.rows, queries.relevant, (10,))["ndcg@10"]
            quality[round(float(weight), 1)] = values.mean()
        assert quality[chosen] == pytest.approx(max(quality.values()))


def test_a_useless_run_gets_no_weight():
    """Where one run is right and the other wrong, the right one is taken alone or first."""
    good, bad = run_of("good", [[(1, 1.0), (0, 0.5)]]), run_of("bad", [[(2, 1.0), (1, 0.0)]])
    queries = Queries(["a"], [{1: 1.0}])
    assert choose_weight((bad, good), queries, method="weighted", grid=(0.0, 1.0)) == 0.0
    assert choose_weight((good, bad), queries, method="weighted", grid=(0.0, 1.0)) == 1.0


def test_ties_go_to_the_even_mix():
    """Two equal runs: nothing tells the weights apart; without .5 the first nearest one."""
    run = run_of("a", [[(1, 1.0), (2, 0.0)]])
    queries = Queries(["a"], [{1: 1.0}])
    assert choose_weight((run, run), queries, method="rrf") == 0.5
    assert choose_weight((run, run), queries, method="rrf", grid=(0.2, 0.6, 0.4)) == 0.6


def test_what_cannot_be_fused_is_refused():
    """One sentence each."""
    run = run_of("a", [[(1, 1.0)]])
    bare = Run("bare", [np.array([1])])
    queries = Queries(["a"], [{1: 1.0}])
    with pytest.raises(ConfigError, match="Unknown fusion 'sum'"):
        fuse([run], method="sum", weights=(1,), name="x")
    with pytest.raises(ConfigError, match="'bare' has none"):
        fuse([run, bare], method="weighted", weights=(1, 1), name="x")
    for weights in ((1,), (0, 0), (-1, 2), (float("nan"), 1)):
        with pytest.raises(ConfigError, match="weight"):
            fuse([run, run], method="rrf", weights=weights, name="x")
    with pytest.raises(DataError, match="2 queries; 1 were expected"):
        fuse([run, run_of("b", [[], []])], method="rrf", weights=(1, 1), name="x")
    with pytest.raises(DataError, match="1 scores for 2 rows"):
        uneven = Run("u", [np.array([1, 2])], [np.array([1.0])])
        fuse([uneven], method="weighted", weights=(1,), name="x")
    with pytest.raises(DataError, match="relevant documents"):
        choose_weight((run, run), Queries(["a"], [{}]), method="rrf")
    with pytest.raises(ConfigError, match="0 to 1"):
        choose_weight((run, run), queries, method="rrf", grid=(2.0,))
    assert fuse([bare], method="rrf", weights=(1,), name="x").rows[0].tolist() == [1]
