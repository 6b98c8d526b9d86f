"""What other engines get: the table of ids in three formats, and TREC runs."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest
import torch

from hf_genret import export
from hf_genret.cli.main import main
from hf_genret.data import Documents, load_queries
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.errors import ConfigError, DataError

NAMES = ["a,1", 'b "2"', "c é", *(f"d{n}" for n in range(9))]


@pytest.fixture(scope="module")
def retriever():
    """Twelve documents; the second has a second id, which the first document has too."""
    texts = [f"{animal} {n}" for n in range(4) for animal in ("fox", "owl", "hen")]
    made = tiny_retriever(Documents(NAMES, [""] * 12, texts))
    index = made.model.index
    first = int((index.rows == 0).nonzero()[0, 0])
    codes = torch.cat([index.paths.long(), index.paths[first : first + 1].long()])
    rows = torch.cat([index.rows.long(), torch.tensor([1])])
    index.build(codes, rows)
    return made


@pytest.fixture
def write():
    """Writes text, or records as jsonl, to a path."""

    def _write(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(record) + "\n" for record in content)
        path.write_text(content, encoding="utf-8")
        return path

    return _write


def expected_rows(retriever):
    """The table by hand: every path, in document order, buckets numbered by their sorted ids."""
    index = retriever.model.index
    paths = [tuple(path) for path in index.paths.tolist()]
    bucket = {path: number for number, path in enumerate(sorted(set(paths)))}
    pairs = sorted(zip(index.rows.tolist(), paths, strict=True))
    return [(NAMES[row], "-".join(map(str, path)), bucket[path]) for row, path in pairs]


@pytest.mark.parametrize("chunk", [5, 100])
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_id_table(retriever, tmp_path, monkeypatch, chunk, ending):
    """Every format holds every path, whatever stands in the ids; chunks make no difference."""
    monkeypatch.setattr(export, "CHUNK", chunk)
    path = tmp_path / f"ids.{ending}"
    assert export.export_ids(retriever, path) == 13
    if ending == "parquet":
        records = pq.read_table(path).to_pylist()
    elif ending == "csv":
        with path.open(newline="", encoding="utf-8") as file:
            records = list(csv.DictReader(file))
    else:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [(one["document"], one["docid"], int(one["bucket"])) for one in records]
    assert sorted(found) == sorted(expected_rows(retriever))
    assert [one[0] for one in found] == [one[0] for one in expected_rows(retriever)]


def test_another_ending_is_refused_and_nothing_is_written(retriever, tmp_path):
    """The sentence names the formats."""
    with pytest.raises(ConfigError, match=r"\.parquet, \.csv, \.jsonl"):
        export.export_ids(retriever, tmp_path / "ids.xlsx")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def plain():
    """Nine documents whose ids a TREC run can hold."""
    texts = [f"{animal} {n}" for n in range(3) for animal in ("fox", "owl", "hen")]
    return tiny_retriever(Documents(NAMES[3:], [""] * 9, texts))


def test_trec_run_is_what_search_finds(plain, tmp_path, write):
    """Six columns, ranks from 1, scores that do not rise; ranx reads it as the same run."""
    from ranx import Run

    write(tmp_path / "q.tsv", "7\tred fox\n8\towl 2\n")
    queries = load_queries(tmp_path / "q.tsv")
    path = tmp_path / "out.trec"
    assert export.export_run(plain, queries, path, k=4) == 8
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    assert {len(line) for line in lines} == {6} and {line[1] for line in lines} == {"Q0"}
    for identifier, text in zip(queries.ids, queries.texts, strict=True):
        own = [line for line in lines if line[0] == identifier]
        hits = plain.search(text, k=4)
        assert [line[2] for line in own] == [hit.id for hit in hits]
        assert [int(line[3]) for line in own] == [1, 2, 3, 4]
        assert [float(line[4]) for line in own] == pytest.approx([hit.score for hit in hits])
        read = Run.from_file(str(path), kind="trec").to_dict()[identifier]
        assert read == pytest.approx({hit.id: hit.score for hit in hits})


def test_ids_with_spaces_make_no_run(retriever, tmp_path, write):
    """The format has no way to write them; no file is left."""
    write(tmp_path / "q.jsonl", [{"_id": "1", "text": "fox"}])
    with pytest.raises(DataError, match="with spaces"):
        export.export_run(retriever, load_queries(tmp_path / "q.jsonl"), tmp_path / "o.trec", k=12)
    assert [path.name for path in tmp_path.iterdir()] == ["q.jsonl"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.tsv", "1 no tab\n", "line 1: expected an id, a tab"),
        ("q.tsv", "1\ta\n1\tb\n", "line 2, field '_id': expected unique ids"),
        ("q.jsonl", '{"_id": "1"}\n', "expected queries with a text, found none"),
        ("q.jsonl", "", "expected queries with a text, found none"),
    ],
)
def test_faults_of_a_query_file(tmp_path, write, name, text, message):
    """Each names its line."""
    with pytest.raises(DataError, match=message):
        load_queries(write(tmp_path / name, text))


def test_the_command(plain, tmp_path, write, capsys):
    """Table and run in one call, queries from a file or from a split of data."""
    plain.save_pretrained(tmp_path / "out")
    write(tmp_path / "q.jsonl", [{"_id": "1", "text": "fox"}])
    documents = [{"_id": one["id"], "text": one["text"]} for one in plain.documents]
    write(tmp_path / "data" / "corpus.jsonl", documents)
    write(tmp_path / "data" / "queries.jsonl", [{"_id": "x", "text": "owl"}])
    write(tmp_path / "data" / "qrels" / "dev.tsv", "x\td0\t1\n")
    out, ids, run = (str(tmp_path / name) for name in ("out", "ids.csv", "o.trec"))
    command = ["export", out, "--ids", ids, "--run", str(tmp_path / "q.jsonl"), run, "--k", "2"]
    assert main([*command, "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ids"]["rows"] == 9 and said["run"] == {"file": run, "queries": 1, "lines": 2}
    assert main(["export", out, "--run", str(tmp_path / "data"), run, "--split", "dev"]) == 0
    assert (tmp_path / "o.trec").read_text().startswith("x Q0 ")
    assert main(["export", out]) == 2 and "--ids FILE" in capsys.readouterr().err
