"""Streamed documents are the same documents, with their texts on disk."""

from __future__ import annotations

import copy
import gc
import pickle
import tempfile
import threading

import numpy as np
import pytest

from hf_genret import row_groups
from hf_genret.data import load_data, load_documents, streaming
from hf_genret.data.streaming import StreamedDocuments
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.documents import DocumentStore
from hf_genret.errors import DataError


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    """Groups of three, and two of them kept."""
    monkeypatch.setattr(streaming, "GROUP", 3)
    monkeypatch.setattr(row_groups, "_KEPT", 2)


@pytest.fixture
def corpus(tmp_path, write):
    """Eleven documents; a column that appears in the eighth, and one that only the second has."""
    records = [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n} é"} for n in range(11)]
    for record in records[7:]:
        record["topic"] = f"topic of {record['_id']}"
    records[1]["abc"] = "rare"
    return write(tmp_path / "docs.jsonl", records)


def test_the_same_documents(corpus):
    """Every column, every way of reading it, and the fingerprint."""
    held, streamed = load_documents(corpus), load_documents(corpus, streaming=True)
    assert isinstance(streamed, StreamedDocuments) and len(streamed) == len(held) == 11
    assert streamed.ids == held.ids
    assert list(streamed.titles) == held.titles and list(streamed.texts) == held.texts
    assert {name: list(column) for name, column in streamed.extra.items()} == held.extra
    assert set(held.extra) == {"abc", "topic"}
    assert streamed.full_texts() == held.full_texts()
    assert [streamed.full_text(row) for row in (10, 0, 7, 3)] == [
        held.full_text(row) for row in (10, 0, 7, 3)
    ]
    assert streamed.texts[2:9:2] == held.texts[2:9:2] and streamed.titles[-1] == "T10"
    assert streamed.take([8, 1]) == held.take([8, 1])
    with pytest.raises(IndexError):
        streamed.texts[11]
    assert load_data(corpus, streaming=True).fingerprint == load_data(corpus).fingerprint


def test_texts_are_not_held(corpus, monkeypatch):
    """Reading all of it decodes each group once and keeps the last ones alone."""
    streamed = load_documents(corpus, streaming=True)
    groups, asked = streamed.groups, []
    read = groups.read
    monkeypatch.setattr(groups, "read", lambda group: asked.append(group) or read(group))
    list(streamed.texts)
    assert asked == [0, 1, 2, 3]
    for row in range(11):
        streamed.texts[row]
    assert asked[4:] == [0, 1, 2, 3] and len(groups._kept) == 2


def test_the_files_vanish_with_the_documents(corpus, tmp_path, monkeypatch):
    """No folder is left behind, and none goes while a single column is still in use."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    streamed = load_documents(corpus, streaming=True)
    assert list(tmp_path.glob("*/*.parquet"))
    topics = streamed.extra["topic"]
    del streamed
    gc.collect()
    assert list(tmp_path.glob("*/*.parquet")) and topics[8] == "topic of d8"
    del topics
    gc.collect()
    assert not list(tmp_path.glob("*/*.parquet"))


def as_lists(documents):
    """Every field of documents as plain lists."""
    columns = {name: list(column) for name, column in documents.extra.items()}
    return documents.ids, list(documents.titles), list(documents.texts), columns


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_a_copy_holds_the_same(corpus, again):
    """Copied or pickled, and read where the files are gone."""
    streamed = load_documents(corpus, streaming=True)
    expected = as_lists(load_documents(corpus))
    made = again(streamed)
    del streamed
    gc.collect()
    assert as_lists(made) == expected and made.texts[4] == "text 4 é"


def test_columns_in_several_threads(corpus):
    """Threads that read forwards, backwards and by iteration get what one alone gets."""
    streamed, held = load_documents(corpus, streaming=True), load_documents(corpus)
    texts, topics = held.texts, held.extra["topic"]
    start, wrong = threading.Barrier(8), []

    def work(number):
        start.wait()
        for _ in range(20):
            rows = list(range(11))[:: -1 if number % 2 else 1]
            if [streamed.texts[row] for row in rows] != [texts[row] for row in rows]:
                wrong.append(number)
            if list(streamed.extra["topic"]) != topics:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(streamed.groups._kept) <= 2


def test_faults_are_told_as_without_streaming(tmp_path, write):
    """A duplicate far down names its line; no document is an error."""
    records = [{"_id": f"d{n}", "text": "x"} for n in range(7)] + [{"_id": "d2", "text": "x"}]
    path = write(tmp_path / "docs.jsonl", records)
    with pytest.raises(DataError, match=r"line 8, field '_id'.* line 3 has already"):
        load_documents(path, streaming=True)
    with pytest.raises(DataError, match="found none"):
        load_documents(write(tmp_path / "empty.jsonl", ""), streaming=True)


def test_a_store_reads_where_the_documents_lie(corpus, tmp_path):
    """The checkpoint's store takes them over without their texts and writes them group by group."""
    store = DocumentStore.from_documents(load_documents(corpus, streaming=True))
    held = DocumentStore.from_documents(load_documents(corpus))
    assert [store[row] for row in range(11)] == [held[row] for row in range(11)]
    store.save(tmp_path)
    assert list(DocumentStore.load(tmp_path)) == list(held)


def test_indexing_a_streamed_corpus_gives_the_same_ids(corpus, tmp_path):
    """Ids, vectors and documents of the checkpoint are those of the corpus in memory."""
    documents = load_documents(corpus)
    one, two = tiny_retriever(documents), tiny_retriever(documents)
    one.index(documents)
    two.index(load_documents(corpus, streaming=True))
    assert np.array_equal(one.model.index.paths.numpy(), two.model.index.paths.numpy())
    assert one.search("text 4", k=3) == two.search("text 4", k=3)
    assert one.facts["data"] == two.facts["data"]
    two.save_pretrained(tmp_path / "out")
    assert type(two).from_pretrained(tmp_path / "out").search("text 4", k=3) == one.search(
        "text 4", k=3
    )
