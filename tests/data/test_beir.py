"""BEIR folders: what is read, and what each fault is told as."""

from __future__ import annotations

import gzip
import json

import pytest

from hf_genret.data import load_data, load_documents
from hf_genret.errors import ConfigError, DataError, DataWarning

HEADER = "query-id\tcorpus-id\tscore\n"


def test_documents_and_splits(beir):
    """Texts, judgments and further columns come through."""
    data = load_data(beir)
    assert data.name == "toy"
    assert data.documents.ids == ["d1", "d2", "d3"]
    assert data.documents.titles == ["Apples", "", "Cars"]
    assert data.documents.extra == {
        "tags": ["", "food > oven", ""],
        "topic": ["fruit", "", ""],
        "year": [None, None, 1999],
    }
    assert set(data.splits) == {"train", "test"}
    assert data.split("train").relevant == [{0: 1.0, 1: 2.0}]
    assert data.split("train").texts == ["where do apples grow"]


def test_judgments_of_zero_are_not_relevant(beir):
    """A query judged 0 alone is left out, and the notes say so."""
    data = load_data(beir)
    assert data.split("test").ids == ["q2"]
    assert data.notes == ["test: 1 queries without a judgment above 0 were left out."]


def test_gz_is_the_same_data(beir):
    """Gzipped files give the same fingerprint as plain ones."""
    plain = load_data(beir).fingerprint
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        path = beir / name
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert load_data(beir).fingerprint == plain


@pytest.mark.parametrize("name", ["dev.tsv", "validation.tsv", "valid.tsv"])
def test_names_of_dev(beir, write, name):
    """BEIR's several names all mean dev."""
    write(beir / "qrels" / name, HEADER + "q3\td3\t1\n")
    assert load_data(beir).split("dev").ids == ["q3"]


def test_fingerprint_follows_content(beir, write):
    """One changed judgment changes the fingerprint; a second load does not."""
    first = load_data(beir).fingerprint
    assert len(first) == 16 and load_data(beir).fingerprint == first
    write(beir / "qrels" / "train.tsv", HEADER + "q1\td1\t1\nq1\td2\t3\n")
    assert load_data(beir).fingerprint != first


def test_qrels_without_header_lose_nothing(beir, write):
    """A first line whose score is a number is a judgment."""
    write(beir / "qrels" / "train.tsv", "q1\td1\t1\n")
    assert load_data(beir).split("train").relevant == [{0: 1.0}]


def test_corpus_alone(beir):
    """A folder without qrels is a corpus; the unread queries are noted."""
    for name in ("train.tsv", "test.tsv"):
        (beir / "qrels" / name).unlink()
    with pytest.warns(DataWarning, match="not read"):
        data = load_data(beir)
    assert data.splits == {} and "not read" in data.notes[0]
    assert load_documents(beir).ids == data.documents.ids


def test_field_map(beir, write):
    """Columns with other names are found through the map."""
    write(beir / "corpus.jsonl", [{"nr": n, "body": "some text"} for n in range(3)])
    documents = load_documents(beir, corpus_field_map={"id": "nr", "text": "body"})
    assert documents.ids == ["0", "1", "2"] and documents.texts[0] == "some text"
    with pytest.raises(ConfigError, match="'bodie'"):
        load_documents(beir, corpus_field_map={"bodie": "text"})


def corpus_of(*faulty: object) -> list[object]:
    return [{"_id": "d0", "text": "good"}, *faulty]


CORPUS_FAULTS = {
    "duplicate": (corpus_of({"_id": "d0", "text": "x"}), 2, "_id", "line 1 has already"),
    "no id": (corpus_of({"text": "x"}), 2, "_id", "expected an id, found none"),
    "empty id": (corpus_of({"_id": " ", "text": "x"}), 2, "_id", "expected an id"),
    "no text": ([{"_id": "d1", "title": ""}], None, "text", "no document has either"),
    "blank text": ([{"_id": "d1", "text": " \n"}], None, "text", "no document has either"),
    "text a number": (corpus_of({"_id": "d1", "text": 5}), 2, "text", "expected a string, found 5"),
    "not JSON": (corpus_of("{oops"), 2, None, "expected one JSON object a line, found '{oops'"),
    "an array": (corpus_of("[1]"), 2, None, "expected a JSON object, found a list"),
    "half a pair": (corpus_of('{"_id": "a", "text": "\\ud800"}'), 2, "text", "surrogate"),
    "not UTF-8": (
        b'{"_id": "d0", "text": "a"}\n{"_id": "\xff"}\n',
        2,
        None,
        "UTF-8, found byte 0xff",
    ),
    "empty": ("\n", None, None, "expected documents, found none"),
}


