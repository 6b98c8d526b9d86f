"""Judgments and queries under other names, in other formats and orders: read, or named."""

from __future__ import annotations

import gzip

import pytest

from hf_genret.data import load_data, load_documents
from hf_genret.errors import DataError, DataWarning

HEADER = "query-id\tcorpus-id\tscore\n"
JUDGED = {"q1": {0: 1.0, 1: 2.0}}


def judged(folder, split="train"):
    queries = load_data(folder).split(split)
    return dict(zip(queries.ids, queries.relevant, strict=True))


def without_qrels(folder):
    for file in (folder / "qrels").iterdir():
        file.unlink()
    return folder


TABLES = {
    "tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t2\n",
    "names in another order": "corpus-id query-id score\nd1 q1 1\nd2 q1 2\n",
    "other names": "score\tdoc_id\tqid\n1\td1\tq1\n2\td2\tq1\n",
    "capitals": "QueryID\tDocNo\tRelevance\nq1\td1\t1\nq1\td2\t2\n",
    "no header": "q1\td1\t1\nq1\td2\t2\n",
    "blanks": "q1 d1 1\nq1 d2   2\n",
    "trec": "q1 0 d1 1\nq1 0 d2 2\n",
    "trec with tabs": "q1\tQ0\td1\t1\nq1\tQ0\td2\t2\n",
    "trec with a header": "qid\t0\tdocid\trel\nq1\t0\td1\t1\nq1\t0\td2\t2\n",
    "commas": 'query-id,corpus-id,score\r\nq1,d1,1\r\n"q1","d2",2\r\n',
    "semicolons": "corpus-id;query-id;score\nd1;q1;1\nd2;q1;2\n",
}


@pytest.mark.parametrize("case", TABLES, ids=str)
def test_names_decide_the_columns_else_the_usual_order(beir, write, case):
    """The same judgments, however the table is written."""
    write(beir / "qrels" / "train.tsv", TABLES[case])
    assert judged(beir) == JUDGED


def test_whole_numbers_as_ids_follow_the_header(beir, write):
    """Ids that could be either are told apart by the header alone."""
    write(beir / "corpus.jsonl", [{"_id": n, "text": f"text {n}"} for n in (1, 2, 3)])
    write(beir / "queries.jsonl", [{"_id": n, "text": f"query {n}"} for n in (1, 2, 3)])
    (beir / "qrels" / "test.tsv").unlink()
    write(beir / "qrels" / "train.tsv", "corpus-id\tquery-id\tscore\n1\t2\t1\n2\t3\t1\n")
    assert judged(beir) == {"2": {0: 1.0}, "3": {1: 1.0}}


HEADER_FAULTS = {
    "unknown names": ("frage\tantwort\twert\n", "'frage', 'antwort', 'wert': none of them is q"),
    "no score": ("query-id\tcorpus-id\n", "none of them is score"),
    "twice": ("query-id\tqid\tscore\n", "one column of query-id, found 'query-id' and 'qid'"),
    "two columns": ("1\t2\n", "expected query-id, corpus-id, score parted by tabs, found 2"),
}


@pytest.mark.parametrize("case", HEADER_FAULTS, ids=str)
def test_a_header_that_is_not_understood_names_its_columns(beir, write, case):
    content, message = HEADER_FAULTS[case]
    write(beir / "qrels" / "train.tsv", content + "q1\td1\t1\n")
    with pytest.raises(DataError, match=message) as caught:
        load_data(beir)
    assert caught.value.line == 1


