"""What the page asks and shows, without the page: limits, filters, comparison, tree, escaping."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from hf_genret.data.schema import Documents
from hf_genret.demo import build_demo, tiny_retriever
from hf_genret.demo.answers import EMPTY, Answers
from hf_genret.demo.browser import browser_html
from hf_genret.demo.compare import compare_html
from hf_genret.demo.examples import example_queries
from hf_genret.demo.filters import Filter
from hf_genret.demo.limits import MOST_HITS, clean_k
from hf_genret.demo.results import results_html
from hf_genret.documents import DocumentStore
from hf_genret.errors import DataError, MissingExtraError


@pytest.fixture(scope="module")
def answers(retriever):
    """Of the retriever of this room."""
    return Answers(retriever)


def test_hits_and_reasons_belong_together(answers, retriever):
    """The hits of search(), and for each the explanation of that document."""
    answer = answers.search("  black\nowl ", 4)
    hits = retriever.search("black owl", k=4)
    assert [hit.id for hit in answer.hits] == [hit.id for hit in hits]
    assert [why.id for why in answer.why] == [hit.id for hit in hits]
    assert [why.rank for why in answer.why] == [1, 2, 3, 4]
    assert answer.said.startswith("4 documents in ") and not answer.wrong


@pytest.mark.parametrize("query", ["", "   ", None])
def test_an_empty_query_gets_a_hint(answers, query):
    """No results, no error."""
    answer = answers.search(query)
    assert (answer.hits, answer.said, answer.wrong) == ([], EMPTY, False)
    assert results_html(answer) == "" and answers.compare(query) is None


def test_a_very_long_query_is_cut_and_says_so(answers, recwarn):
    """200,000 characters: an answer and a sentence on the page, no warning on the console."""
    answer = answers.search("black owl " * 20_000, 1)
    assert answer.hits[0].id.startswith("black-owl") and "first 2,000 characters" in answer.said
    assert len(answer.query) == 2000 and not recwarn.list


@pytest.mark.parametrize(
    ("k", "kept"), [(0, 1), (-3, 1), (10**9, MOST_HITS), ("x", 10), (None, 10)]
)
def test_the_number_of_results_is_limited(k, kept):
    """Whatever a program asks for."""
    assert clean_k(k) == kept


@pytest.mark.parametrize(
    ("field", "value", "test"),
    [
        ("place", "ROOF", lambda one: one["place"] == "roof"),
        ("title", "red", lambda one: "red" in one["title"]),
        ("id", "red-fox-hill, odd\nred-owl-roof", lambda one: one["id"][:3] in ("red", "odd")),
    ],
)
def test_a_filter_is_that_of_search(answers, retriever, field, value, test):
    """By field, by title, by ids: the result of search(only=) with the same documents."""
    allowed = [one["id"] for one in retriever.documents if test(one)]
    if field == "id":
        allowed = ["red-fox-hill", "odd", "red-owl-roof"]
    answer = answers.search("fox on the roof", 50, field, value)
    expected = retriever.search("fox on the roof", k=50, only=allowed)
    assert [(hit.id, hit.score) for hit in answer.hits] == [(h.id, h.score) for h in expected]
    assert {hit.id for hit in answer.hits} == set(allowed)
    compared = answers.compare("fox on the roof", 50, field, value)
    for ranked in (compared.bm25, compared.dense):
        found = {retriever.documents.id_of(row) for row in ranked.rows}
        assert found and found <= set(allowed)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("place", "moon", "no document holds 'moon' in its field 'place'."),
        ("size", "big", "documents have no field 'size'; they have id, title, place."),
        ("id", "zz", "the index holds no document with the id 'zz'."),
        ("id", "a," * 1001, "at most 1,000 ids"),
        ("title", "x" * 20_001, "at most 20,000 characters"),
    ],
)
def test_a_filter_that_cannot_be(answers, field, value, said):
    """One sentence, marked as an error; nothing beside it."""
    answer = answers.search("owl", 5, field, value)
    assert said in answer.said and answer.wrong and answer.hits == []
    assert answers.compare("owl", 5, field, value) is None


def test_values_of_a_field_are_offered_where_they_are_few(answers):
    """Those that repeat, the most frequent first; ids are not offered."""
    assert set(answers.filter.choices("place")[:2]) == {"hill", "roof"}
    assert answers.filter.choices("id") == []
    assert answers.filter.choices("title")[0].startswith("The ")


@pytest.mark.parametrize(
    ("field", "value", "ids"),
    [
        ("price", "5", ["a"]),
        ("price", "15.0", ["b"]),
        ("price", 0, ["c"]),
        ("sold", "True", ["a", "c"]),
        ("sold", False, ["b"]),
        ("size", '{"CM": 3}', ["b"]),
        ("year", "1999", ["a"]),
    ],
)
def test_a_filter_of_numbers_and_truth_values(field, value, ids):
    """What is no text has to be the value itself: 5 is not found in 15."""
    extra = {
        "price": [5.0, 15.0, 0.0],
        "sold": [True, False, True],
        "size": [{"cm": 13}, {"cm": 3}, None],
        "year": [1999, 19990, None],
    }
    documents = Documents(["a", "b", "c"], [""] * 3, ["owl", "fox", "hen"], extra)
    found = Filter(DocumentStore.from_documents(documents))
    assert found.only(field, value) == ids


def test_values_that_are_no_texts_are_offered():
    """As they can be typed, also zero and no."""
    extra = {"sold": [True, False, True, False], "stock": [0, 0, 7, None]}
    documents = Documents(list("abcd"), [""] * 4, list("abcd"), extra)
    found = Filter(DocumentStore.from_documents(documents))
    assert found.choices("sold") == ["true", "false"] and found.choices("stock") == ["0", "7"]


def test_three_systems_for_one_query(answers, retriever):
    """Generative as search() does, dense as all inner products sort, BM25 by shared words."""
    compared = answers.compare("black owl roof", 5)
    hits = retriever.search("black owl roof", k=5)
    assert compared.generative.rows == [retriever.documents.row_of(hit.id) for hit in hits]
    tokens = retriever.processing_class(["black owl roof"], return_tensors="pt")
    pooled = retriever.model.encode_query(
        input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
    ).pooler_output.detach()
    scores = (pooled @ retriever.model.vectors.T)[0].numpy()
    assert compared.dense.rows == np.argsort(-scores, kind="stable")[:5].tolist()
    assert compared.dense.scores == pytest.approx(sorted(scores, reverse=True)[:5], abs=1e-5)
    texts = retriever.documents.to_documents().full_texts()
    words = [set(texts[row].lower().replace(".", "").split()) for row in compared.bm25.rows]
    assert len(words) == 5 and all(found & {"black", "owl", "roof"} for found in words)
    assert min(compared.dense.milliseconds, compared.bm25.milliseconds) > 0
    shown = compare_html(compared, retriever.documents)
    assert all(f"<h3>{name}<" in shown for name in ("Generative", "BM25", "Dense"))
    assert f"{compared.bm25.milliseconds:.1f} ms" in shown


def test_without_bm25_the_others_stand_alone(retriever, monkeypatch):
    """The column says what is missing."""
    monkeypatch.setitem(sys.modules, "bm25s", None)
    compared = Answers(retriever).compare("owl", 3)
    assert "hf-genret[baselines]" in compared.bm25.missing and compared.dense.rows
    assert "hf-genret[baselines]" in compare_html(compared, retriever.documents)


def test_the_browser_goes_down_to_the_documents(answers, retriever):
    """All ids, one code, a bucket: sizes, tiles that lead on, the documents that are there."""
    root = answers.browse("")
    assert root.node.documents == 21
    for child in root.node.children:
        assert sum(size for _, size in root.outer[child.prefix]) == child.documents
    shown = browser_html(root)
    assert shown.count("g-tile") >= len(root.node.children) and "<svg" in shown
    path = retriever.model.index.paths[0].tolist()
    branch = answers.browse(f"{path[0]}")
    assert branch.outer == {} and branch.node.prefix == (path[0],)
    bucket = answers.browse("-".join(map(str, path)))
    row = int(retriever.model.index.rows[0])
    assert retriever.documents.id_of(row) in [one["id"] for one in bucket.documents]
    assert bucket.documents[0]["title"].split()[-1] in browser_html(bucket)


@pytest.mark.parametrize("prefix", ["9", "0-0-0", "x", "1--1", "-1"])
def test_a_prefix_that_does_not_exist(answers, prefix):
    """One sentence."""
    with pytest.raises(DataError, match="no docid begins with"):
        answers.browse(prefix)


def test_documents_cannot_put_markup_into_the_page(answers, retriever):
    """Results, comparison and tree show it as text."""
    answer = answers.search("zebra", 21)
    compared = compare_html(answers.compare("zebra", 21), retriever.documents)
    odd = next(hit for hit in answer.hits if hit.id == "odd")
    bucket = browser_html(answers.browse("-".join(map(str, odd.docid))))
    for shown in (results_html(answer), compared, bucket):
        assert "<img" not in shown and "&lt;img" in shown


def test_examples_come_from_the_documents(retriever):
    """As many as asked for at most, each of them words of a document."""
    found = example_queries(retriever, 3)
    assert 1 <= len(found) <= 3 and all(one.split()[0] in ("The", "A") for one in found)
    assert example_queries(retriever, 0) == []


def test_a_model_of_histories_takes_ids(shop):
    """Ids separated by commas; an unknown one is said; BM25 has nothing to read."""
    answers = Answers(shop)
    answer = answers.search("i1, i2", 5)
    assert [hit.id for hit in answer.hits] == ["i3"] and answer.why[0].reached
    unknown = answers.search("i1,<x>")
    assert unknown.wrong and "no document with the id '<x>'" in unknown.said
    compared = answers.compare("i1, i2", 5)
    assert compared.dense.rows == [2] and "reads histories" in compared.bm25.missing
    assert example_queries(shop, 3) == ["i1", "i2", "i3"]
    pytest.importorskip("gradio")
    assert build_demo(shop) is not None


def test_without_gradio_the_extra_is_named(retriever, monkeypatch):
    """One sentence with the pip line."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"hf-genret\[demo\]"):
        build_demo(retriever)


def test_a_single_document_can_be_shown():
    """The smallest index: one leaf, one arc, no siblings."""
    answers = Answers(tiny_retriever(Documents(["a"], ["Alone"], ["one text"])))
    answer = answers.search("one text")
    assert answer.why[0].steps[0].siblings == () and "Why this document" in results_html(answer)
    assert "<svg" in browser_html(answers.browse())