@pytest.mark.parametrize("case", CORPUS_FAULTS, ids=str)
def test_corpus_faults(beir, write, case):
    """Each fault of a corpus names file, line and field."""
    content, line, field, message = CORPUS_FAULTS[case]
    path = write(beir / "corpus.jsonl", content)
    with pytest.raises(DataError, match=message.replace("{", r"\{")) as caught:
        load_data(beir)
    assert str(caught.value.path) == str(path)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert "corpus.jsonl" in str(caught.value) and "\n" not in str(caught.value)


def test_one_bad_line_of_ten_thousand(beir, write):
    """The line number is right far into a gzipped file."""
    lines: list[object] = [{"_id": f"d{n}", "text": "x"} for n in range(10_000)]
    lines[7_654] = '{"_id": "d7654", "text": '
    (beir / "corpus.jsonl").unlink()
    write(beir / "corpus.jsonl.gz", lines)
    with pytest.raises(DataError, match=r"corpus\.jsonl\.gz, line 7655"):
        load_data(beir)


def test_line_numbers_count_newlines_only(beir, write):
    """Blank lines count, a raw U+2028 inside a text does not end a line."""
    good = json.dumps({"_id": "a", "text": "one\u2028two"}, ensure_ascii=False)
    write(beir / "corpus.jsonl", ["", good, "nonsense"])
    with pytest.raises(DataError, match="line 3"):
        load_documents(beir)


def test_byte_order_mark(beir):
    """A file that Windows editors begin with a mark is read."""
    path = beir / "corpus.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_documents(beir)) == 3


@pytest.mark.parametrize("damage", ["truncated", "not gzip", "garbled"])
def test_damaged_gzip(beir, damage):
    """A gzip file that ends early, is none, or is garbled inside is one sentence."""
    path = beir / "corpus.jsonl"
    packed = gzip.compress(path.read_bytes() * 200)
    garbled = packed[:40] + bytes(40) + packed[80:]
    content = {"truncated": packed[:-30], "not gzip": b"plain", "garbled": garbled}[damage]
    path.unlink()
    path.with_name("corpus.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match="gz") as caught:
        load_documents(beir)
    assert "truncated" in str(caught.value) or damage != "truncated"


QRELS_FAULTS = {
    "unknown documents": ("q1\td9\t1\n", None, None, "found none of 1; the ids of the documents"),
    "unknown queries": ("q9\td1\t1\n", None, None, "found none of 1; the ids of the queries"),
    "score a word": ("q1\td1\tyes\n", 2, "score", "expected a number, found 'yes'"),
    "score nan": ("q1\td1\tnan\n", 2, "score", "expected a number, found 'nan'"),
    "contradiction": ("q1\td1\t1\nq1\td1\t2\n", 3, "score", "another score further up"),
    "columns": ("q1 d1 1\n", 2, None, "expected 3 columns as in the first line, found 1"),
    "empty id": ("\td1\t1\n", 2, "query-id", "expected an id"),
    "header only": ("", None, None, "expected judgments above 0, found none"),
    "zeros only": ("q1\td1\t0\nq2\td1\t-1\n", None, None, "found none above 0"),
}


@pytest.mark.parametrize("case", QRELS_FAULTS, ids=str)
def test_qrels_faults(beir, write, case):
    """Each fault of the judgments names file, line and field."""
    content, line, field, message = QRELS_FAULTS[case]
    write(beir / "qrels" / "train.tsv", HEADER + content)
    with pytest.raises(DataError, match=message) as caught:
        load_data(beir)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert "train.tsv" in str(caught.value)


def test_query_faults(beir, write):
    """Queries without text, doubled, or missing altogether."""
    path = beir / "queries.jsonl"
    write(path, [{"_id": "q1", "text": " "}])
    with pytest.raises(DataError, match=r"queries\.jsonl, field 'text': .*found none; .*_id, text"):
        load_data(beir)
    write(path, [{"_id": "q1", "text": "a"}, {"_id": "q1", "text": "b"}])
    with pytest.raises(DataError, match="line 2, field '_id'"):
        load_data(beir)
    path.unlink()
    with pytest.raises(DataError, match=r"expected queries\.jsonl"):
        load_data(beir)
