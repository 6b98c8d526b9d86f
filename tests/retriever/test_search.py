"""search() answers with the documents that a look at every document would have found."""

from __future__ import annotations

import dataclasses
import warnings

import pytest

from hf_genret.data.schema import Queries
from hf_genret.errors import DataError
from hf_genret.retriever import Hit

QUERY = "black owl roof"


def test_hits_are_those_of_brute_force(retriever, brute_force):
    """With a beam over all ids: the same documents, scores and ids in the same order."""
    hits = retriever.search(QUERY, k=40, num_beams=20)
    expected = brute_force(retriever, QUERY)
    assert len(hits) == 40
    assert [hit.score for hit in hits] == pytest.approx(
        [score for _, score, _ in expected], abs=1e-4
    )
    found = {hit.id: hit.docid for hit in hits}
    assert found == {f"d{row}": path for row, _, path in expected}


def test_a_hit_carries_its_document(retriever, corpus):
    """Id, title, text and extra columns; a hit cannot be changed."""
    (hit,) = retriever.search(QUERY, k=1)
    row = corpus.ids.index(hit.id)
    assert hit.document == {
        "id": hit.id,
        "title": corpus.titles[row],
        "text": "black owl on the roof",
        "place": "roof",
    }
    assert isinstance(hit, Hit) and isinstance(hit.score, float) and len(hit.docid) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        hit.score = 1.0


def test_a_list_of_queries_gives_a_list_of_lists(retriever):
    """Each query's hits, in the order of the queries, as if asked alone."""
    queries = ["green hen", QUERY, "a white cat that sits on the hill"]
    together = retriever.search(queries, k=3)
    for query, hits in zip(queries, together, strict=True):
        alone = retriever.search(query, k=3)
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-5)
    assert retriever.search([], k=3) == []


def test_k_above_the_corpus_gives_the_corpus(retriever):
    """Fewer hits than asked for, none twice, although the beam starts narrow."""
    retriever.model.config.fix_beams(1)
    hits = retriever.search(QUERY, k=100)
    assert len({hit.id for hit in hits}) == len(hits) == 40


def test_a_beam_of_ones_own_is_kept(retriever):
    """With num_beams given, only that many ids are looked at."""
    hits = retriever.search(QUERY, k=40, num_beams=1)
    assert len({hit.docid for hit in hits}) == 1 and 1 <= len(hits) <= 3


def test_a_search_stops_when_it_has_seen_everything(retriever, monkeypatch):
    """A filter that leaves two documents is not searched again with wider beams."""
    retriever.model.config.fix_beams(10)
    beams = []
    real = type(retriever.model).search
    monkeypatch.setattr(
        type(retriever.model),
        "search",
        lambda self, **kwargs: beams.append(kwargs["num_beams"]) or real(self, **kwargs),
    )
    assert len(retriever.search(QUERY, k=10, only=["d3", "d5"])) == 2
    assert len(beams) == 1


def test_a_filter_for_each_query(retriever):
    """A list of filters goes with a list of queries; None leaves one free."""
    hill = lambda document: document["place"] == "hill"  # noqa: E731
    few = ["d3", "d5"]
    only = [few, None, hill, few]
    together = retriever.search([QUERY] * 4, k=6, only=only)
    for found, one in zip(together, only, strict=True):
        alone = retriever.search(QUERY, k=6, only=one)
        assert [hit.id for hit in found] == [hit.id for hit in alone]
    assert {hit.id for hit in together[0]} == set(few)
    same = retriever.search([QUERY] * 2, k=6, only=few)
    assert [[hit.id for hit in hits] for hits in same] == [[h.id for h in together[0]]] * 2
    with pytest.raises(DataError, match="found 1 filters for 2 queries"):
        retriever.search([QUERY] * 2, only=[hill])


