"""Presets: what they hold, which systems they stand for, and a comparison of one."""

from __future__ import annotations

import json

import pytest

from hf_genret.errors import ConfigError
from hf_genret.training.compare import markdown, presets
from hf_genret.training.compare.layouts import LAYOUTS
from hf_genret.training.compare.plan import Plan, needed_systems
from hf_genret.training.compare.presets import list_presets, load_preset, parse_presets
from hf_genret.training.compare.selection import Selection

SWAP = """
description: A swap.
note: And a note.
layout: index_swap
systems: [fixed, "fixed:index_from=fixed:random", "fixed:atomic", dense]
settings: [search.beams=3]
baseline: fixed
"""
ABLATION = """
description: An ablation.
layout: ablation
systems: [fixed, "fixed:random", "fixed:rq"]
against: {"fixed:random": fixed, "fixed:rq": fixed}
left_out: {text: {"fixed:rq": it is slow.}}
"""
SCATTER = """
description: A scatter.
layout: scatter
systems: ["ids:random", "ids:kmeans", fixed]
scales: [0.5, 1, 2]
"""


@pytest.fixture
def tiny_presets(tmp_path, monkeypatch):
    """Three presets of systems that are quick to train."""
    folder = tmp_path / "presets"
    folder.mkdir()
    for name, text in (("swap", SWAP), ("ablation", ABLATION), ("scatter", SCATTER)):
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(presets, "FOLDER", folder)


def selected(preset, systems="", sizes="", task="text", settings=()):
    """A selection and the names of its systems for 72 documents."""
    chosen = Selection.of(systems, preset, sizes, settings, task)
    plan = Plan(needed_systems(chosen.named()), chosen.settings, task)
    return chosen, [system.name for system in chosen.listed(plan, 72)]


@pytest.mark.parametrize("task", ["text", "sequential", "general"])
@pytest.mark.parametrize("name", list(list_presets()))
def test_every_preset_names_what_exists(name, task):
    """Systems, bases and layouts, and every recipe takes what its name says."""
    preset = load_preset(name).on(task)
    chosen, listed = selected(name, task=task)
    assert preset.layout in LAYOUTS and set(preset.systems) <= {s.name for s in chosen.named()}
    assert set(preset.against) | set(preset.against.values()) <= set(load_preset(name).systems)
    assert chosen.baseline(None, listed) == preset.baseline
    assert set(chosen.repeated((), listed)) == set(listed)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("uri-table4", "Unknown preset 'uri-table4'; did you mean 'uri-table"),
        ("uri-table1,swop", "Unknown preset 'swop'"),
    ],
)
def test_an_unknown_preset_is_one_sentence(names, message):
    """With the nearest known one."""
    with pytest.raises(ConfigError, match=message):
        parse_presets(names)


def test_a_preset_with_an_unknown_setting_is_refused(tiny_presets):
    """A misspelt key would otherwise be passed over."""
    (presets.FOLDER / "wrong.yaml").write_text(SCATTER.replace("scales", "scale"))
    with pytest.raises(ConfigError, match="Unknown setting of preset wrong 'scale'"):
        load_preset("wrong")


def test_scales_are_of_the_recipes_own_sizes(tiny_presets):
    """Of 72 documents, three a leaf: 5 codes a level; itself at 1, at least two codes."""
    own = selected("scatter")[1]
    kinds = ("ids:random", "ids:kmeans", "fixed")
    assert own == [f"{kind}{at}" for kind in kinds for at in ("@2x2", "", "@10x10")]
    small = selected("scatter", settings=["model.codebook_sizes=[2,3]"])[1]
    assert small[:3] == ["ids:random@2x2", "ids:random", "ids:random@4x6"]


def test_sizes_take_the_place_of_scales_and_of_nothing_else(tiny_presets):
    """Systems named beside a preset grow as ever; presets without scales do not."""
    found = selected("ablation,scatter", "fixed:pq,bm25", "3x3")[1]
    assert found == [
        *("fixed", "fixed:random"),
        *("ids:random@3x3", "ids:kmeans@3x3", "fixed@3x3"),
        *("fixed:pq", "bm25", "fixed:pq@3x3"),
    ]


def test_settings_and_baseline_of_a_preset(tiny_presets):
    """The user's come after and win."""
    chosen, listed = selected("swap", settings=["search.beams=4"])
    assert chosen.settings == ["search.beams=3", "search.beams=4"]
    assert chosen.baseline(None, listed) == "fixed" and chosen.baseline("dense", listed) == "dense"
    with pytest.raises(ConfigError, match="no listed system"):
        chosen.baseline("uri", listed)


def test_presets_in_one_folder(tiny_presets, run, trained, tmp_path):
    """One start, every checkpoint once, a table each, and started again nothing is done."""
    arguments = {"preset": "swap,ablation,scatter", "sizes": "2x2"}
    report = run("bm25", **arguments)
    assert report["failed"] == []
    assert sorted(trained) == [
        f"seed-0/{slug}"
        for slug in (
            "dense",
            "fixed",
            "fixed.atomic",
            "fixed.index_from=fixed.random",
            "fixed.random",
            "fixed@2x2",
        )
    ]
    assert list(report["tables"]) == ["swap", "ablation", "scatter"]
    assert (
        "--preset swap,ablation,scatter --systems bm25 --seeds 1 --sizes 2x2 "
        in (report["command"])
    )
    page = (tmp_path / "out" / "report.md").read_text()
    assert page == markdown.markdown(json.loads((tmp_path / "out" / "report.json").read_text()))
    assert "A swap. And a note." in page and "Without fixed:rq: it is slow." in page
    assert "fixed on the ids of fixed:random" in page
    del trained[:]
    again = run("bm25", **arguments)
    assert trained == [] and again["tables"] == report["tables"]


def test_equal_beams_are_searched_again(tiny_presets, run, trained, tmp_path):
    """Those with more beams than the fewest, once; buckets rank more than bijective ids."""
    report = run("", preset="swap", more=("search.beams=null", "search.share=0.2"))
    table = report["tables"]["swap"]
    rows = {row["system"]: row for row in table["rows"]}
    assert rows["fixed:atomic"]["beams"] > table["beams"] == rows["fixed"]["beams"]
    assert rows["fixed:atomic"]["equal_beams"]["documents"] == table["beams"]
    assert rows["fixed"]["equal_beams"]["documents"] == rows["fixed"]["documents_ranked"]
    kept = tmp_path / "out" / "measured" / "test" / f"seed-0-{table['beams']}-beams"
    assert {path.stem for path in kept.glob("*.json")} == {"fixed.atomic"}
    assert rows["dense"]["beams"] is None and "equal_beams" not in rows["dense"]
    assert table["pool"] == int(min(rows[n]["documents_ranked"] for n in ("fixed", "fixed:atomic")))
