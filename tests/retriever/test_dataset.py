"""A split is searched as its queries would be one by one; an index describes itself."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.schema import Queries
from hf_genret.dataset_search import first_documents
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


def test_unconstrained_beams(retriever):
    """Beams at ids that nobody has find nothing; their share is counted and said."""
    queries = Queries([str(i) for i in range(20)], [{3: 1.0}] * 20, texts=TEXTS)
    index = retriever.model.index
    codes = index.paths.clone()
    codes[:, 1] -= codes[:, 1] % 3  # two last codes of five are in use
    retriever.model.set_index(codes, index.rows, retriever.model.vectors)
    free = retriever.search_dataset(queries, num_beams=6, constrained=False)
    held = retriever.search_dataset(queries, num_beams=6)
    shares = [1 - len(buckets) / 6 for buckets in free.buckets]
    assert 0 < np.mean(shares) < 1
    assert free.facts == {"invalid_ids": pytest.approx(np.mean(shares))} and held.facts == {}
    said = f"unconstrained: {100 * np.mean(shares):.1f} % of the ids written do not exist"
    assert said in free.notes
    for i in range(20):
        assert sorted(np.concatenate(free.buckets[i])) == sorted(free.pools[i])
        assert len(free.pools[i]) <= len(held.pools[i])
        # Written freely, the best ids that exist stand in the order they have under the trie.
        for loose, strict in zip(free.buckets[i], held.buckets[i], strict=False):
            assert loose.tolist() == strict.tolist()


def test_a_cut_of_documents(retriever):
    """No more than asked for, best buckets first, some of the last one at random."""
    queries = Queries([str(i) for i in range(20)], [{3: 1.0}] * 20, texts=TEXTS)
    whole = retriever.search_dataset(queries, k=40, num_beams=6)
    run = retriever.search_dataset(queries, k=3, num_beams=6, max_documents=5)
    run.check(20, 40)
    for i in range(20):
        pool = run.pools[i].tolist()
        assert len(pool) == 5 and pool == [row for row in whole.pools[i] if row in pool]
        assert run.rows[i].tolist() == pool[:3] and len(run.scores[i]) == 3
        assert sorted(np.concatenate(run.buckets[i])) == sorted(pool)
        *before, last = run.buckets[i]
        for kept, bucket in zip(before, whole.buckets[i], strict=False):
            assert kept.tolist() == bucket.tolist()
        assert set(last) <= set(whole.buckets[i][len(before)])
    assert run.facts == {"queries_cut": 1.0}
    assert "at most 5 documents a query, cut at random in the last bucket" in run.notes
    loose = retriever.search_dataset(queries, k=40, num_beams=6, max_documents=40)
    assert loose.facts == {"queries_cut": 0.0}
    for a, b in zip(loose.rows, whole.rows, strict=True):
        assert a.tolist() == b.tolist()
    with pytest.raises(ConfigError, match="max_documents must be at least 1, found 0"):
        retriever.search_dataset(queries, max_documents=0)


def test_documents_of_a_cut_bucket_are_equally_likely(rng):
    """Everything of the buckets before; a row of an earlier bucket takes no place twice."""
    buckets = [np.array([4, 1]), np.array([1, 7, 8, 9])]
    drawn = [first_documents(buckets, 4, rng) for _ in range(3000)]
    counts = np.zeros(10)
    for first, second in drawn:
        assert first.tolist() == [4, 1] and len(second) == 2
        counts[second] += 1
    np.testing.assert_allclose(counts[7:] / 3000, 2 / 3, atol=0.04)
    assert counts[:7].sum() == 0
    assert [b.tolist() for b in first_documents(buckets, 9, rng)] == [[4, 1], [7, 8, 9]]


def test_an_empty_split(retriever):
    """No queries, an empty run."""
    assert len(retriever.search_dataset(Queries([], [], texts=[]))) == 0


def test_describe(retriever):
    """Figures counted by hand from the ids."""
    facts = retriever.describe()
    paths = retriever.model.index.paths.tolist()
    sizes = [paths.count(path) for path in set(map(tuple, paths)) for path in [list(path)]]
    assert facts["documents"] == facts["paths"] == 40 and facts["ids"] == len(sizes)
    assert facts["codebook_sizes"] == [4, 5] and facts["search_beams"] == len(sizes)
    assert [level["nodes"] for level in facts["levels"]] == [4, len(sizes)]
    assert [level["used"] for level in facts["levels"]] == [4, 5]
    assert (facts["buckets"]["min"], facts["buckets"]["max"]) == (min(sizes), max(sizes))
    assert sum(facts["buckets"]["histogram"].values()) == len(sizes)
    shared = [size for size in sizes if size > 1]
    assert facts["duplicates"] == {"ids": len(shared), "documents": sum(shared)}
    assert facts["bytes"]["vectors"] == 40 * 256 * 4 and facts["bytes"]["paths"] == 40 * 2
    weights = sum(p.numel() for p in retriever.model.parameters()) * 4
    idf = retriever.model.encoder.query.idf.numel() * 4
    assert facts["bytes"]["weights"] == weights + idf


def test_histogram():
    """Classes double; empty ones are left out."""
    assert histogram(np.array([1, 1, 2, 3, 4, 9, 16, 0])) == {"1": 2, "2": 1, "3-4": 2, "9-16": 2}
    assert histogram(np.array([], dtype=int)) == {}
