"""The document store keeps documents on disk and gives them back by row or id."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_genret.data.schema import Documents
from hf_genret.documents import DocumentStore
from hf_genret.errors import CheckpointError, DataError


@pytest.fixture
def documents():
    """2,500 documents: three groups, ids that do not sort by row, text of every kind."""
    count = 2500
    return Documents(
        [f"é{i * 7919 % count}" if i % 2 else f"id {i * 7919 % count}" for i in range(count)],
        [f"Title {i}" if i % 3 else "" for i in range(count)],
        [f"text {i}\nline two \u2028 日本 🦉" for i in range(count)],
        {"kind": [str(i % 5) for i in range(count)]},
    )


@pytest.fixture(params=["memory", "disk", "saved twice"])
def store(request, documents, tmp_path):
    """The same documents from memory, from a folder, and from a folder saved from a folder."""
    found = DocumentStore.from_documents(documents)
    for step in range({"memory": 0, "disk": 1, "saved twice": 2}[request.param]):
        (tmp_path / str(step)).mkdir()
        found.save(tmp_path / str(step))
        found = DocumentStore.load(tmp_path / str(step))
    return found


def test_rows_ids_and_everything(store, documents):
    """Every access agrees with the documents themselves."""
    assert len(store) == 2500 and store.ids == documents.ids
    assert store.to_documents() == documents
    for row in (0, 999, 1000, 2499):
        assert store[row] == {
            "id": documents.ids[row],
            "title": documents.titles[row],
            "text": documents.texts[row],
            "kind": documents.extra["kind"][row],
        }
        assert store.row_of(documents.ids[row]) == row and store.id_of(row) == documents.ids[row]
    assert [store.row_of(identifier) for identifier in documents.ids] == list(range(2500))
    assert [document["id"] for document in store] == documents.ids


def test_unknown_ids_and_rows(store):
    """An id that nobody has is a DataError, a row beyond the end an IndexError."""
    for identifier in ("", "zzz", "id", "\U0010ffff"):
        with pytest.raises(DataError, match=f"no document with the id '{identifier}'"):
            store.row_of(identifier)
    for row in (-1, 2500):
        with pytest.raises(IndexError, match="Expected a row of 0 to 2499"):
            store[row]


def test_only_a_few_groups_are_kept(documents, tmp_path, monkeypatch):
    """Reading on does not fill the memory."""
    monkeypatch.setattr("hf_genret.documents._KEPT", 2)
    DocumentStore.from_documents(documents).save(tmp_path)
    store = DocumentStore.load(tmp_path)
    for row in (0, 1500, 2400, 0):
        assert store[row]["text"] == documents.texts[row]
    assert len(store._groups) == 2


def test_reserved_columns(documents):
    """An extra column may not hide id, title or text."""
    documents.extra["text"] = documents.texts
    with pytest.raises(DataError, match="an extra column cannot be called 'text'"):
        DocumentStore.from_documents(documents)


def test_what_cannot_be_loaded(tmp_path):
    """Missing, no Parquet, without a column: one sentence with the path."""
    with pytest.raises(CheckpointError, match=r"expected documents\.parquet, found no such file"):
        DocumentStore.load(tmp_path)
    path = tmp_path / "documents.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(CheckpointError, match="expected a Parquet file"):
        DocumentStore.load(tmp_path)
    pq.write_table(pa.table({"id": ["a"], "title": ["b"]}), path)
    with pytest.raises(CheckpointError, match="expected a column 'text'"):
        DocumentStore.load(tmp_path)
