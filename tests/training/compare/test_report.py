"""What a comparison says: figures, tables, pages and pictures."""

from __future__ import annotations

import copy
import io
import json
import sys

import numpy as np
import pytest
from rich.console import Console

from hf_genret.data import Queries
from hf_genret.evaluation import Run
from hf_genret.training.compare.assemble import smallest_pool
from hf_genret.training.compare.markdown import markdown
from hf_genret.training.compare.plots import size_bins, styles, write_plots
from hf_genret.training.compare.summary import averaged, equal_pool, first_documents, spread
from hf_genret.training.compare.tables import SECTIONS, quality_table, section
from hf_genret.training.compare.write import write_report


def test_every_part_of_a_report_is_there(compared):
    """Metrics with seeds and intervals, groups, pools, ids, costs, tests, runs."""
    _, report = compared
    entry = report["systems"]["fixed:random@3x3"]
    assert {"mean", "low", "high", "seeds", "spread"} == set(entry["metrics"]["ndcg@10"])
    assert {"seen", "unseen", "mixed", "frequency", "frequency5"} <= set(entry)
    assert entry["ids"]["codebook_sizes"] == [3, 3] and entry["ids"]["ape"]["leaf"]["ape"] >= 0
    assert [level["even"] for level in entry["ids"]["query_loss"]] == [np.log(3)] * 2
    assert entry["expectation"]["recall@10"]["mean"] >= 0 and "bucket_recall@10" in entry["bucket"]
    costs = entry["costs"]
    assert costs["weight_bytes"] > 0 and costs["vector_bytes"] == 80 * 16 * 4
    assert costs["latency_ms"] > 0 and costs["latency_alone_ms"] > 0
    assert costs["training_seconds"] > 0
    test = entry["against_baseline"]["ndcg@10"]
    base = report["systems"]["fixed:kmeans"]["metrics"]["ndcg@10"]["mean"]
    assert test["ratio"] == pytest.approx(entry["metrics"]["ndcg@10"]["mean"] / base)
    assert 0 < test["p_single"] <= test["p"] <= 1
    assert set(report["runs"]["fixed:kmeans"]) == {"0", "1"} and set(report["runs"]["bm25"]) == {
        "0"
    }


def test_pools_are_equal(compared):
    """All systems are measured at the smallest mean pool of those with ids."""
    _, report = compared
    pool = report["equal_pool"]["documents"]
    ranked = [entry["documents_ranked"] for entry in report["systems"].values() if "ids" in entry]
    assert pool == int(min(ranked))
    for entry in report["systems"].values():
        assert entry["equal_pool"]["documents"] <= pool


def test_the_smallest_pool_is_of_systems_with_ids():
    """Others rank everything, or nothing has ids."""
    facts = {
        "a": {0: {"documents_ranked": 9.0, "ids": {}}, 1: {"documents_ranked": 4.0, "ids": {}}}
    }
    facts |= {"b": {0: {"documents_ranked": 2.0}}}
    assert smallest_pool(facts, ["a", "b"]) == 6
    assert smallest_pool(facts, ["b"]) is None


def test_first_documents_of_a_ranking():
    """A system without leaves is cut in its ranking: two of three relevant ones are in four."""
    run = Run("x", [np.array([5, 1, 2, 3, 4])])
    queries = Queries(["q"], [{1: 1.0, 3: 1.0, 4: 1.0}])
    values = first_documents(run, queries, [2, 4])[4]
    assert values["candidate_recall"][0] == pytest.approx(2 / 3) and values["documents"][0] == 4
    gained = 1 / np.log2(3) + 1 / np.log2(5)
    ideal = sum(1 / np.log2(rank + 1) for rank in (1, 2, 3))
    assert values["ndcg@10"][0] == pytest.approx(gained / ideal)
    assert equal_pool([run, run], queries, 4)["candidate_recall"]["mean"] == pytest.approx(2 / 3)


def test_trees_are_averaged():
    """Numbers are, equal things stay, the rest is the first's."""
    trees = [
        {"a": 1, "b": [1.0, 3.0], "c": "x", "d": 4},
        {"a": 2, "b": [3.0, 5.0], "c": "y", "d": 4},
    ]
    assert averaged(trees) == {"a": 1.5, "b": [2.0, 4.0], "c": "x", "d": 4}


