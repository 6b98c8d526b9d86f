"""Values beside title and text keep their types, by whichever way a document goes."""

from __future__ import annotations

import datetime
import decimal
import math
import pickle

import numpy as np
import pytest

from hf_genret.data import load_documents, streaming
from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.documents import DocumentStore, as_documents
from hf_genret.errors import DataError, DataWarning

LACKS = object()  # a record without the column


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    """Groups of two, so that a streamed column changes its kind between groups and within one."""
    monkeypatch.setattr(streaming, "GROUP", 2)


def records(values):
    """One record a value, with or without a column of it."""
    held = [{} if value is LACKS else {"x": value} for value in values]
    return [{"_id": f"d{n}", "text": "some text", **one} for n, one in enumerate(held)]


CASES = [
    pytest.param([4.5, 5.0, LACKS, None], [4.5, 5.0, None, None], "double", id="numbers"),
    pytest.param([1, -(2**63), LACKS], [1, -(2**63), None], "int64", id="whole numbers"),
    pytest.param([LACKS, LACKS, LACKS, 3], [None, None, None, 3], "int64", id="late"),
    pytest.param([True, False, LACKS], [True, False, None], "bool", id="truth values"),
    pytest.param(["a", LACKS, None, " b "], ["a", "", "", "b"], "large_string", id="texts"),
    pytest.param([["a", "b"], [], "c"], ["a > b", "", "c"], "large_string", id="lists of texts"),
    pytest.param([[], [], "c", LACKS], ["", "", "c", ""], "large_string", id="empty, then text"),
    pytest.param([[1, 2], [], LACKS], [[1, 2], [], None], "json", id="lists of numbers"),
    pytest.param([{"a": {"b": [1.5, None]}}, {}], [{"a": {"b": [1.5, None]}}, {}], "json", id="{}"),
    pytest.param([4, 4.5, LACKS], [4, 4.5, None], "json", id="both kinds of numbers"),
    pytest.param([1, 2, True, 0], [1, 2, True, 0], "json", id="truth among numbers"),
    pytest.param([2**63, 1, LACKS], [2**63, 1, None], "json", id="beyond 64 bits"),
    pytest.param(["a", LACKS, 3, "b", []], ["a", None, 3, "b", []], "json", id="text, then number"),
    pytest.param([1, 2, "1", 4.0], [1, 2, "1", 4.0], "json", id="number, then text"),
    pytest.param([None, None, LACKS], [None, None, None], "json", id="null alone"),
    pytest.param([["a"], ["a", 1], LACKS], ["a", ["a", 1], None], "json", id="mixed lists"),
    pytest.param([math.inf, 1.5], [math.inf, 1.5], "double", id="no end"),
    pytest.param([math.inf, [math.inf]], [math.inf, [math.inf]], "json", id="no end in a list"),
]


@pytest.mark.parametrize(("values", "expected", "kind"), CASES)
def test_types_stay(tmp_path, write, values, expected, kind):
    """In memory, streamed, from Python, saved and loaded, pickled: the same values and types."""
    path = write(tmp_path / "docs.jsonl", records(values))
    held, streamed = load_documents(path), load_documents(path, streaming=True)
    stores = [DocumentStore.from_documents(one) for one in (held, streamed)]
    for number, store in enumerate(list(stores)):
        (tmp_path / str(number)).mkdir()
        store.save(tmp_path / str(number))
        stores += [DocumentStore.load(tmp_path / str(number)), pickle.loads(pickle.dumps(store))]
    ways = [held.extra["x"], list(streamed.extra["x"]), as_documents(records(values)).extra["x"]]
    ways += [pickle.loads(pickle.dumps(streamed)).extra["x"][:]]
    ways += [[document["x"] for document in store] for store in stores]
    ways += [[store[row]["x"] for row in range(len(store))] for store in stores]
    ways += [store.to_documents().extra["x"] for store in stores]
    for found in ways:
        assert found == expected and list(map(type, found)) == list(map(type, expected))
    for store in stores:
        field = store._groups.schema.field("x")
        assert (field.metadata or {}).get(b"genret", str(field.type).encode()) == kind.encode()