@pytest.mark.parametrize("as_function", [False, True])
def test_only_is_exact(retriever, brute_force, as_function):
    """Ids or a function: what brute force finds among the allowed, even with a narrow beam."""
    rows = {row for row in range(40) if row % 2 == 0}  # those on the hill
    only = [f"d{row}" for row in rows]
    if as_function:
        only = lambda document: document["place"] == "hill"  # noqa: E731
    hits = retriever.search(QUERY, k=40, num_beams=20, only=only)
    expected = brute_force(retriever, QUERY, rows)
    assert [hit.score for hit in hits] == pytest.approx(
        [score for _, score, _ in expected], abs=1e-4
    )
    assert {hit.id for hit in hits} == {f"d{row}" for row in rows}
    (hit,) = retriever.search(QUERY, k=5, num_beams=1, only=["d3"])
    assert hit.id == "d3"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"query": ""}, "query 1 is empty"),
        ({"query": " \n\t"}, "query 1 is empty"),
        ({"query": ["owl", ""]}, "query 2 is empty"),
        ({"query": ["owl", None]}, "query 2 should be a text, found NoneType"),
        ({"query": "owl", "k": 0}, "k must be positive, found 0"),
        ({"query": "owl", "num_beams": 0}, "num_beams must be positive, found 0"),
        ({"query": "owl", "only": []}, "only= leaves no document"),
        ({"query": "owl", "only": lambda document: False}, "only= leaves no document"),
        ({"query": "owl", "only": ["d1", "nope"]}, "no document with the id 'nope'"),
        ({"query": "owl", "only": "d1"}, "only= wants a list of ids or a function"),
        ({"query": "owl", "history": ["nope"]}, "no document with the id 'nope'"),
        ({"query": ["owl"], "history": ["d1"]}, "a history is a list of ids, found a text"),
        ({"query": ["owl"], "history": [["d1"], ["d2"]]}, "2 histories for 1 queries"),
    ],
)
def test_wrong_arguments_are_one_sentence(retriever, arguments, said):
    """A DataError that says what was found."""
    with pytest.raises(DataError, match=said):
        retriever.search(**arguments)


def test_a_very_long_query_is_cut_with_one_warning(retriever):
    """100,000 characters: one warning, the hits of its beginning."""
    start = "black owl on the roof " * 20
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        hits = retriever.search(start + "x" * 100_000, k=3)
    assert len([one for one in seen if "was cut to" in str(one.message)]) == 1
    assert hits[0].document["text"] == "black owl on the roof"


def test_words_nobody_wrote_still_get_an_answer(retriever):
    """Unknown words, symbols and other scripts: hits, no error."""
    for query in ("zzz", "!!!", "日本語", "🦉", "\x00"):
        assert len(retriever.search(query, k=3)) == 3


@pytest.mark.parametrize("kind", ["retriever", "forest"])
def test_of_a_small_corpus_the_first_hits_are_those_of_every_k(request, kind):
    """k decides how many hits come, not which ones come first; explain counts the same ranks."""
    small = request.getfixturevalue(kind)
    small.model.config.search_beams = 1
    for query in ("red fox on the roof", "white hen", "green owl"):
        whole = [hit.id for hit in small.search(query, k=40)]
        for k in (1, 2, 10):
            assert [hit.id for hit in small.search(query, k=k)] == whole[:k]
        explained = small.explain(query, whole[:2], k=1)
        assert [one.rank for one in explained] == [1, 2]


def test_what_a_split_measures_is_what_a_search_finds(retriever):
    """The default number of leaves is the same for a whole split, and stands in its notes."""
    retriever.model.config.search_beams = 1
    texts = ["red fox on the roof", "white hen", "green owl"]
    run = retriever.search_dataset(Queries(texts, [{0: 1.0}] * 3, texts), k=5)
    found = [[hit.id for hit in hits] for hits in retriever.search(texts, k=5)]
    assert [[f"d{row}" for row in rows] for rows in run.rows] == found
    assert "every leaf visited (40 documents), 64 queries at once" in run.notes
