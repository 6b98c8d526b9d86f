"""The study from data to report, on 80 documents and a few steps."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from hf_genret.cli.main import main
from hf_genret.errors import CheckpointError, ConfigError
from hf_genret.training import api
from hf_genret.training.study import Wish, list_cells, plan, study, write
from hf_genret.training.study.clock import Clock, spoken
from hf_genret.training.study.grid import Cell
from hf_genret.training.study.values import QUICK

STAGES = ("encoder", "hard", "level-1", "level-2", "em", "ids", "final", "ranker")
TINY = replace(
    QUICK,
    shares=(0.5, 1.0),
    dims=(4,),
    decoders=((16, 1),),
    maps=(1,),
    negatives=(1, 0),
    ratios=(1.0,),
    similarities=("cosine",),
    ids=("kmeans", "learned"),
    beams=(1, 2),
    settings=(
        *(f"stages.{name}.max_steps=2" for name in STAGES),
        *(f"stages.{name}.evaluations=1" for name in ("encoder", "final", "ranker")),
        "queries.dev_limit=10",
        "search.beam_weights=[0.0]",
    ),
    query_settings=("queries.pseudo=1",),
)
INTERVAL = ("mean", "low", "high")
SETTINGS = (
    "bag.dim=16",
    "model.codebook_sizes=[4,4]",
    "model.decoder_dim=16",
    "model.decoder_heads=2",
    "model.decoder_layers=1",
)


@pytest.fixture(autouse=True)
def tiny_values(monkeypatch):
    """Few values and steps in place of the quick study's."""
    monkeypatch.setattr(plan, "QUICK", TINY)


@pytest.fixture
def wish(small_folder):
    """A study of the whole grid, or of some factors."""

    def make(*factors, **more):
        more = {"settings": SETTINGS, "recipe": "fixed:kmeans", **more}
        return Wish(small_folder, factors=factors, quick=True, **more)

    return make


@pytest.fixture
def trained(monkeypatch):
    """Names of the checkpoints that are trained, in order, as `corpus-50/dense`; no pictures."""
    done = []
    real = api.train_on

    def noting(data, recipe, output, **rest):
        done.append(f"{output.parents[1].name}/{output.name}")
        return real(data, recipe, output, **rest)

    monkeypatch.setattr(api, "train_on", noting)
    monkeypatch.setattr(write, "_plots", lambda report, folder: [])
    return done


@pytest.fixture(scope="module")
def whole(small_folder, text_folder, tmp_path_factory):
    """A finished study of the whole grid: its folder, its report, and what it said."""
    folder, lines = tmp_path_factory.mktemp("study") / "out", []
    asked = Wish(small_folder, SETTINGS, quick=True, zero_shot=text_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "QUICK", TINY)
        patch.setattr(write, "_plots", lambda report, folder: [])
        return folder, study(asked, folder, tell=lines.append), lines


def test_the_whole_grid(whole):
    """Every cell measured, each with its number, equal trainings made once."""
    folder, report, lines = whole
    assert report["failed"] == [] and lines[0] == "1/24 corpus 50 % dense: training"
    assert len([line for line in lines if line.endswith(": training")]) == 8
    assert any("s left" in line for line in lines)
    cells = {cell["slug"]: cell for cell in report["cells"]}
    alone = [cell for cell in report["cells"] if cell["system"] == "ids alone"]
    assert len(cells) == 24 + len(alone)
    assert cells["corpus-50-dense-s0"]["value"] == 40
    assert cells["corpus-100-dense-s0"]["value"] == 80
    assert cells["dim-full-dense-s0"]["value"] == 16
    # the adapter is a map of 16 x 16; a low-rank map adds two of 16 x 4, the ranker its scale
    assert cells["dim-full-dense-s0"]["parameters"] == 256
    assert cells["dim-4-dense-s0"]["parameters"] == 256 + 2 * 64 + 1
    one, two = (cells[f"beams-{n}-generative-s0"] for n in (1, 2))
    assert one["documents_ranked"] < two["documents_ranked"] <= 80
    elsewhere = cells["zero_shot-another-corpus-generative-s0"]
    assert elsewhere["documents"] == 200 and elsewhere["costs"]["training_seconds"] == 0
    page = (folder / "report.md").read_text()
    assert "40, 80 documents" in page and "## Statements" in page
    assert "zero_shot searches texts" in page
    assert json.loads((folder / "report.json").read_text()) == report


