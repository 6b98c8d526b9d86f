from __future__ import annotations

import math
import sys
from collections import Counter

import numpy as np
import pytest

from hf_genret.data.schema import Documents, Queries
from hf_genret.errors import ConfigError, MissingExtraError
from hf_genret.evaluation.baselines import bm25_run, dense_run, random_run

TEXTS = [
    "joins two paths into one",
    "the path of a file, paths and more paths",
    "splits a string at commas",
    "a joining of strings",
]


@pytest.fixture
def documents():
    """Four short texts with titles."""
    return Documents([str(i) for i in range(4)], ["join", "path", "split", ""], TEXTS)


def queries_of(texts=None, histories=None, count=None):
    count = count or len(texts or histories)
    if histories is not None:
        histories = [np.asarray(history, dtype=np.int64) for history in histories]
    return Queries([str(i) for i in range(count)], [{0: 1.0}] * count, texts, histories)


def lucene_bm25(documents, words):
    """BM25 as Lucene computes it, over words stemmed by hand."""
    total = len(documents)
    lengths = [len(document) for document in documents]
    mean = sum(lengths) / total
    scores = np.zeros(total)
    for word in words:
        holding = sum(word in document for document in documents)
        if not holding:
            continue
        idf = math.log(1 + (total - holding + 0.5) / (holding + 0.5))
        for row, document in enumerate(documents):
            count = Counter(document)[word]
            scores[row] += idf * count / (count + 1.2 * (1 - 0.75 + 0.75 * lengths[row] / mean))
    return scores


def test_bm25_is_lucenes_formula(documents):
    """Scores equal the formula over stopped and stemmed words; no common term, no hit."""
    pytest.importorskip("bm25s")
    stemmed = [
        ["join", "join", "two", "path", "one"],
        ["path", "path", "file", "path", "more", "path"],
        ["split", "split", "string", "comma"],
        ["join", "string"],
    ]
    run = bm25_run(documents, queries_of(["joined the paths", "strings"]), depth=10)
    for query, words in enumerate([["join", "path"], ["string"]]):
        expected = lucene_bm25(stemmed, words)
        order = [row for row in np.argsort(-expected, kind="stable") if expected[row] > 0]
        assert run.rows[query].tolist() == order
        np.testing.assert_allclose(run.scores[query], expected[order], rtol=1e-5)
    assert run.latency_ms > 0
    assert run.bytes > 0


def test_bm25_depth_and_queries_without_known_words(documents):
    """The depth cuts after equal scores are in row order; nothing known finds nothing."""
    pytest.importorskip("bm25s")
    same = Documents(["a", "b", "c"], ["", "", ""], ["apple", "apple", "apple"])
    run = bm25_run(same, queries_of(["apple", "pear", "", "the of"]), depth=2)
    assert [rows.tolist() for rows in run.rows] == [[0, 1], [], [], []]


def test_bm25_needs_texts_and_words(documents):
    """One sentence each."""
    pytest.importorskip("bm25s")
    with pytest.raises(ConfigError, match="queries with texts"):
        bm25_run(documents, queries_of(histories=[[0]]), depth=1)
    with pytest.raises(ConfigError, match="no stopword"):
        bm25_run(Documents(["a"], [""], ["the"]), queries_of(["x"]), depth=1)


def test_bm25_names_the_missing_extra(documents, monkeypatch):
    """Without the libraries the error says what to install."""
    monkeypatch.setitem(sys.modules, "Stemmer", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hf-genret\[baselines\]'"):
        bm25_run(documents, queries_of(["x"]), depth=1)


@pytest.mark.parametrize("depth", [3, 50, 80])
def test_dense_is_brute_force(depth):
    """All inner products, sorted; a depth beyond the corpus returns the corpus."""
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(7, 5)), rng.normal(size=(50, 5))
    run = dense_run("dense", left, right, queries_of(["x"] * 7), depth=depth)
    expected = np.argsort(-(left @ right.T), axis=1)[:, :depth]
    assert [rows.tolist() for rows in run.rows] == expected.tolist()
    assert run.bytes == 50 * 5 * 4