def test_not_a_number_stays(tmp_path, write):
    """NaN is a number as JSON files of Python have it: not null, and smaller than nothing."""
    path = write(tmp_path / "docs.jsonl", records([math.nan, 1.0]))
    for documents in (load_documents(path), load_documents(path, streaming=True)):
        store = DocumentStore.from_documents(documents)
        assert math.isnan(store[0]["x"]) and store[1]["x"] == 1.0


def test_values_of_other_libraries():
    """What has an obvious form in JSON gets it."""
    values = {
        "a": np.float32(4.5),
        "b": np.int64(3),
        "c": np.bool_(True),
        "d": np.array([1, 2]),
        "e": (1, 2),
        "f": datetime.date(2024, 5, 6),
        "g": decimal.Decimal("4.5"),
        "h": np.str_("word"),
    }
    documents = as_documents([{"id": "d", "text": "x", **values}])
    expected = [4.5, 3, True, [1, 2], [1, 2], "2024-05-06", 4.5, "word"]
    found = [documents.extra[name][0] for name in values]
    assert found == expected and list(map(type, found)) == list(map(type, expected))
    given = Documents(["d"], [""], ["x"], {name: [value] for name, value in values.items()})
    assert list(DocumentStore.from_documents(given)[0].values())[3:] == expected


def nested(depth):
    """A list in a list in a list."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [b"raw", {1, 2}, [object()], {(1, 2): 3}, nested(100_000)])
def test_what_cannot_be_kept_is_said(value):
    """It is left out of the document, with a warning that names column and kind."""
    given = [{"id": "a", "text": "x", "bad": value, "n": 1}, {"id": "b", "text": "y", "bad": value}]
    with pytest.warns(DataWarning, match=r"2 values .* left out.*'bad', line 1"):
        assert as_documents(given).extra == {"n": [1, None]}
    with pytest.raises(DataError, match=r"'bad'.*expected values that JSON can hold"):
        DocumentStore.from_documents(Documents(["d"], [""], ["x"], {"bad": [value]}))


def test_half_a_character_in_an_object_is_an_error(tmp_path, write):
    """As in a text, with line and field."""
    path = write(tmp_path / "docs.jsonl", ['{"_id": "d", "text": "x", "more": {"a": ["\\ud800"]}}'])
    with pytest.raises(DataError, match=r"line 1, field 'more'.*surrogate"):
        load_documents(path)


def test_filters_and_hits_have_values():
    """A price can be compared, a truth value asked, and a hit says what the record said."""
    given = [
        {"id": "a", "text": "red owl", "price": 4.5, "sold": True, "size": {"cm": 3}},
        {"id": "b", "text": "red fox", "price": 9.0, "sold": False, "size": {"cm": 4}},
    ]
    retriever = tiny_retriever(as_documents(given))
    (hit,) = retriever.search("red", k=2, only=lambda document: document["price"] < 5)
    assert hit.document == {**given[0], "title": ""}
    (hit,) = retriever.search("red", k=2, only=lambda document: not document["sold"])
    assert hit.id == "b" and hit.document["size"]["cm"] == 4
    retriever.index(given[::-1])
    assert retriever.documents[0]["price"] == 9.0


def test_stores_of_texts_alone_still_load(tmp_path):
    """What an older version wrote: texts everywhere, nothing said beside the columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id": ["a", "b"], "title": ["", "t"], "text": ["x", "y"], "year": ["1999", "{}"]}
    table = pa.table({name: pa.array(one, pa.large_string()) for name, one in columns.items()})
    pq.write_table(table, tmp_path / "documents.parquet")
    store = DocumentStore.load(tmp_path)
    assert store.to_documents().extra == {"year": ["1999", "{}"]} and store[1]["year"] == "{}"