def test_probabilities_of_cells(whole):
    """Of all documents; other beams do not change them."""
    cells = {cell["slug"]: cell for cell in whole[1]["cells"]}
    for slug, cell in cells.items():
        if cell["system"] == "ids alone":
            continue
        other_beams = slug.startswith("beams-") and "reference" not in slug
        assert (cell["calibration"] is None) == (cell["spectrum"] is None) == other_beams
    generative = cells["corpus-100-generative-s0"]
    assert abs(generative["calibration"]["log_z_mean"]) < 1e-4
    assert 0 < generative["leaked"]["mean"] < 1
    low = cells["dim-4-dense-s0"]
    assert low["spectrum"]["bound"] == 5 and low["spectrum"]["numerical_rank"] <= 5
    seen = {
        n: cells[f"negatives-{n}-dense-s0"]["calibration"]["negatives"] for n in (1, "in-batch")
    }
    assert seen == {1: 1, "in-batch": 255}
    assert cells["hardness-1-dense-s0"]["calibration"]["negatives"] == 8


def test_values_are_those_of_the_same_queries(whole):
    """One a query, whose means the cell says."""
    folder, report, _ = whole
    for cell in report["cells"]:
        alone = "alone." * (cell["system"] == "ids alone")
        place = folder / "cells" / cell["slug"].removesuffix("-ids-alone")
        values = load_file(place / "values.safetensors")
        values = {n.removeprefix(alone): v for n, v in values.items() if ("." in n) == bool(alone)}
        assert set(values) == {"hits@1", "hits@10", "mrr@10", "ndcg@10", "recall@100"}
        assert {len(column) for column in values.values()} == {cell["queries"]}
        for name, column in values.items():
            assert column.dtype == np.float32 and set(cell["metrics"][name]) == {*INTERVAL}
            assert cell["metrics"][name]["mean"] == pytest.approx(np.nanmean(column), abs=1e-6)


def test_ids_alone_stand_beside_what_ranks(whole):
    """Where what is ranked differs between cells, and without figures that are the system's."""
    cells = {cell["slug"]: cell for cell in whole[1]["cells"]}
    alone = {slug for slug, cell in cells.items() if cell["system"] == "ids alone"}
    own = {slug.removesuffix("-ids-alone") for slug in alone}
    assert own == {
        *(f"corpus-{n}-generative-s0" for n in (50, 100)),
        *(f"beams-{n}-generative-s0" for n in (1, 2)),
        "zero_shot-another-corpus-generative-s0",
    }
    for slug in own:
        whole_system, ids = cells[slug], cells[f"{slug}-ids-alone"]
        assert ids["documents_ranked"] == whole_system["documents_ranked"]
        assert ids["costs"] is None and "alone" not in whole_system
        # the same documents, in another order
        assert ids["metrics"]["recall@100"] == pytest.approx(whole_system["metrics"]["recall@100"])


def test_parts_of_a_corpus_rank_as_many_documents(whole):
    """As the whole one, not the same share; buckets stay whole."""
    cells = {cell["slug"]: cell for cell in whole[1]["cells"]}
    part, all_of_it = (cells[f"corpus-{n}-generative-s0"] for n in (50, 100))
    assert int(0.09 * 80) == 7  # allowed of 80 documents
    assert all_of_it["search_beams"] == 7 // 5 and part["search_beams"] == 7 // 3