def test_dense_leaves_histories_out():
    """An excluded row appears nowhere, and the rest moves up."""
    left, right = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    queries = queries_of(histories=[[0], [], [0, 1, 2]])
    run = dense_run("dense", left, right, queries, depth=2, exclude_history=True)
    assert [rows.tolist() for rows in run.rows] == [[1, 2], [1, 0], []]
    assert run.notes[0] == "history excluded"
    assert dense_run("dense", left, right, queries, depth=2).notes[0] == "history not excluded"


def test_dense_refuses_vectors_that_do_not_fit():
    """Shapes are named."""
    with pytest.raises(ConfigError, match=r"\[2, D\].*found \[3, 4\] and \[5, 4\]"):
        dense_run("dense", np.ones((3, 4)), np.ones((5, 4)), queries_of(["x"] * 2), depth=1)


def test_excluding_histories_needs_histories():
    """Queries of texts alone cannot exclude any."""
    with pytest.raises(ConfigError, match="exclude_history"):
        random_run(5, queries_of(["x"]), 2, 0, exclude_history=True)


def test_random_is_seeded_unique_and_even():
    """The same seed draws the same; no row twice; every row about as often."""
    queries = queries_of(["x"] * 2000)
    run = random_run(10, queries, 3, 1)
    again, other = random_run(10, queries, 3, 1), random_run(10, queries, 3, 2)
    run.check(2000, 10)
    assert all((a == b).all() for a, b in zip(run.rows, again.rows, strict=True))
    assert any((a != b).any() for a, b in zip(run.rows, other.rows, strict=True))
    counts = np.bincount(np.concatenate(run.rows), minlength=10)
    assert abs(counts / 600 - 1).max() < 0.15


def test_random_leaves_histories_out_and_stops_at_the_corpus():
    """Fewer rows than the depth are left in a small corpus."""
    run = random_run(4, queries_of(histories=[[1, 2], []]), 9, 0, exclude_history=True)
    assert sorted(run.rows[0].tolist()) == [0, 3]
    assert sorted(run.rows[1].tolist()) == [0, 1, 2, 3]


LANGUAGES = {
    "Chinese": (["图书馆里没有书", "今天天气很好", "他喜欢喝茶"], ["天气怎么样", "喝茶", "书"]),
    "Thai": (["แมวนอนบนเตียง", "ฝนตกหนักมาก", "ฉันชอบชา"], ["ฝนตก", "ชา", "แมว"]),
    "Hindi": (["बिल्ली चटाई पर है", "आज बारिश हुई", "मुझे चाय पसंद है"], ["बारिश", "चाय", "बिल्ली"]),
}
WANTED = {"Chinese": [1, 2, 0], "Thai": [1, 2, 0], "Hindi": [1, 2, 0]}


@pytest.mark.parametrize("language", LANGUAGES)
def test_bm25_of_scripts_without_spaces_or_with_marks(language):
    """Parts of a text without spaces find it; vowel signs do not tear words apart."""
    texts, queries = LANGUAGES[language]
    documents = Documents(["a", "b", "c"], [""] * 3, texts)
    run = bm25_run(documents, Queries(queries, [{}] * 3, queries), depth=3)
    assert [rows[:1].tolist() for rows in run.rows] == [[row] for row in WANTED[language]]


def test_bm25_of_two_scripts_in_one_corpus():
    """Each text is read by its own script; English words keep their stems."""
    documents = Documents(["a", "b"], [""] * 2, ["The cats are running home", "用Python编程很有趣"])
    queries = Queries(["1", "2", "3"], [{}] * 3, ["runs with a cat", "编程", "PYTHON"])
    assert [row.tolist() for row in bm25_run(documents, queries, depth=2).rows] == [[0], [1], [1]]


def test_bm25_of_another_language_keeps_its_words():
    """German `was` and `will` are words there, and nothing is cut by an English stemmer."""
    texts = [
        "Was er will, das ist der Garten.",
        "Die Katze und der Hund",
        "Das Haus ist ein Garten",
    ]
    documents = Documents(["a", "b", "c"], [""] * 3, texts)
    run = bm25_run(documents, Queries(["1", "2"], [{}] * 2, ["will", "Gartens"]), depth=3)
    assert [row.tolist() for row in run.rows] == [[0], []]
    assert run.notes == ["not in English: no stopwords, no stemmer"]
