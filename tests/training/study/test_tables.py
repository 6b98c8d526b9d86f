from __future__ import annotations

import pytest

from hf_genret.evaluation.report import plain
from hf_genret.training.study.slopes import slopes
from hf_genret.training.study.statements import statements
from hf_genret.training.study.tables import study_tables


def report_of(study):
    """What the tables read, as it comes back from JSON."""
    return plain(
        {
            "cells": study.cells,
            "slopes": slopes(study.cells, study.values),
            "statements": statements(study.cells, study.values),
            "seeds": sorted({cell["seed"] for cell in study.cells}),
        }
    )


def tables(text):
    """Heading -> rows of cells, the heading row first."""
    found, heading = {}, None
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("| "):
            cells = line.replace("\\|", "/").strip("|").split("|")
            found.setdefault(heading, []).append([cell.strip() for cell in cells])
    return found


@pytest.fixture
def page(full_study):
    """The tables of a whole study."""
    return tables(study_tables(report_of(full_study)))


def test_every_table_is_rectangular(page):
    """Also where a cell holds a bar."""
    assert list(page)[:3] == ["Statements", "Slopes", "Size of the corpus (documents)"]
    assert list(page)[-2:] == ["Probabilities", "Costs"]
    assert {len({len(row) for row in rows}) for rows in page.values()} == {1}
    assert len(page["Statements"]) == 2 + 16


def test_figures_are_those_of_the_report(full_study, page):
    """A metric with its interval, a slope with its share, a calibration, a cost."""
    cell = full_study.cells[0]
    corpus = page["Size of the corpus (documents)"]
    found = cell["metrics"]["hits@1"]
    ends = [f"{found[key]:.3f}".lstrip("0") for key in ("mean", "low", "high")]
    assert corpus[2][:3] == ["10 % (1,440)", "dense", f"{ends[0]} [{ends[1]}, {ends[2]}]"]
    assert corpus[-1][0] == "100 %* (14,400)"
    slope = next(s for s in slopes(full_study.cells, full_study.values) if s["metric"] == "hits@1")
    row = next(row for row in page["Slopes"] if row[:2] == ["corpus", "dense"])
    assert row[2].startswith(f"{slope['per_doubling']['mean']:+.4f}".replace("0.", "."))
    assert row[2].endswith(f"({100 * slope['relative_per_doubling']['mean']:+.1f} %)")
    heads, first = page["Probabilities"][0], page["Probabilities"][2]
    shown = dict(zip(heads, first, strict=True))
    assert shown["KL"] == ".200 [.190, .210]"
    assert (shown["rank"], shown["d + 1"], shown["log Z"]) == ("256", "385", "40.00 ± 1.40")
    costs = dict(zip(page["Costs"][0], page["Costs"][2], strict=True))
    assert (costs["vectors MB"], costs["ms/query"]) == ("22.0", "1.50")


def test_references_have_no_costs_of_their_own(page):
    """They repeat other cells, and stand in the factor's table alone."""
    assert any(row[0] == "reference" for row in page["Similarity"])
    for name in ("Probabilities", "Costs"):
        assert not any(row[1].startswith("reference") for row in page[name])


def test_seeds_are_named_where_there_are_several(make_study):
    """Each has a row."""
    study = make_study().line("beams", "generative", {1: 0.3, 2: 0.4})
    study.line("beams", "generative", {1: 0.3, 2: 0.4}, seed=1)
    rows = tables(study_tables(report_of(study)))["Beams at test time"]
    assert {row[1] for row in rows[2:]} == {"generative, seed 0", "generative, seed 1"}


def test_what_was_not_measured_has_no_table(make_study):
    """An empty study has statements alone, an unknown figure is a dash."""
    assert list(tables(study_tables(report_of(make_study())))) == ["Statements"]
    study = make_study().line("beams", "generative", {1: 0.3, 2: 0.4})
    study.cells[0].update(metrics={}, costs={"latency_ms": None})
    found = tables(study_tables(report_of(study)))
    assert "Probabilities" not in found
    assert found["Beams at test time"][2][2] == "-"
    assert found["Costs"][2][-1] == "-"
