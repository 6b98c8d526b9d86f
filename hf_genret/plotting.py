"""How the code distributions of a few queries and items moved in training (URI, Fig. 5)."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hf_genret.errors import CheckpointError, ConfigError, MissingExtraError

KEY = "distributions"
FORMATS = (".png", ".svg", ".pdf")
_LEVELS = 64  # an id has fewer
_NAME = 60  # characters of a name shown


def read_distributions(
    record: Mapping[str, Any], folder: str | Path | None = None
) -> list[dict[str, Any]]:
    """What training recorded, from `distributions` in training.json.

    Each entry holds `name` (of a query or an item), `level` (from 1), `steps` (n numbers) and
    `probabilities` (n lists of K numbers).

    Args:
        record: What training wrote down.
        folder: The checkpoint's, for the error.

    Raises:
        CheckpointError: When the checkpoint has no such record.
    """
    try:
        entries = [
            {
                "name": str(entry["name"]),
                "level": operator.index(entry["level"]),
                "steps": [operator.index(step) for step in entry["steps"]],
                "probabilities": np.asarray(entry["probabilities"], dtype=float).tolist(),
            }
            for entry in record[KEY]
        ]
        if not all(1 <= entry["level"] <= _LEVELS and entry["steps"] for entry in entries):
            raise ValueError("a level or step that cannot be")
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        message = "this checkpoint holds no record of how its code distributions moved in training."
        raise CheckpointError(message if folder is None else f"{folder}: {message}") from error
    return entries


def plot_distributions(
    record: Mapping[str, Any], path: str | Path, folder: str | Path | None = None
) -> None:
    """Draw the record: one panel a query or item and level, codes over training steps.

    Args:
        record: What training wrote down.
        path: The picture; its ending says the format.
        folder: The checkpoint's, for the error.

    Raises:
        ConfigError: For an ending that is no known format.
        CheckpointError: When there is no record.
        MissingExtraError: When matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: expected a name ending in one of {', '.join(FORMATS)}.")
    entries = read_distributions(record, folder)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "plotting") from error
    columns = max((entry["level"] for entry in entries), default=1)
    names = list(dict.fromkeys(entry["name"] for entry in entries))
    figure = Figure(figsize=(4.5 * columns, 2.2 * max(len(names), 1)), layout="constrained")
    panels = figure.subplots(max(len(names), 1), columns, squeeze=False)
    for entry in entries:
        _panel(panels[names.index(entry["name"])][entry["level"] - 1], entry)
    figure.savefig(path)


def _panel(axes: Any, entry: dict[str, Any]) -> None:
    """One heat map: darker is more probable."""
    probabilities = np.asarray(entry["probabilities"], dtype=float).T  # [K, n]
    axes.imshow(probabilities, aspect="auto", cmap="Greys", vmin=0, vmax=1, origin="lower")
    steps = entry["steps"]
    ticks = sorted({0, len(steps) // 2, len(steps) - 1})
    axes.set_xticks(ticks, [f"{steps[tick]:,}" for tick in ticks])
    axes.set_xlabel("step")
    axes.set_ylabel(f"code, level {entry['level']}")
    axes.set_title(str(entry["name"])[:_NAME], fontsize="small")
