"""Data and metrics read from repositories of the Hub, by the real clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_genret.evaluation import metric_folder

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}"} for n in range(5)]
QUERIES = [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two"}]
QRELS = [
    {"query-id": "q1", "corpus-id": "d1", "score": 1},
    {"query-id": "q2", "corpus-id": "d2", "score": 2},
]
TSV = b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\n"
READ = """
import json, sys
import datasets
datasets.disable_progress_bars()
from hf_genret.data import load_data
from hf_genret.errors import DataError
for name in sys.argv[1:]:
    try:
        data = load_data(name, streaming=STREAMING, corpus_field_map=COLUMNS)
    except DataError as error:
        print(json.dumps({"error": str(error)}))
        continue
    splits = {key: [q.ids, q.texts, q.relevant] for key, q in data.splits.items()}
    texts = [data.documents.ids, list(data.documents.titles), list(data.documents.texts)]
    kind = type(data.documents).__name__
    print(json.dumps({"kind": kind, "texts": texts, "splits": splits, "sum": data.fingerprint}))
"""
TEXTS = [[one[name] for one in DOCUMENTS] for name in ("_id", "title", "text")]
JUDGED = [["q1", "q2"], ["one", "two"], [{"1": 1.0}, {"2": 2.0}]]


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def front_matter(**configs):
    """A data set's README: configuration -> {split: file}."""
    found = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": path} for split, path in files.items()],
        }
        for name, files in configs.items()
    ]
    return f"---\nconfigs: {json.dumps(found)}\n---\n".encode()


def repositories():
    parts = {"corpus": {"corpus": "corpus.jsonl"}, "queries": {"queries": "queries.jsonl"}}
    files = {"corpus.jsonl": lines(DOCUMENTS), "queries.jsonl": lines(QUERIES)}
    qrels = {"train": "qrels/train.jsonl", "test": "qrels/test.jsonl"}
    judged = {path: lines(QRELS) for path in qrels.values()}
    sets = {
        f"{language}-{part}": {"test": f"{language}/{part}.jsonl"}
        for language in ("de", "en")
        for part in ("corpus", "queries", "qrels")
    }
    content = {"corpus": lines(DOCUMENTS), "queries": lines(QUERIES), "qrels": lines(QRELS)}
    named = {
        path: content[name.split("-")[1]] for name, one in sets.items() for path in one.values()
    }
    other = [{"nr": n, "body": f"text {n}"} for n in range(3)]
    return {
        "datasets/BeIR/toy": {"README.md": front_matter(**parts), **files},
        "datasets/BeIR/toy-qrels": {"README.md": b"# qrels\n", "test.tsv": TSV, "dev.tsv": TSV},
        "datasets/mteb/toy": {"README.md": front_matter(**parts, default=qrels), **files, **judged},
        "datasets/mteb/qrels": {"README.md": front_matter(**parts, qrels=qrels), **files, **judged},
        "datasets/mteb/languages": {"README.md": front_matter(**sets), **named},
        "datasets/me/plain": {"README.md": b"# plain\n", "train.jsonl": lines(other)},
        "spaces/me/genret_recall": {
            path.name: path.read_bytes()
            for path in metric_folder("genret_recall").iterdir()
            if path.is_file()
        },
    }


@pytest.fixture(scope="module")
def data_hub():
    """A running Hub with these repositories."""
    from fake_datasets import FakeDatasets

    with FakeDatasets(repositories()) as server:
        yield server


@pytest.fixture(scope="module")
def client(data_hub, tmp_path_factory):
    """Runs Python source in a fresh process that knows this Hub alone, and gives its lines."""
    folder = tmp_path_factory.mktemp("client")
    environment = {
        **os.environ,
        "HF_ENDPOINT": data_hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }

    def run(source, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", source, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            env=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    return run


@pytest.fixture(scope="module")
def read(client):
    """Loads data sets by name and gives what was in them."""

    def run(*names, streaming=False, columns=None):
        start = f"STREAMING, COLUMNS = {streaming!r}, {columns!r}\n"
        found = client(start + READ, *names)
        assert len(found) == len(names)
        return found

    return run


def test_beir_and_mteb_names(read):
    """Judgments in a repository beside it, in `default`, in `qrels`; one set of several."""
    names = "BeIR/toy", "mteb/toy", "mteb/qrels", "mteb/languages:de"
    found = read(*names)
    splits = {"test", "dev"}, {"train", "test"}, {"train", "test"}, {"test"}
    for one, expected in zip(found, splits, strict=True):
        assert one["texts"] == TEXTS and one["kind"] == "Documents"
        assert one["splits"] == dict.fromkeys(expected, JUDGED)


def test_streaming_reads_the_same_and_keeps_no_copy(read, data_hub):
    """The corpus comes over the network again, queries and judgments from the cache."""
    (held,) = read("mteb/toy")
    data_hub.asked.clear()
    (streamed,) = read("mteb/toy", streaming=True)
    assert streamed["kind"] == "StreamedDocuments"
    assert {**streamed, "kind": ""} == {**held, "kind": ""}
    fetched = [path for method, path, _ in data_hub.asked if method == "GET" and "resolve" in path]
    assert [path for path in fetched if path.endswith("corpus.jsonl")]
    assert not [path for path in fetched if "queries" in path or "qrels" in path]


def test_faults_and_columns(read):
    """Several sets want a name, an unknown one is told, columns are mapped, missing is an error."""
    several, unknown, missing = read("mteb/languages", "mteb/languages:fr", "me/missing")
    for one in (several, unknown):
        assert "mteb/languages:de, mteb/languages:en" in one["error"]
    assert "me/missing" in missing["error"] and "cannot be loaded" in missing["error"]
    (plain,) = read("me/plain", columns={"id": "nr", "text": "body"})
    assert plain["texts"][2] == ["text 0", "text 1", "text 2"] and plain["splits"] == {}


def test_a_metric_that_was_uploaded_loads_by_name(client):
    """`evaluate.load` finds the Space and computes."""
    source = (
        "import evaluate, json\n"
        "metric = evaluate.load('me/genret_recall')\n"
        "print(json.dumps(metric.compute(predictions=[['b', 'a']], references=[['a']], k=2)))\n"
    )
    assert client(source) == [{"recall@2": 1.0}]
