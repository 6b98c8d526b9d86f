"""Imperfect data is read as far as it can be; what is left out is said, or refused if strict."""

from __future__ import annotations

import pytest

from hf_genret.data import load_data, load_documents, load_queries, pseudo_queries
from hf_genret.errors import DataError, DataWarning

HEADER = "query-id\tcorpus-id\tscore\n"


def loaded(path, *messages, read=load_data, **options):
    """Loads and checks that exactly these notes are said; strict reading refuses the first."""
    with pytest.warns(DataWarning) as caught:
        data = read(path, **options)
    said = [str(one.message) for one in caught]
    assert len(said) == len(messages)
    assert all(message in one for message, one in zip(messages, said, strict=True)), said
    if read is load_data:
        assert data.notes[: len(said)] == said
    with pytest.raises(DataError, match="because of strict reading"):
        read(path, strict=True, **options)
    return data


def test_judgments_of_unknown_documents_and_queries(beir, write):
    """Each kind is counted; a query that nothing is left of goes with them."""
    rows = "q1\td1\t1\nq1\td9\t1\nq2\td8\t3\nq9\td1\t1\nq1\td7\t0\n"
    write(beir / "qrels" / "train.tsv", HEADER + rows)
    data = loaded(
        beir,
        "train.tsv: 3 judgments left out, since the corpus lacks their document (the first: 'd9', "
        "line 3).",
        "train.tsv: 1 judgments left out, since queries lack their query or its text (the first: "
        "'q9', line 5).",
    )
    assert data.split("train").ids == ["q1"] and data.split("train").relevant == [{0: 1.0}]
    assert "train: 1 queries without a judgment above 0 were left out." in data.notes


def test_dangling_judgments_leave_the_data_as_without_them(beir, write):
    clean = load_data(beir).fingerprint
    write(beir / "qrels" / "test.tsv", HEADER + "q2\td2\t1\nq3\td3\t0\nq2\tx\t1\ny\td2\t1\n")
    with pytest.warns(DataWarning):
        assert load_data(beir).fingerprint == clean


def test_dangling_judgments_of_a_saved_dataset(tmp_path):
    datasets = pytest.importorskip("datasets")
    tables = {
        "corpus": [{"id": 1, "text": "one"}, {"id": 2, "text": ""}],
        "queries": [{"id": 7, "text": "a"}, {"id": 8, "text": ""}],
        "queries_more": [{"id": 9, "text": "b"}],
        "qrels_test": [
            {"doc_id": document, "query_id": query, "rel": 1}
            for query, document in [(7, 1), (7, 5), (8, 1), (9, 2)]
        ],
        "qrels_eval": [{"query-id": 7, "corpus-id": 1, "score": 1}],
    }
    parts = {name: datasets.Dataset.from_list(rows) for name, rows in tables.items()}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    data = loaded(
        tmp_path / "saved",
        "saved[corpus]: 1 documents with neither title nor text; they are kept (the first: '2', ",
        "saved[qrels_eval]: 1 part was not read",
        "saved[queries]: 1 queries without a text left out (the first: '8', line 2).",
        "saved[qrels_test]: 1 judgments left out, since the corpus lacks",
        "saved[qrels_test]: 1 judgments left out, since queries lack",
    )
    assert data.split("test").ids == ["7", "9"]
    assert data.split("test").relevant == [{0: 1.0}, {1: 1.0}]


def test_further_splits_of_a_repository(monkeypatch):
    """All queries are read; a second corpus is named."""
    datasets = pytest.importorskip("datasets")
    tables = {
        "corpus": {"dev": [{"_id": "a", "text": "x"}], "test": [{"_id": "b", "text": "y"}]},
        "queries": {"dev": [{"_id": "1", "text": "x"}], "test": [{"_id": "2", "text": "y"}]},
        "qrels": {
            split: [{"query-id": query, "corpus-id": "a", "score": 1}]
            for split, query in (("dev", "1"), ("test", "2"))
        },
    }
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: list(tables))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, part, streaming=False: tables[part])
    data = loaded("some/set", "set[corpus_test]: 1 part was not read")
    assert data.split("dev").texts == ["x"] and data.split("test").texts == ["y"]


