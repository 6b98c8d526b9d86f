from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from rich.console import Console

import hf_genret
from hf_genret.evaluation import (
    Run,
    evaluate_run,
    markdown_table,
    scrub_command,
    table,
    versions,
    write_report,
)
from hf_genret.evaluation.report import report

report_module = sys.modules["hf_genret.evaluation.report"]


@pytest.fixture
def whole(shop):
    """A report of two systems on the test split."""
    queries = shop.split("test")
    runs = {
        "bm25": Run("bm25", [np.array([4]), np.array([4]), np.array([1])], notes=["stemmed"]),
        "generative": Run(
            "generative",
            [np.array([3]), np.array([4]), np.array([1])],
            pools=[np.array([3, 4])] * 3,
            latency_ms=1.25,
            bytes=2_500_000,
        ),
        "mine": Run("mine", [np.array([], dtype=int)] * 3),
    }
    systems = {
        name: evaluate_run(run, queries, num_documents=5, seen_rows=shop.seen_rows)
        for name, run in runs.items()
    }
    return report(shop, "test", "hf-genret evaluate DATA", 7, 1.23456, systems, {"index": {"n": 1}})


def test_the_shape_of_a_report(whole):
    """Every part has its name and place; extra parts stand beside them."""
    parts = ["data", "split", "command", "versions", "seed", "seconds", "systems", "index"]
    assert list(whole) == parts
    assert whole["data"] == {
        "name": "shop",
        "fingerprint": "0" * 16,
        "documents": 5,
        "queries": 3,
        "notes": ["leave-one-out"],
    }
    system = whole["systems"]["generative"]
    assert set(system["metrics"]["ndcg@10"]) == {"mean", "low", "high"}
    assert (system["documents_ranked"], system["latency_ms"], system["bytes"]) == (2, 1.25, 2500000)
    assert (whole["seed"], whole["seconds"], whole["index"]) == (7, 1.235, {"n": 1})


def test_extra_parts_replace_nothing(shop):
    """A name that every report has is refused."""
    with pytest.raises(ValueError, match="seed"):
        report(shop, "test", "", 0, 0.0, {}, {"seed": 1})


def test_versions_name_package_and_interpreter():
    """What the figures depend on."""
    found = versions()
    assert found["hf_genret"] == hf_genret.__version__
    assert {"python", "torch", "transformers", "numpy"} <= found.keys()


def test_versions_leave_out_what_is_not_installed(monkeypatch):
    """An optional package that is missing has no version, and nothing fails."""
    monkeypatch.setattr(report_module, "PACKAGES", ("torch", "no-such-package"))
    assert set(versions()) == {"hf_genret", "python", "torch"}


def test_a_report_is_written_and_read_back(whole, tmp_path):
    """The file is JSON without NaN and holds the same report."""
    path = tmp_path / "new" / "report.json"
    write_report(whole, path)
    assert json.loads(path.read_text(encoding="utf-8")) == whole


def test_what_json_does_not_know_becomes_plain(tmp_path):
    """NaN is null; numpy values and tuples are numbers and lists."""
    path = tmp_path / "x.json"
    write_report(
        {"a": np.float32("nan"), "b": (np.int64(3), np.arange(2)), 4: np.bool_(True)}, path
    )
    assert json.loads(path.read_text()) == {"a": None, "b": [3, [0, 1]], "4": True}


def test_a_dash_is_standard_output(whole, capsys):
    """The output is the JSON alone."""
    write_report(whole, "-")
    assert json.loads(capsys.readouterr().out) == whole


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    """A value that JSON refuses does not touch the file."""
    path = tmp_path / "x.json"
    write_report({"a": 1}, path)
    with pytest.raises(TypeError):
        write_report({"a": object()}, path)
    assert json.loads(path.read_text()) == {"a": 1}


def test_tables_have_one_row_a_system_in_a_fixed_order(whole):
    """Known systems come first, in the same order everywhere."""
    lines = markdown_table(whole).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["generative", "bm25", "mine"]
    assert "| 1.000 [1.000, 1.000] | 1.000 |" in lines[2]
    assert lines[2].endswith("| .667 | 2 | 1.25 | 2.5 |")
    assert lines[4].endswith("| - | - |")


def test_the_table_fits_a_terminal(whole):
    """Nothing is cut off at 80 columns, and notes stand below."""
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(whole))
    text = console.export_text()
    assert "…" not in text
    assert "shop (0000000000000000), test: 3 queries, 5 documents, seed 7" in text
    assert "bm25: stemmed" in text
    assert "leave-one-out" in text


def test_names_are_no_markup(whole):
    """Brackets in names and notes are printed, not read as styles."""
    whole["data"]["name"], whole["data"]["notes"] = "[bold]x[/bold]", ["see [/red]"]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table({**whole, "systems": {"[i]mine": {}}}))
    text = console.export_text()
    assert all(part in text for part in ("[bold]x[/bold]", "see [/red]", "[i]mine"))


def test_a_system_without_figures_is_a_row_of_dashes(whole):
    """Missing parts never break a table."""
    line = markdown_table({**whole, "systems": {"rq": {}}}).splitlines()[2]
    assert line == "| rq |" + " - |" * 8


def test_commands_name_no_path_of_this_machine(tmp_path):
    """Known paths have their placeholder, other paths are PATH, the rest stays."""
    argv = [
        "/opt/bin/hf-genret",
        "train",
        f"{tmp_path}/scifact/",
        "--set",
        f"encoder={tmp_path}/mini",
        "--set",
        "lr=1e-3",
        "--output",
        "runs/out",
        "--json",
        "-",
        "../elsewhere",
        f"{tmp_path}/scifact/corpus.jsonl",
        "two words",
    ]
    command = scrub_command(
        argv, {f"{tmp_path}/scifact": "DATA", f"{tmp_path}/mini/": "ENCODER", "./runs/out": "OUT"}
    )
    assert command == (
        "hf-genret train DATA --set encoder=ENCODER --set lr=1e-3 --output OUT --json - PATH "
        "DATA/corpus.jsonl 'two words'"
    )


def test_a_longer_name_is_not_a_known_path():
    """`data2` does not begin with the folder `data`; no arguments are no command."""
    assert scrub_command(["x", "data2", "data"], {"data": "DATA"}) == "x data2 DATA"
    assert scrub_command([], {}) == ""
