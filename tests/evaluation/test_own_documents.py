"""Queries that are documents of the corpus do not find themselves."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.schema import Documents, Queries
from hf_genret.evaluation.own_documents import leave_own_out, own_documents
from hf_genret.evaluation.run import Run

DOCUMENTS = Documents(
    ["1", "2", "3", "4"],
    ["On cats", "", "Dogs", ""],
    ["Cats sleep all day long.", "Rain falls on the hill", "Dogs bark at night", "今天天气很好"],
)


def own(name, text, relevant=None):
    queries = Queries([name], [relevant or {}], [text])
    return own_documents(queries, DOCUMENTS).tolist()


@pytest.mark.parametrize(
    ("name", "text", "row"),
    [
        ("1", "cats  SLEEP all day long", 0),  # the text
        ("1", "On cats", 0),  # the title
        ("1", "On cats Cats sleep all day long.", 0),  # both
        ("4", "今天天气很好。", 3),
        ("1", "Rain falls on the hill", -1),  # the number is there by accident
        ("3", "cats", -1),
        ("9", "Dogs bark at night", -1),  # the same text under another id
        ("2", "the hill", -1),
    ],
)
def test_a_query_is_a_document_by_id_and_text(name, text, row):
    """Both have to be equal; white space, case and punctuation do not count."""
    assert own(name, text) == [row]


def test_what_is_judged_relevant_stays():
    """Where the judgments say that a query is answered by itself, it may find itself."""
    assert own("1", "On cats", {0: 1.0}) == [-1]
    assert own("1", "On cats", {1: 1.0}) == [0]


def test_queries_without_texts_are_no_documents():
    """Histories are not compared."""
    queries = Queries(["1"], [{}], histories=[np.array([0])])
    assert own_documents(queries, DOCUMENTS).tolist() == [-1]


def test_rows_scores_pools_and_buckets_lose_it_and_a_note_says_so():
    """The rest keeps its order; another query keeps everything."""
    rows = [np.array([2, 0, 1]), np.array([0, 1])]
    scores = [np.array([3.0, 2.0, 1.0]), np.array([2.0, 1.0])]
    buckets = [[np.array([2]), np.array([0, 1])], [np.array([0, 1])]]
    run = Run("any", [*rows], [*scores], pools=[*rows], buckets=buckets)
    leave_own_out(run, np.array([2, -1]))
    assert [row.tolist() for row in run.rows] == [[0, 1], [0, 1]]
    assert [score.tolist() for score in run.scores] == [[2.0, 1.0], [2.0, 1.0]]
    assert [row.tolist() for row in run.pools] == [[0, 1], [0, 1]]
    assert [[b.tolist() for b in found] for found in run.buckets] == [[[0, 1]], [[0, 1]]]
    assert run.notes == ["the documents that 1 queries are themselves left out"]
    assert leave_own_out(Run("any", [rows[1]]), np.array([-1])).notes == []
