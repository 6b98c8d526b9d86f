"""A checkpoint whose documents own several ids: hits, explanations, reports, other documents."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hf_genret.data.schema import Queries
from hf_genret.dataset_search import equal_scores
from hf_genret.evaluation import evaluate_run
from hf_genret.export import export_ids
from hf_genret.retriever import GenRetriever

QUERY = "black owl roof"


@pytest.mark.parametrize("beams", [3, 6, 30])
@pytest.mark.parametrize("merge", ["sum", "logsumexp", "best"])
def test_an_explanation_has_the_score_of_the_hit(forest, merge, beams):
    """What counts are all ids; the steps are those of the id through which it was found."""
    forest.model.config.path_merge = merge
    hits = forest.search(QUERY, k=40, num_beams=beams)
    for place, hit in enumerate(hits, start=1):
        found = forest.explain(QUERY, hit.id, num_beams=beams)
        assert found.score == pytest.approx(hit.score, abs=1e-4)
        assert found.docid == hit.docid and found.rank == place and found.reached
        assert all(step.beam is not None for step in found.steps)
        assert (found.merged_score is None) == (merge == "best")
        assert ("all its docids" in str(found)) == (merge != "best")
    missed = set(forest.documents.ids) - {hit.id for hit in hits}
    for found in forest.explain(QUERY, sorted(missed), num_beams=beams):
        assert not found.reached and found.merged_score is None


def test_ids_alone_order_documents_by_merged_score(forest):
    """Against the order of scores where nothing but ids counts, ties drawn many times."""
    forest.model.config.ranking = "lexicographic"
    queries = Queries(["q", "r"], [{3: 1.0, 17: 1.0}, {8: 1.0}], [QUERY, "red hen on the hill"])
    run = forest.search_dataset(queries, k=40, num_beams=12)
    found = evaluate_run(run, queries, num_documents=40, seen_rows=None, ks=(5,))
    rng, hits = np.random.default_rng(0), []
    for _ in range(4000):
        for number, relevant in enumerate(queries.relevant):
            scores, rows = run.scores[number], run.rows[number]
            first = rows[np.lexsort((rng.random(len(rows)), -scores))][:5]
            hits.append(np.isin(list(relevant), first).mean())
    assert found["expectation"]["recall@5"]["mean"] == pytest.approx(np.mean(hits), abs=0.02)
    for number, buckets in enumerate(run.buckets):
        assert sorted(np.concatenate(buckets)) == sorted(run.pools[number])


def test_equal_scores_stand_together():
    """By hand; padding is left out."""
    groups = equal_scores(np.array([4, 2, 9, -1]), np.array([-1.0, -3.0, -1.0, -np.inf]))
    assert [group.tolist() for group in groups] == [[4, 9], [2]]
    assert equal_scores(np.array([-1]), np.array([-np.inf])) == []


def test_a_filter_and_a_checkpoint(forest, tmp_path):
    """Only what is allowed; saved and loaded the same hits."""
    forest.save_pretrained(tmp_path / "out")
    again = GenRetriever.from_pretrained(tmp_path / "out")
    for only in (None, ["d1", "d7", "d20"]):
        first, second = (one.search(QUERY, k=6, only=only) for one in (forest, again))
        assert [(hit.id, hit.docid) for hit in first] == [(hit.id, hit.docid) for hit in second]
        assert only is None or {hit.id for hit in first} == set(only)


def test_reports_count_documents_once(forest, tmp_path):
    """Inspect, tree and export: paths are paths, and documents documents."""
    facts = forest.describe()
    assert (facts["documents"], facts["paths"]) == (40, 120)
    assert facts["levels"][0]["used"] == 3 and facts["duplicates"]["documents"] == 40
    assert [child.documents for child in forest.tree(depth=1).children] == [40, 40, 40]
    assert export_ids(forest, tmp_path / "ids.jsonl") == 120
    lines = [json.loads(line) for line in (tmp_path / "ids.jsonl").read_text().splitlines()]
    assert [line["docid"][0] for line in lines if line["document"] == "d5"] == ["0", "1", "2"]


def test_other_documents_get_an_id_in_every_tree(forest, corpus):
    """Balanced in each tree, and found by their texts."""
    forest.index(corpus.take(np.arange(24)))
    paths, rows = forest.model.index.paths, forest.model.index.rows
    for tree in range(3):
        mine = paths[:, 0] == tree
        assert sorted(rows[mine].tolist()) == list(range(24))
        assert torch.bincount(paths[mine, 1].long()).tolist() == [12, 12]
        leaves = paths[mine, 1].long() * 4 + paths[mine, 2].long()
        assert torch.bincount(leaves).tolist() == [3] * 8
    forest.model.config.beam_weight = 0.0
    assert forest.search(corpus.texts[9], k=1)[0].id == "d9"