@pytest.mark.parametrize("streaming", [False, True])
def test_an_empty_document_is_kept(beir, write, streaming):
    """It has a row and may be relevant; nothing is asked about it."""
    write(beir / "corpus.jsonl", [{"_id": "d1"}, {"_id": "d2", "title": " ", "text": None}])
    with open(beir / "corpus.jsonl", "a") as file:
        file.write('{"_id": "d3", "text": "Cars are fast and loud."}\n')
    said = "corpus.jsonl: 2 documents with neither title nor text; they are kept (the first: 'd1'"
    data = loaded(beir, said, streaming=streaming)
    assert data.documents.ids == ["d1", "d2", "d3"] and list(data.documents.texts)[:2] == ["", ""]
    assert data.split("train").relevant == [{0: 1.0, 1: 2.0}]
    made = pseudo_queries(data.documents, seed=0)
    assert {row for gains in made.relevant for row in gains} == {2}
    loaded(beir, said, read=load_documents, streaming=streaming)


def test_a_query_without_a_text(beir, write):
    write(
        beir / "queries.jsonl",
        [{"_id": "q1", "text": "a"}, {"_id": "q2"}, {"_id": "q3", "text": "b"}],
    )
    write(beir / "qrels" / "test.tsv", HEADER + "q2\td2\t1\nq3\td3\t1\n")
    data = loaded(
        beir,
        "queries.jsonl: 1 queries without a text left out (the first: 'q2', line 2).",
        "test.tsv: 1 judgments left out, since queries lack their query or its text",
    )
    assert data.split("test").ids == ["q3"]


def test_queries_of_a_file(tmp_path, write):
    path = write(tmp_path / "q.tsv", "id\ttext\n1\tone\n2\t \n3\tthree\twith a tab\n")
    queries = loaded(path, "q.tsv: 1 queries without a text left out", read=load_queries)
    assert queries.ids == ["1", "3"] and queries.texts == ["one", "three\twith a tab"]


def test_jsonl_queries(tmp_path, write):
    """Unknown documents leave lists; a query that has nothing left to ask or find goes."""
    write(tmp_path / "documents.jsonl", [{"id": f"d{n}", "text": "x"} for n in range(3)])
    queries = [
        {"text": "a", "relevant": ["d1", "d8"], "split": "dev"},
        {"text": "b", "relevant": ["d9"], "split": "dev"},
        {"text": "", "relevant": ["d1"], "split": "dev"},
        {"history": ["d7", "d0"], "relevant": ["d2"], "split": "dev"},
        {"history": ["d7"], "relevant": ["d2"], "split": "dev"},
        {"text": "c", "relevant": [], "split": "dev"},
    ]
    write(tmp_path / "queries.jsonl", queries)
    data = loaded(
        tmp_path,
        "queries.jsonl: 2 documents of 'relevant' left out, since the corpus lacks them",
        "queries.jsonl: 2 queries without a relevant document left out (the first: '2', line 2).",
        "queries.jsonl: 2 queries with neither text nor history left out (the first: '3', line 3).",
        "queries.jsonl: 2 documents of 'history' left out, since the corpus lacks them",
    )
    dev = data.split("dev")
    assert dev.ids == ["1", "4"] and dev.relevant == [{1: 1.0}, {2: 1.0}]
    assert [history.tolist() for history in dev.histories] == [[], [0]]


def test_steps_of_unknown_items(shop, write):
    """They leave the sequence, and a user that has no other goes."""
    write(shop / "sequences.tsv", "ann\ti0 i9 i1 i2\nbob\ti8 i7\ncid\t\ndan\ti3 i4 i5\n")
    data = loaded(
        shop,
        "sequences.tsv: 3 steps of sequences left out, since items.jsonl lacks their item (the "
        "first: 'i9', line 1).",
        "sequences.tsv: 2 users without an item left out (the first: 'bob', line 2).",
    )
    assert data.num_users == 2 and data.split("test").ids == ["ann:2", "dan:2"]
    assert [history.tolist() for history in data.split("test").histories] == [[0, 1], [3, 4]]


@pytest.mark.parametrize("header", ["", "user_id\titem_ids\n", "User\tItems\n"])
def test_sequences_with_and_without_a_header(shop, write, header):
    """Only a line that names its columns is skipped."""
    write(shop / "sequences.tsv", header + "ann\ti0 i1 i2\n")
    assert load_data(shop, strict=True).split("test").ids == ["ann:2"]


def test_a_user_who_is_called_as_a_header(shop, write):
    """Items that are there tell that the line is none."""
    write(shop / "sequences.tsv", "user\ti0 i1 i2\n")
    assert load_data(shop, strict=True).split("test").ids == ["user:2"]


def test_clean_data_says_nothing(beir, shop, recwarn):
    load_data(beir, strict=True)
    load_data(shop, strict=True)
    assert not [one for one in recwarn if issubclass(one.category, DataWarning)]
