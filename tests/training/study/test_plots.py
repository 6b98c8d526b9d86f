from __future__ import annotations

import sys

import pytest
from matplotlib.image import imread

from hf_genret.errors import MissingExtraError
from hf_genret.training.study import plots
from hf_genret.training.study.plots import study_plots
from hf_genret.training.study.tables import FACTORS


def test_a_figure_for_each_factor_and_one_of_all(full_study, tmp_path):
    """PNG of 200 dpi at the width of a column, SVG beside, nothing else left behind."""
    some = ("corpus", "dim", "ids")
    cells = [cell for cell in full_study.cells if cell["factor"] in some]
    paths = study_plots({"cells": cells}, tmp_path / "plots")
    names = {"overview", *some, "drift", "rank"}
    assert {path.name for path in paths} == {f"{n}.{e}" for n in names for e in ("png", "svg")}
    assert paths[0].name == "overview.png"
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {path.name for path in paths}
    assert imread(tmp_path / "plots" / "corpus.png").shape[1] == pytest.approx(3.4 * 200, abs=1)
    assert imread(tmp_path / "plots" / "overview.png").shape[1] == pytest.approx(7.1 * 200, abs=1)


def test_the_same_study_gives_the_same_picture(make_study, tmp_path):
    """No date, no random names."""
    study = make_study().line("beams", "generative", {1: 0.3, 2: 0.4, 8: 0.45})
    first = study_plots({"cells": study.cells}, tmp_path / "a")
    second = study_plots({"cells": study.cells}, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert [path.name for path in first] == [
        "overview.png",
        "overview.svg",
        "beams.png",
        "beams.svg",
    ]


def drawn(cells, factor):
    """The panel of one factor."""
    from matplotlib.figure import Figure

    panel = Figure().subplots()
    plots._panel(panel, cells, factor)
    return panel


def test_lines_stand_where_the_cells_are(make_study):
    """Values, means and bands of both systems; what is of another kind stands beside its line."""
    study = make_study().line("negatives", "dense", {1: 0.3, 7: 0.36})
    study.add("negatives", "in-batch", "dense", 0.5, value=63.0)
    study.add("negatives", "reference", "generative", 0.4)
    panel = drawn(study.cells, "negatives")
    line = next(line for line in panel.lines if line.get_label() == "dense")
    assert list(line.get_xdata()) == [1, 7]
    means = [cell["metrics"]["ndcg@10"]["mean"] for cell in study.cells]
    assert list(line.get_ydata()) == pytest.approx(means[:2])
    level = next(line for line in panel.lines if line.get_label() == "generative (default)")
    assert list(level.get_ydata()) == pytest.approx([means[3]] * 2)
    assert [text.get_text() for text in panel.texts] == ["in-batch"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("Number of negatives", "nDCG@10")
    assert panel.get_xscale() == "log"
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["1", "7", "63"]


@pytest.mark.parametrize("factor", FACTORS)
def test_every_factor_has_its_axes(full_study, factor):
    """What is varied below, what is measured beside, and no cell without a place."""
    panel = drawn(full_study.cells, factor)
    assert panel.get_xlabel() == FACTORS[factor]
    assert panel.get_ylabel() == ("Hits@1" if factor == "corpus" else "nDCG@10")
    cells = [cell for cell in full_study.cells if cell["factor"] == factor]
    bars = [bar for bar in panel.containers if bar.has_yerr]
    lines = [line for line in panel.lines if line.get_label()[0] != "_"]
    levels = [line for line in lines if line.get_label().endswith("(default)")]
    points = sum(len(line.get_xdata()) for line in lines if line not in levels)
    assert points + len(bars) + len(levels) == len(cells)


def test_names_stand_side_by_side(full_study):
    """Kinds of ids by their names; on another corpus the systems are what differs."""
    panel = drawn(full_study.cells, "ids")
    assert [t.get_text() for t in panel.get_xticklabels()] == ["atomic", "title", "rq", "learned"]
    panel = drawn(full_study.cells, "zero_shot")
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["dense", "generative"]


def test_unknown_figures_are_not_drawn(make_study, tmp_path):
    """A cell whose metric is missing leaves a gap; an empty study has no picture."""
    study = make_study().line("corpus", "dense", {10: 0.3, 20: 0.4, 40: 0.45})
    study.cells[1].update(metrics={"hits@1": {"mean": None, "low": None, "high": None}})
    line = drawn(study.cells, "corpus").lines[0]
    assert list(line.get_xdata()) == [10, 40]
    study.cells[0]["metrics"] = study.cells[2]["metrics"] = {}
    assert study_plots({"cells": study.cells}, tmp_path)
    assert study_plots({"cells": []}, tmp_path / "none") == []


def test_without_matplotlib_it_is_said_what_to_install(full_study, tmp_path, monkeypatch):
    """One sentence, before anything is written."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="hf-genret\\[plot\\]"):
        study_plots({"cells": full_study.cells}, tmp_path / "plots")
    assert not (tmp_path / "plots").exists()
