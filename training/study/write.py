"""The report of a study as files: JSON, Markdown and pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_genret.errors import MissingExtraError
from hf_genret.evaluation.report import plain
from hf_genret.evaluation.report import write_report as write_json
from hf_genret.files import atomic_write_text
from hf_genret.training.study.cells import Values
from hf_genret.training.study.slopes import slopes
from hf_genret.training.study.statements import statements
from hf_genret.training.study.tables import FACTORS, study_tables

logger = logging.getLogger(__name__)


def write_study(
    report: Mapping[str, Any], values: Mapping[str, Values], folder: Path
) -> dict[str, Any]:
    """Add slopes and statements to a report and write `report.json`, `report.md` and `plots/`.

    Args:
        report: With `cells` and `failed`.
        values: Of the queries of each cell, by its slug.
        folder: Where they go.

    Returns:
        The whole report.

    Raises:
        OSError: When the disk refuses.
    """
    cells = report["cells"]
    whole: dict[str, Any] = plain(
        {**report, "slopes": slopes(cells, values), "statements": statements(cells, values)}
    )
    pictures = _plots(whole, folder / "plots")
    write_json(whole, folder / "report.json")
    atomic_write_text(folder / "report.md", markdown(whole, pictures))
    return whole


def _plots(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Pictures, where matplotlib is installed."""
    from hf_genret.training.study.plots import study_plots

    try:
        return list(study_plots(report, folder))
    except MissingExtraError as error:
        logger.warning("No plots: %s", error)
        return []


def markdown(report: Mapping[str, Any], pictures: Sequence[Path] = ()) -> str:
    """The report as a page.

    Args:
        report: The whole one.
        pictures: Files below `plots/`.
    """
    data = report["data"]
    drawn = [path.name for path in pictures if path.suffix == ".png"]
    shown = [name for name in drawn if name.removesuffix(".png") not in FACTORS]
    parts = [
        f"# Generative and dense retrieval on {data['name']}",
        f"```bash\n{report['command']}\n```",
        _how(report),
        *(f"![{name.removesuffix('.png')}](plots/{name})" for name in shown),
        "Each factor alone, and all of it as SVG, is in `plots`." if drawn else "",
        study_tables(report),
        _failed(report["failed"]),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _how(report: Mapping[str, Any]) -> str:
    """How the study was made, in sentences."""
    data, study = report["data"], report["study"]
    slices = study["slices"]
    sizes = ", ".join(f"{size:,}" for size in slices["documents"])
    steps = ", ".join(f"{name} {count}" for name, count in study["steps"].items())
    lines = [
        f"Data {data['fingerprint']}: {data['documents']:,} documents, "
        f"{study['train_queries']:,} training queries (own ones and pseudo-queries, made once), "
        f"{slices['test_queries']:,} test queries.",
        f"`generative` is the recipe {study['recipe']}, `dense` ranks every document with the same "
        "encoder; where the settings of the first stage are equal they share it. `ids alone` is "
        "`generative` without its ranker, which scores as `dense` does.",
        f"The factor corpus has nested parts of {sizes} documents and "
        f"{slices['fixed_queries']:,} test queries, all of whose {slices['fixed_answers']:,} "
        "relevant documents are in the smallest part. A part trains on the queries whose documents "
        "are in it, and generative ranks as many documents of each part as of the whole where it "
        "has them. Other factors have all documents and all test queries.",
        f"Every training of a stage has the same number of steps, whatever the corpus: {steps}.",
        "Hard negatives are trained in a stage of their own after the first, whose last weights "
        "count; elsewhere dev chooses the weights.",
        f"Seeds: {', '.join(map(str, report['seeds']))}. Intervals are 95 % bootstrap intervals "
        "over queries; with one seed they say nothing of how trainings differ.",
    ]
    if study["zero_shot"]:
        lines.append(
            f"The factor zero_shot searches {study['zero_shot']} with what was trained on "
            f"{data['name']}: the models read its documents and give them ids, nothing is trained."
        )
    if study["quick"]:
        lines.insert(0, "**Quick form: it shows that everything runs; it decides nothing.**")
    return "\n\n".join(lines)


def _failed(failed: Sequence[Mapping[str, str]]) -> str:
    rows = [f"- {entry['cell']}: {entry['error']}" for entry in failed]
    return "## Failed\n\n" + "\n".join(rows) if rows else ""