def test_started_again_it_goes_on(wish, tmp_path, trained, monkeypatch):
    """Interrupted in the middle: what is there is neither trained nor measured again, what was
    trained on the way is used."""
    real = api.train_on

    def stopping(data, recipe, output, **rest):
        if output.name == "dense-k1":
            raise KeyboardInterrupt
        return real(data, recipe, output, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(api, "train_on", stopping)
        with pytest.raises(KeyboardInterrupt):
            study(wish("dim", "negatives"), tmp_path / "out")
    assert trained == [f"corpus-100/{name}" for name in ("dense-rank4", "dense", "fixed.kmeans")]
    del trained[:]
    listed = list_cells(wish("dim", "negatives"), tmp_path / "out")
    assert [done for _, done in listed] == [True] * 3 + [False] * 3
    first = study(wish("dim", "negatives"), tmp_path / "out")
    assert trained == ["corpus-100/dense-k1"]
    lines = []
    again = study(wish("dim", "negatives"), tmp_path / "out", tell=lines.append)
    assert trained == ["corpus-100/dense-k1"] and lines == ["6 of 6 cells are there already."]
    assert again["cells"] == first["cells"] and again["slopes"] == first["slopes"]


def test_other_settings_are_other_cells(wish, tmp_path, trained):
    """Only what they concern is made anew."""
    study(wish("negatives"), tmp_path / "out")
    del trained[:]
    settings = (*SETTINGS, "stages.ids.max_steps=1")
    study(wish("negatives", settings=settings), tmp_path / "out")
    assert trained == ["corpus-100/fixed.kmeans"]


def test_a_cell_that_fails_is_said_and_the_others_go_on(wish, tmp_path, trained, monkeypatch):
    """It is tried again the next time."""
    real = api.train_on

    def failing(data, recipe, output, **rest):
        if output.name == "dense-k1":
            raise CheckpointError(f"{output}: no space left.")
        return real(data, recipe, output, **rest)

    lines = []
    with monkeypatch.context() as patch:
        patch.setattr(api, "train_on", failing)
        report = study(wish("negatives"), tmp_path / "out", tell=lines.append)
    (failure,) = report["failed"]
    assert failure["cell"] == "negatives-1-dense-s0"
    assert failure["error"] == "DIR/checkpoints/corpus-100/seed-0/dense-k1: no space left."
    assert len(report["cells"]) == 2 and any("failed: " in line for line in lines)
    assert "## Failed" in (tmp_path / "out" / "report.md").read_text()
    assert study(wish("negatives"), tmp_path / "out")["failed"] == []


def test_checkpoints_of_the_defaults_are_kept(wish, tmp_path, trained):
    """Others are removed when no cell needs them any more, unless all are wanted."""
    defaults = {"dense", "fixed.kmeans"}
    for keep, names in ((False, defaults), (True, defaults | {"dense-k1"})):
        out = tmp_path / f"{keep}"
        study(wish("negatives", keep_checkpoints=keep), out)
        assert {p.name for p in (out / "checkpoints/corpus-100/seed-0").iterdir()} == names


def test_no_folder_of_this_machine_stands_in_the_report(wish, bert_folder, tmp_path, trained):
    """An encoder's place is ENCODER, in settings and commands alike."""
    own = (f"encoder={bert_folder}", *SETTINGS[1:])
    report = study(wish("dim", settings=own), tmp_path / "out", tell=lambda line: None)
    assert report["failed"] == []
    assert all("encoder=ENCODER" in cell["settings"] for cell in report["cells"])
    assert str(tmp_path.parents[1]) not in json.dumps(report)


def test_what_cannot_be_studied_is_refused(wish, sequence_folder, tmp_path):
    """In one sentence, before anything is trained."""
    with pytest.raises(ConfigError, match="holds histories of items"):
        study(Wish(sequence_folder), tmp_path / "out")
    with pytest.raises(ConfigError, match="zero_shot needs another corpus"):
        study(wish("zero_shot"), tmp_path / "out")
    with pytest.raises(ConfigError, match="did you mean 'negatives'"):
        study(wish("negativs"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(small_folder, tmp_path, capsys, trained):
    """Lists its cells, then makes them, and draws."""
    words = [
        "study",
        str(small_folder),
        "--quick",
        "--factors",
        "negatives",
        "--recipe",
        "fixed:kmeans",
    ]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    words += ["--output", str(tmp_path / "out")]
    assert main([*words, "--list"]) == 0
    assert "1/3 negatives 1 dense: open" in capsys.readouterr().out and not trained
    assert main([*words, "--json", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    command = "hf-genret study DATA --factors negatives --recipe fixed:kmeans --set bag.dim=16"
    assert report["command"].startswith(command)
    assert "Report: " in capsys.readouterr().out
    assert main(["study", str(small_folder), "--output", "x", "--factors", "corpsu"]) == 2
    assert "did you mean 'corpus'" in capsys.readouterr().err


def test_what_is_left_is_the_mean_of_what_was():
    """By kind of cell, a training once for all that share it."""
    clock = Clock()
    trained, seen = cells_named("a"), cells_named("a", "a", "b")
    clock.start()
    clock.stop(trained[0], True)
    assert clock.left(trained) == 0  # nothing was seen yet of measuring alone
    clock._seconds = {(True, True): [10.0, 20.0], (True, False): [2.0]}
    assert clock.left(seen) == pytest.approx(2 + 2 + 15)
    assert spoken(44.4) == "44 s" and spoken(600) == "10 min" and spoken(7500) == "2 h 05 min"


def cells_named(*names):
    """Dense cells trained under some names."""
    from hf_genret.training.compare.names import System

    return [Cell("corpus", name, "dense", System(name, "dense")) for name in names]