def test_a_further_column_is_named(beir, write):
    write(beir / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore\twho\nq1\td1\t1\tann\n")
    with pytest.warns(DataWarning, match=r"train\.tsv: 1 columns 'who' of judgments were not read"):
        assert judged(beir) == {"q1": {0: 1.0}}


JSONL = [
    {"query-id": "q1", "corpus-id": "d1", "score": 1},
    {"score": 2.0, "doc_id": "d2", "query_id": "q1"},
]
CSV = "query-id,corpus-id,score\nq1,d1,1\nq1,d2,2\n"
PLACES = {
    "qrels/train.csv": CSV,
    "qrels/train.jsonl": JSONL,  # as MTEB writes its own
    "qrels/train.jsonl.gz": JSONL,
    "qrels/Train.tsv": TABLES["tsv"],
    "QRELS/TRAIN.TSV": TABLES["tsv"],
    "qrels/train.txt": TABLES["trec"],
    "qrels.train.tsv": TABLES["tsv"],
    "train.qrels": TABLES["trec"],
    "train_qrels.csv": CSV,
}


@pytest.mark.parametrize("place", PLACES)
def test_judgments_are_met_where_people_keep_them(beir, write, place):
    without_qrels(beir).joinpath("qrels").rmdir()
    write(beir / place, PLACES[place])
    assert judged(beir) == JUDGED


def test_one_file_without_a_split_is_the_test(beir, write):
    """The notes say so; beside files that name their split it is not read."""
    write(without_qrels(beir) / "qrels.tsv", TABLES["tsv"])
    assert judged(beir, "test") == JUDGED
    assert load_data(beir).notes == ["qrels.tsv names no split; its judgments are the test's."]
    write(beir / "qrels" / "dev.tsv", TABLES["tsv"])
    with pytest.warns(DataWarning, match=r"^qrels\.tsv: 1 file was not read"):
        assert set(load_data(beir).splits) == {"dev"}


UNREAD = {
    "qrels/test.parquet": "judgments are read from qrels",
    "qrels/eval.tsv": "judgments are read from qrels",
    "qrels/validation.tsv": "judgments are read from qrels",  # dev.tsv goes before it
    "queries.json": "queries are read from",
    "queries.csv": "queries are read from",  # queries.jsonl goes before it
    "corpus.jsonl.gz": "documents are read from one file",
    "corpus_2.jsonl": "documents are read from one file",
    "qrels_and_queries.tsv": "what is read: corpus.jsonl",
    "sequences.csv": "what is read: corpus.jsonl",
    "test.tsv": "what is read: corpus.jsonl",
    "ml-100k.inter": "what is read: corpus.jsonl",
}


@pytest.mark.parametrize("place", UNREAD)
def test_what_is_not_read_is_named(beir, write, place):
    write(beir / "qrels" / "dev.tsv", TABLES["tsv"])
    write(beir / place, "{}")
    with pytest.warns(DataWarning) as caught:
        notes = load_data(beir).notes
    (said,) = (str(one.message) for one in caught)
    assert said.startswith(f"{place}: 1 file was not read; ") and UNREAD[place] in said
    assert said in notes and str(beir) not in said
    with pytest.raises(DataError, match="because of strict reading"):
        load_data(beir, strict=True)


@pytest.mark.parametrize("place", ["README.md", "notes.txt", ".qrels.tsv", "qrels/.test.tsv.swp"])
def test_other_files_are_not_data(beir, write, place):
    write(beir / place, "x")
    load_data(beir, strict=True)


def test_documents_alone_name_another_corpus(beir):
    """Queries are not wanted then, a second corpus may be."""
    load_documents(beir, strict=True)
    packed = gzip.compress((beir / "corpus.jsonl").read_bytes())
    (beir / "corpus.jsonl.gz").write_bytes(packed)
    with pytest.warns(DataWarning, match=r"corpus\.jsonl\.gz: 1 file was not read"):
        load_documents(beir)


def test_queries_without_judgments_are_named(beir):
    without_qrels(beir)
    with pytest.warns(DataWarning, match=r"queries\.jsonl: 1 file was not read, for nothing"):
        assert load_data(beir).splits == {}


QUERY_FILES = {
    "queries.tsv": "q1\twhere, do apples grow\nq2\tmade?\nq3\tx\n",
    "queries.csv": 'text,id\n"where, do apples grow",q1\nmade?,q2\nx,q3\n',
    "queries/queries.jsonl": [
        {"id": "q1", "text": "where, do apples grow"},
        {"query-id": "q2", "query": "made?"},
        {"qid": "q3", "text": "x"},
    ],
}


@pytest.mark.parametrize("place", QUERY_FILES)
def test_queries_in_other_formats(beir, write, place):
    """A header names the columns, and is no query."""
    (beir / "queries.jsonl").unlink()
    write(beir / place, QUERY_FILES[place])
    data = load_data(beir, strict=True)
    assert data.split("train").texts == ["where, do apples grow"]
    assert data.split("test").texts == ["made?"]


def test_queries_of_each_split(beir, write):
    """All files are read; one id with two texts is an error."""
    (beir / "queries.jsonl").unlink()
    write(beir / "queries" / "train.jsonl", [{"_id": "q1", "text": "one"}])
    write(
        beir / "queries" / "test.jsonl", [{"_id": "q2", "text": "two"}, {"_id": "q3", "text": "x"}]
    )
    data = load_data(beir, strict=True)
    assert data.split("train").texts == ["one"] and data.split("test").texts == ["two"]
    write(beir / "queries" / "test.jsonl", [{"_id": "q1", "text": "another"}])
    with pytest.raises(DataError, match="query 'q1' has another text in another file"):
        load_data(beir)


def test_a_corpus_of_any_name_with_judged_queries(beir):
    """The layout of judgments decides, not what the documents are called."""
    expected = load_data(beir).fingerprint
    for name in ("documents.jsonl", "passages.jsonl"):
        (beir / "corpus.jsonl").rename(beir / name)
        assert load_data(beir, strict=True).fingerprint == expected
        (beir / name).rename(beir / "corpus.jsonl")


def test_queries_that_carry_their_judgments_beside_a_corpus(beir, write):
    """As in the jsonl layout, whatever the documents are called."""
    without_qrels(beir)
    write(beir / "queries.jsonl", [{"text": "a", "relevant": ["d1"], "split": "dev"}])
    assert load_data(beir, strict=True).split("dev").relevant == [{0: 1.0}]