def test_spread_of_seeds():
    """None of one, ends of two, a deviation from three on."""
    assert spread([0.5]) is None and spread([0.5, 0.4]) == {"min": 0.4, "max": 0.5}
    assert spread([1.0, 2.0, 3.0])["std"] == pytest.approx(1.0)


@pytest.mark.parametrize("title", list(SECTIONS))
def test_tables_have_a_row_a_system(compared, title):
    """As many cells as headings, systems without ids missing where ids are told of."""
    _, report = compared
    headings, rows = section(report, title)
    assert all(len(row) == len(headings) for row in rows)
    names = [row[0] for row in rows]
    expected = [n for n, facts in report["systems"].items() if title != "Ids" or "ids" in facts]
    assert names == expected + list(report["only_ids"]) * (title == "Ids")


def test_the_page(compared):
    """It says what was measured, by which command, and shows no folder of this machine."""
    folder, _ = compared
    page = (folder / "report.md").read_text()
    assert page == markdown(json.loads((folder / "report.json").read_text()))
    assert "`hf-genret compare DATA --systems fixed:kmeans,fixed:random@3x3," in page
    for title in (*SECTIONS, "Trained by"):
        assert f"## {title}" in page
    assert "index_from=NAME: trained on the ids of NAME's checkpoint" in page
    assert "against fixed:kmeans" in page and "start_from=START" in page
    whole = page + (folder / "report.json").read_text()
    assert str(folder) not in whole and str(folder.parent) not in whole


def test_the_page_lists_what_failed(compared):
    """And warnings, each once."""
    _, report = compared
    report = copy.deepcopy(report)
    report["failed"] = [{"system": "uri", "seed": 1, "error": "no luck"}]
    report["systems"]["dense"]["warnings"] = 2 * [{"message": "too few codes"}]
    page = markdown(report)
    assert "- uri, seed 1: no luck" in page and page.count("too few codes") == 1


def test_the_terminal_shows_the_first_table(compared):
    """One row a system under one title."""
    _, report = compared
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(quality_table(report))
    shown = console.export_text()
    assert "80 documents, 2 seeds" in shown
    assert all(name in shown for name in report["systems"])


def test_pictures(compared, tmp_path):
    """PNG and SVG that are not empty, the same twice; sizes where a system has several."""
    folder, report = compared
    names = {path.name for path in (folder / "plots").iterdir()}
    drawn = ("documents_ranked", "bucket_sizes", "code_use")
    assert names == {f"{name}.{ending}" for name in drawn for ending in ("png", "svg")}
    more = copy.deepcopy(report)
    more["systems"]["fixed:kmeans@3x3"] = more["systems"].pop("fixed:random@3x3")
    written = write_plots(more, tmp_path)
    assert {path.name for path in written} == names | {"codebook_sizes.png", "codebook_sizes.svg"}
    assert all(path.stat().st_size > 5000 for path in written)
    again = {path.name: path.read_bytes() for path in write_plots(more, tmp_path / "again")}
    assert all(path.read_bytes() == again[path.name] for path in written)


def test_nothing_to_draw(compared, tmp_path):
    """Without ids there is no picture."""
    _, report = compared
    only = {**report, "systems": {"bm25": report["systems"]["bm25"]}}
    assert write_plots(only, tmp_path) == []


def test_looks_differ(compared):
    """No two systems share colour, line and mark; sizes of one system share the colour."""
    _, report = compared
    entry = report["systems"]["fixed:kmeans"]
    names = [f"s{n}" for n in range(20)] + ["s0@2x2", "s0@3x3"]
    found = styles({"systems": dict.fromkeys(names, entry)})
    looks = {(str(f["color"]), str(f["linestyle"]), f["marker"]) for f in found.values()}
    assert len(looks) == len(names)
    assert found["s0"]["color"] == found["s0@3x3"]["color"]


def test_bins_of_bucket_sizes():
    """One size each where they are few, doubling where they are many."""
    assert size_bins(3) == [(1, 1), (2, 2), (3, 3)]
    assert size_bins(20) == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32)]


def test_without_matplotlib_there_is_a_report(compared, tmp_path, monkeypatch, caplog):
    """Its absence is said, JSON and Markdown are written."""
    _, report = compared
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report(report, tmp_path)
    assert "matplotlib" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md"}
