"""A split is searched as its queries would be one by one; an index describes itself."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.schema import Queries
from hf_genret.description import histogram
from hf_genret.errors import ConfigError
from hf_genret.evaluation import evaluate_run

TEXTS = ["black owl roof", "hen", "white cat that sits on the hill", "red fox"] * 5


def test_rows_and_scores_are_those_of_search(retriever):
    """Whatever the batches; pools are all documents of the leaves visited."""
    queries = Queries([str(i) for i in range(20)], [{3: 1.0}] * 20, texts=TEXTS)
    run = retriever.search_dataset(queries, k=7, num_beams=6, batch_size=3)
    run.check(20, 40)
    for i, text in enumerate(TEXTS):
        hits = retriever.search(text, k=7, num_beams=6)
        assert [f"d{row}" for row in run.rows[i]] == [hit.id for hit in hits]
        assert run.scores[i] == pytest.approx([hit.score for hit in hits], abs=1e-5)
        assert len(run.buckets[i]) == 6
        assert sorted(np.concatenate(run.buckets[i])) == sorted(run.pools[i])
        assert run.rows[i].tolist() == run.pools[i][:7].tolist()
    assert run.name == "generative" and run.latency_ms > 0
    assert "6 beams, 3 queries at once" in run.notes
    facts = retriever.describe()["bytes"]
    assert run.bytes == facts["csr"] + facts["paths"] + facts["vectors"]
    assert evaluate_run(run, queries, num_documents=40, seen_rows=None)["documents_ranked"] < 40


def test_buckets_stand_in_beam_order(retriever):
    """The first one holds the documents of the most probable id."""
    run = retriever.search_dataset(Queries(["q"], [{0: 1.0}], texts=["owl"]), k=1, num_beams=20)
    hits = {hit.document["id"]: hit.docid for hit in retriever.search("owl", k=40, num_beams=20)}
    ids = [{hits[f"d{row}"] for row in bucket} for bucket in run.buckets[0]]
    assert all(len(one) == 1 for one in ids) and len(set.union(*ids)) == len(ids)


def test_histories_can_be_left_out(shop):
    """From rows, pools and buckets alike; the note says so."""
    histories = [np.array([3, 9, 0]), np.array([5])]
    queries = Queries(["a", "b"], [{1: 1.0}, {2: 1.0}], histories=histories)
    run = shop.search_dataset(queries, k=40, num_beams=20, exclude_history=True)
    for i, history in enumerate(histories):
        everything = set(range(40)) - set(history.tolist())
        assert set(run.rows[i]) == set(run.pools[i]) == everything
        assert set(np.concatenate(run.buckets[i])) == everything
    assert run.notes[0] == "history excluded"
    kept = shop.search_dataset(queries, k=40, num_beams=20)
    assert len(kept.rows[0]) == 40 and kept.notes[0] == "history not excluded"


def test_histories_that_are_not_there_cannot_be_left_out(retriever):
    """A wish that cannot be met is wrong usage."""
    queries = Queries(["a"], [{1: 1.0}], texts=["owl"])
    with pytest.raises(ConfigError, match="exclude_history needs queries with histories"):
        retriever.search_dataset(queries, exclude_history=True)


def test_an_empty_split(retriever):
    """No queries, an empty run."""
    assert len(retriever.search_dataset(Queries([], [], texts=[]))) == 0


def test_describe(retriever):
    """Figures counted by hand from the ids."""
    facts = retriever.describe()
    paths = retriever.model.index.paths.tolist()
    sizes = [paths.count(path) for path in set(map(tuple, paths)) for path in [list(path)]]
    assert facts["documents"] == facts["paths"] == 40 and facts["ids"] == len(sizes)
    assert facts["codebook_sizes"] == [4, 5] and facts["search_beams"] == 10
    assert [level["nodes"] for level in facts["levels"]] == [4, len(sizes)]
    assert [level["used"] for level in facts["levels"]] == [4, 5]
    assert (facts["buckets"]["min"], facts["buckets"]["max"]) == (min(sizes), max(sizes))
    assert sum(facts["buckets"]["histogram"].values()) == len(sizes)
    shared = [size for size in sizes if size > 1]
    assert facts["duplicates"] == {"ids": len(shared), "documents": sum(shared)}
    assert facts["bytes"]["vectors"] == 40 * 256 * 4 and facts["bytes"]["paths"] == 40 * 2 * 4
    weights = sum(p.numel() for p in retriever.model.parameters()) * 4
    idf = retriever.model.encoder.query.idf.numel() * 4
    assert facts["bytes"]["weights"] == weights + idf


def test_histogram():
    """Classes double; empty ones are left out."""
    assert histogram(np.array([1, 1, 2, 3, 4, 9, 16, 0])) == {"1": 2, "2": 1, "3-4": 2, "9-16": 2}
    assert histogram(np.array([], dtype=int)) == {}
