"""The report of a comparison as files: JSON, Markdown and pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_genret.errors import MissingExtraError
from hf_genret.evaluation.report import write_report as write_json
from hf_genret.files import atomic_write_text
from hf_genret.training.compare.markdown import markdown
from hf_genret.training.compare.plots import write_plots

logger = logging.getLogger(__name__)


def write_report(report: Mapping[str, Any], folder: str | Path) -> None:
    """Write `report.json`, `report.md` and, where matplotlib is installed, `plots/`.

    Args:
        report: What `compare` gave.
        folder: Where they go.

    Raises:
        OSError: When the disk refuses.
    """
    folder = Path(folder)
    try:
        write_plots(report, folder / "plots")
    except MissingExtraError as error:
        logger.warning("No plots: %s", error)
    write_json(report, folder / "report.json")
    atomic_write_text(folder / "report.md", markdown(report))
