"""The document store keeps documents on disk and gives them back by row or id."""

from __future__ import annotations

import copy
import pickle
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_genret import row_groups
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
    """Reading on does not fill the memory; a group that is kept is not decoded again."""
    monkeypatch.setattr(row_groups, "_KEPT", 2)
    DocumentStore.from_documents(documents).save(tmp_path)
    store = DocumentStore.load(tmp_path)
    decoded, read = [], store._groups.read
    monkeypatch.setattr(store._groups, "read", lambda group: decoded.append(group) or read(group))
    for row in (0, 1500, 3, 2400, 4, 1600):
        assert store[row]["text"] == documents.texts[row]
    assert decoded == [0, 1, 2, 1]


def run_together(count, work):
    """Runs work(number) in as many threads, which begin at once; raises what one raised."""
    start, errors = threading.Barrier(count), []

    def guarded(number):
        start.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("store", ["memory", "disk"], indirect=True)
def test_threads_share_a_store(store, documents, monkeypatch):
    """Iteration, rows and ids in many threads are what they are in one, also while groups go."""
    monkeypatch.setattr(row_groups, "_KEPT", 1)

    def work(number):
        for step in range(40):
            row = (number * 911 + step * 1009) % 2500
            assert store[row]["text"] == documents.texts[row]
            assert store.row_of(documents.ids[row]) == row
        assert [document["title"] for document in store] == documents.titles

    run_together(12, work)
    assert len(store._groups._kept) == 1


def test_decoding_waits_for_nobody():
    """A thread that decodes one group does not keep another from the next one."""
    second = threading.Event()
    table = pa.table({"n": [0, 1]})

    def read(group):
        if group == 0:
            assert second.wait(10)
        else:
            second.set()
        return table.slice(group, 1)

    groups = row_groups.RowGroups([0, 1, 2], table.schema, read)
    run_together(2, lambda row: groups.group_of(row))


def test_another_file_in_the_same_place_is_not_read(documents, tmp_path):
    """A loaded store goes on with its own file, which a save over it does not touch."""
    DocumentStore.from_documents(documents).save(tmp_path)
    store = DocumentStore.load(tmp_path)
    DocumentStore.from_documents(documents.take([5])).save(tmp_path)
    assert len(DocumentStore.load(tmp_path)) == 1
    assert store.to_documents() == documents
    store.save(tmp_path)
    assert DocumentStore.load(tmp_path).to_documents() == documents


def test_a_file_that_was_cut_is_an_error(documents, tmp_path):
    """Somebody who writes into the very file in use gets it told, not the process killed."""
    DocumentStore.from_documents(documents).save(tmp_path)
    store = DocumentStore.load(tmp_path)
    (tmp_path / "documents.parquet").open("wb").close()
    with pytest.raises(CheckpointError, match=r"documents\.parquet: rows of it cannot be read"):
        store[0]


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_a_copy_answers_the_same(store, documents, again, tmp_path):
    """Copied or pickled, also where the file is gone by the time it is read."""
    made = again(store)
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    assert made.to_documents() == documents and made.ids == store.ids
    assert made[1234] == store[1234] and made.row_of(documents.ids[7]) == 7


def test_a_pickled_store_is_as_large_as_its_documents(documents):
    """Each group is carried once, not with all others."""
    store = DocumentStore.from_documents(documents)
    texts = sum(len(text.encode()) for text in [*documents.texts, *documents.titles])
    assert len(pickle.dumps(store)) < 3 * texts


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
