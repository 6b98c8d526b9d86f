"""How fast quality changes along a factor: slopes per doubling, with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_genret.training.study.lines import (
    DOUBLING,
    Facts,
    Line,
    Values,
    interval,
    make_lines,
    ratio,
)

METRICS = ("hits@1", "hits@10", "mrr@10", "ndcg@10", "recall@100")
"""Metrics that slopes are given of."""


def slopes(cells: Sequence[Facts], values: Values) -> list[dict[str, Any]]:
    """Slopes of every line that has numbers for values.

    A slope is the least-squares one of the metric on log2(value). Queries are resampled, each with
    its values in all cells of the line; with several seeds a query has the mean over them. A cell
    that stands apart (in-batch negatives among numbers of random ones, the encoder's own width
    among ranks of a map) is left out.

    Args:
        cells: Cells with their `slug`.
        values: Slug -> metric -> values [Q].

    Returns:
        One entry a line and metric: `factor`, `system`, `metric`, `points`, `seeds`,
        `per_doubling` and `relative_per_doubling` (of the line's mean; None where that may be
        zero), each `mean`, `low` and `high`. `hardness`, whose values run from 0 to 1, has
        `from_0_to_1` instead.

    Raises:
        DataError: When cells of a factor have values for different numbers of queries.
    """
    lines = make_lines(cells, values).values()
    found = [_slope(line, metric) for line in lines for metric in METRICS]
    return [entry for entry in found if entry is not None]


def _slope(line: Line, metric: str) -> dict[str, Any] | None:
    each = line.slope(metric) if line.factor in (*DOUBLING, "hardness") else None
    middle = interval(each)
    if each is None or middle is None:
        return None
    entry: dict[str, Any] = {
        "factor": line.factor,
        "system": line.system,
        "metric": metric,
        "points": [point.value for point in line.fitted],
        "seeds": sorted({cell.get("seed", 0) for p in line.fitted for cell in p.cells}),
    }
    if line.factor not in DOUBLING:
        return entry | {"from_0_to_1": middle}
    relative = ratio(each, line.level(metric))
    return entry | {"per_doubling": middle, "relative_per_doubling": relative}
