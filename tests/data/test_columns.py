"""Which columns hold id, title and text: named ones have to be there, others are kept."""

from __future__ import annotations

import pytest

from hf_genret.data import Documents, load_data, load_documents
from hf_genret.documents import DocumentStore
from hf_genret.errors import ConfigError, DataError, DataWarning

BOTH = [True, False]
RECORDS = [{"id": f"d{n}", "text": f"short {n}", "body": f"long {n}"} for n in range(3)]


@pytest.mark.parametrize("streaming", BOTH)
def test_a_column_that_goes_by_a_stored_name_is_kept_under_another(tmp_path, write, streaming):
    """A store can be made of the documents, before anything is trained."""
    path = write(tmp_path / "docs.jsonl", RECORDS)
    read = {"corpus_field_map": {"text": "body"}, "streaming": streaming}
    with pytest.warns(DataWarning, match="3 values of the column 'text' are kept as 'text_2'"):
        documents = load_documents(path, **read)
    assert DocumentStore.from_documents(documents)[1] == {
        "id": "d1",
        "title": "",
        "text": "long 1",
        "text_2": "short 1",
    }
    with pytest.raises(DataError, match="because of strict reading"):
        load_documents(path, **read, strict=True)


@pytest.mark.parametrize("streaming", BOTH)
def test_ids_under_several_names(tmp_path, write, streaming):
    """The first accepted name is the id; another id is a column, the same one is not."""
    records = [{"_id": "a", "id": "a", "text": "x"}, {"_id": "b", "id": "other", "text": "y"}]
    path = write(tmp_path / "docs.jsonl", records)
    with pytest.warns(DataWarning, match="1 values of the column 'id' are kept as 'id_2'"):
        documents = load_documents(path, streaming=streaming)
    assert documents.ids == ["a", "b"]
    assert {name: list(column) for name, column in documents.extra.items()} == {
        "id_2": ["", "other"]
    }


def test_no_name_is_left(tmp_path, write):
    """Refused while reading, not after training."""
    path = write(tmp_path / "docs.jsonl", [{"id": "a", "text": "x", "text_2": "y", "body": "z"}])
    with pytest.raises(DataError, match="line 1, field 'text_2': expected no such column"):
        load_documents(path, corpus_field_map={"text": "body"})


def test_documents_refuse_an_extra_column_of_a_stored_name():
    with pytest.raises(DataError, match="an extra column cannot be called 'title'"):
        Documents(["a"], [""], ["x"], {"title": ["y"]})


@pytest.mark.parametrize("streaming", BOTH)
@pytest.mark.parametrize("field", ["id", "title", "text"])
def test_a_named_column_that_is_nowhere(tmp_path, write, field, streaming):
    """The error lists the columns that are there."""
    path = write(tmp_path / "docs.jsonl", RECORDS)
    with pytest.raises(DataError, match=r"field 'bdy': .*there are: id, text, body"):
        load_documents(path, corpus_field_map={field: "bdy"}, streaming=streaming)


def test_a_named_column_may_be_missing_here_and_there(tmp_path, write):
    path = write(tmp_path / "docs.jsonl", [{"id": 1, "title": "only"}, {"id": 2, "body": "long"}])
    documents = load_documents(path, corpus_field_map={"text": "body"}, strict=True)
    assert documents.texts == ["", "long"]


@pytest.mark.parametrize("name", ["body", "content", "contents", "description", "abstract"])
def test_titles_alone_are_noted_with_a_likely_text(tmp_path, write, name):
    records = [{"id": n, "title": f"t{n}", name: "a long text", "other": "x"} for n in range(3)]
    path = write(tmp_path / "docs.jsonl", records)
    with pytest.warns(DataWarning) as caught:
        notes = load_data(path).notes
    assert (
        [str(one.message) for one in caught]
        == notes
        == [
            "docs.jsonl: 3 documents and none with a text in the column 'text'; "
            f"'{name}' may hold it: --columns text={name}."
        ]
    )


def test_titles_alone_are_enough_of_items(shop, write):
    """Unless a text stands in another column."""
    items = [{"item_id": f"i{n}", "title": f"t{n}"} for n in range(6)]
    write(shop / "items.jsonl", items)
    load_data(shop, strict=True)
    write(shop / "items.jsonl", [{**item, "description": "x"} for item in items])
    with pytest.warns(DataWarning, match="6 documents and none with a text .*'description' may"):
        load_data(shop)


def test_neither_titles_nor_texts_is_an_error(tmp_path, write):
    path = write(tmp_path / "docs.jsonl", [{"id": n, "Body": "x", "content": "y"} for n in (1, 2)])
    message = "no document has either; 'content' may hold it: .*there are: id, Body, content"
    with pytest.raises(DataError, match=message):
        load_documents(path)


def test_built_in_data_has_no_columns_to_name():
    with pytest.raises(ConfigError, match="no columns"):
        load_data("stdlib:json", corpus_field_map={"text": "body"})


@pytest.mark.parametrize("name", ["items.jsonl", "documents.jsonl", "anything.jsonl"])
def test_item_id_is_an_id_everywhere(tmp_path, write, name):
    write(tmp_path / name, [{"item_id": 7, "title": "x", "text": "y"}])
    assert load_data(tmp_path, strict=True).documents.ids == ["7"]


def test_an_id_that_is_missing_names_what_is_there(tmp_path, write):
    path = write(tmp_path / "docs.jsonl", [{"name": "a", "text": "x"}])
    with pytest.raises(DataError, match=r"field '_id': expected an id, found none; .*name, text"):
        load_documents(path)


def test_several_objects_on_a_line(tmp_path, write):
    path = write(tmp_path / "docs.jsonl", ['{"id": 1, "text": "x"}{"id": 2, "text": "y"}'])
    with pytest.raises(DataError, match=r"found more behind it: '\{\"id\": 2"):
        load_documents(path)


def test_queries_whose_text_is_elsewhere(beir, write):
    """Not as if all of them were empty."""
    write(beir / "queries.jsonl", [{"_id": f"q{n}", "question": "x"} for n in (1, 2, 3)])
    with pytest.raises(DataError, match=r"queries with a text, found none; .*: _id, question"):
        load_data(beir)
