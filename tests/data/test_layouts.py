"""Jsonl, saved datasets, the Hub, and what is none of the layouts."""

from __future__ import annotations

import pytest

from hf_genret.data import load_data, load_documents, saved_datasets
from hf_genret.errors import ConfigError, DataError

DOCUMENTS = [{"id": f"d{n}", "title": f"Title {n}", "text": f"Text {n}"} for n in range(4)]
QUERIES = [
    {"id": "a", "text": "one", "relevant": ["d1"], "split": "train"},
    {"text": "two", "relevant": ["d2", "d3"], "split": "validation"},
    {"text": "three", "relevant": ["d0"], "split": "train", "history": ["d3", "d2", "d1"]},
]


@pytest.mark.parametrize("name", ["documents.jsonl", "documents.jsonl.gz", "anything.jsonl"])
def test_jsonl_folder(tmp_path, write, name):
    """A folder with documents.jsonl or one jsonl file is a corpus without splits."""
    write(tmp_path / name, DOCUMENTS)
    data = load_data(tmp_path, name="mine")
    assert data.name == "mine" and data.documents.ids == ["d0", "d1", "d2", "d3"]
    assert data.splits == {}
    with pytest.raises(DataError, match="mine has no 'test' queries"):
        data.split("test")


def test_jsonl_file(tmp_path, write):
    """A single file gives documents; its name loses the endings."""
    path = write(tmp_path / "docs.jsonl.gz", DOCUMENTS)
    assert load_documents(path).titles[3] == "Title 3"
    assert load_data(path).name == "docs"


def test_jsonl_queries(tmp_path, write):
    """Queries carry judgments, split, and perhaps a history of documents."""
    write(tmp_path / "documents.jsonl", DOCUMENTS)
    write(tmp_path / "queries.jsonl", QUERIES)
    data = load_data(tmp_path, max_history=2)
    train, dev = data.split("train"), data.split("dev")
    assert train.ids == ["a", "3"] and train.texts == ["one", "three"]
    assert [history.tolist() for history in train.histories] == [[], [2, 1]]
    assert dev.relevant == [{2: 1.0, 3: 1.0}] and dev.histories is None


JSONL_FAULTS = {
    "split": ({"text": "x", "relevant": ["d1"], "split": "eval"}, "split", "'eval'"),
    "no split": ({"text": "x", "relevant": ["d1"]}, "split", "None"),
    "no list": ({"text": "x", "relevant": "d1", "split": "dev"}, "relevant", "found a string"),
}


@pytest.mark.parametrize("case", JSONL_FAULTS, ids=str)
def test_jsonl_query_faults(tmp_path, write, case):
    """Each fault of a query names line and field."""
    record, field, message = JSONL_FAULTS[case]
    write(tmp_path / "documents.jsonl", DOCUMENTS)
    write(tmp_path / "queries.jsonl", [QUERIES[0], record])
    with pytest.raises(DataError, match=message) as caught:
        load_data(tmp_path)
    assert (caught.value.line, caught.value.field) == (2, field)


def test_jsonl_queries_empty(tmp_path, write):
    """A queries file without a line is an error, not data without splits."""
    write(tmp_path / "documents.jsonl", DOCUMENTS)
    write(tmp_path / "queries.jsonl", "")
    with pytest.raises(DataError, match="expected queries with relevant documents, found none"):
        load_data(tmp_path)


def test_missing_path(tmp_path):
    """A path that is not there is named."""
    with pytest.raises(DataError, match=r"nowhere: .*found nothing there"):
        load_data(tmp_path / "nowhere")


def test_none_of_the_layouts(tmp_path, write):
    """The error lists what was looked for, for folders and files."""
    write(tmp_path / "readme.txt", "hello")
    for source in (tmp_path, tmp_path / "readme.txt"):
        with pytest.raises(DataError) as caught:
            load_data(source)
        for looked_for in ("corpus.jsonl", "sequences.tsv", "save_to_disk", "documents.jsonl"):
            assert looked_for in str(caught.value)


def test_max_history_below_one(tmp_path):
    """A history of no item cannot be asked for."""
    with pytest.raises(ConfigError, match="max_history"):
        load_data(tmp_path, max_history=0)


def saved_parts():
    datasets = pytest.importorskip("datasets")
    qrels = [{"query-id": "q", "corpus-id": "d1", "score": 1}]
    return datasets.DatasetDict(
        corpus=datasets.Dataset.from_list(DOCUMENTS),
        queries=datasets.Dataset.from_list([{"id": "q", "text": "one"}]),
        qrels_train=datasets.Dataset.from_list(qrels),
        qrels_validation=datasets.Dataset.from_list(qrels),
    )


def test_saved_dataset(tmp_path):
    """A saved Dataset, or a DatasetDict of one split, is a corpus."""
    parts = saved_parts()
    parts["corpus"].save_to_disk(tmp_path / "one")
    type(parts)(train=parts["corpus"]).save_to_disk(tmp_path / "dict")
    one, other = load_data(tmp_path / "one"), load_data(tmp_path / "dict")
    assert one.documents.ids == other.documents.ids == ["d0", "d1", "d2", "d3"]
    assert one.splits == {} and one.fingerprint == other.fingerprint


def test_saved_dataset_dict(tmp_path):
    """Corpus, queries and judgments are parts of one saved folder."""
    saved_parts().save_to_disk(tmp_path / "full")
    data = load_data(tmp_path / "full")
    assert set(data.splits) == {"train", "dev"}
    assert data.split("dev").relevant == [{1: 1.0}] and data.split("dev").texts == ["one"]


def test_saved_dataset_faults(tmp_path):
    """Parts that are missing, rows that are wrong and folders that are damaged are named."""
    parts = saved_parts()
    kinds = type(parts["corpus"]), type(parts)
    double = kinds[0].from_list([DOCUMENTS[0], DOCUMENTS[0]])
    double.save_to_disk(tmp_path / "double")
    with pytest.raises(DataError, match=r"double\[corpus\], line 2, field '_id'"):
        load_data(tmp_path / "double")
    for part, message in (("corpus", "part named 'corpus'"), ("queries", "part named 'queries'")):
        kinds[1]({k: v for k, v in parts.items() if k != part}).save_to_disk(tmp_path / part)
        with pytest.raises(DataError, match=message):
            load_data(tmp_path / part)
    (tmp_path / "double" / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        load_data(tmp_path / "double")


def test_hub_failure_is_one_sentence():
    """Without network a name of the Hub ends in a DataError that says both."""
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match="no local path and cannot be loaded") as caught:
        load_data("nobody/nothing-of-this-name")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["a/b/c", "name", "/abs/path", "../up", "./a"])
def test_what_is_no_hub_name(source):
    """Only user/name is asked of the Hub."""
    assert not saved_datasets.is_hub_name(source)


def test_mistyped_local_path_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    """Where the folder before the slash exists, a wrong name after it is a missing path."""
    (tmp_path / "sets").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"sets/toy: .*found nothing there"):
        load_data("sets/toy")
