"""Cells as lines of a plot: one system over the values of a factor, query by query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_genret.errors import DataError
from hf_genret.evaluation.bootstrap import bootstrap_means, summarise

Facts = Mapping[str, Any]
Values = Mapping[str, Mapping[str, np.ndarray]]
"""Slug of a cell -> metric -> one value a query, [Q]; equal queries in all cells of a factor."""
Interval = dict[str, float]
"""`mean`, and the ends `low` and `high` of its 95 % interval."""

GENERATIVE, DENSE = "generative", "dense"
IDS_ALONE = "ids alone"
"""The generative system without its ranker."""
DOUBLING = ("corpus", "dim", "decoder", "negatives", "beams")
"""Factors whose values are compared by their ratio; that of `hardness` by their difference."""
_NUMBERED = ("dim", "negatives")  # a label that is no number is another kind of thing there


@dataclass
class Point:
    """One value of a factor, all seeds together.

    Attributes:
        label: As people read it.
        value: As a number, None where it has none.
        baseline: Whether it is the line's default.
        values: Metric -> values [Q], the mean over seeds.
        cells: One a seed.
        fitted: Whether a slope goes through it.
    """

    label: str
    value: float | None
    baseline: bool
    values: dict[str, np.ndarray]
    cells: list[Facts]
    fitted: bool

    def figure(self, *path: str) -> Any:
        """What stands at a path of keys in the cell of the first seed; None where nothing does."""
        place: Any = self.cells[0]
        for key in path:
            place = place.get(key) if isinstance(place, Mapping) else None
        return place


@dataclass
class Line:
    """One system over the values of a factor.

    Attributes:
        factor: Name of the factor.
        system: Name of the line.
        points: By rising value, those without one last.
    """

    factor: str
    system: str
    points: list[Point]

    @property
    def fitted(self) -> list[Point]:
        """The points that a slope goes through."""
        return [point for point in self.points if point.fitted]

    @property
    def default(self) -> Point | None:
        """The point of the default setting."""
        return next((point for point in self.points if point.baseline), None)

    def only(self, labels: Collection[str]) -> Line:
        """The line through some of its points."""
        kept = [point for point in self.points if point.label in labels]
        return Line(self.factor, self.system, kept)

    def places(self) -> np.ndarray:
        """Where the fitted points stand: log2 of their values, or the values (`hardness`)."""
        found = np.array([point.value for point in self.fitted], dtype=np.float64)
        return np.log2(found) if self.factor in DOUBLING else found

    def slope(self, metric: str) -> np.ndarray | None:
        """Least-squares slope of every query, [Q]; None with fewer than two places or no values.

        The slope of a mean is the mean of the slopes, so that resampling these is a paired
        bootstrap over all cells of the line.
        """
        places = self.places()
        if len(np.unique(places)) < 2 or not all(metric in p.values for p in self.fitted):
            return None
        apart = places - places.mean()
        table = np.stack([point.values[metric] for point in self.fitted], axis=1)  # [Q, points]
        found: np.ndarray = table @ (apart / (apart**2).sum())
        return found

    def level(self, metric: str) -> np.ndarray:
        """Mean over the fitted points of every query, [Q]."""
        found: np.ndarray = np.mean([point.values[metric] for point in self.fitted], axis=0)
        return found


def make_lines(cells: Sequence[Facts], values: Values) -> dict[tuple[str, str], Line]:
    """The lines of a study.

    Args:
        cells: With `slug`; those without values are left out.
        values: Of their queries.

    Returns:
        (factor, system) -> line, in the order of the cells.

    Raises:
        DataError: When cells of a factor have values for different numbers of queries.
    """
    groups: dict[tuple[str, str], dict[str, list[Facts]]] = {}
    for cell in cells:
        if cell["slug"] in values:
            line = groups.setdefault((cell["factor"], cell["system"]), {})
            line.setdefault(cell["label"], []).append(cell)
    _check_queries(groups, values)
    return {
        (factor, system): Line(
            factor,
            system,
            sorted((_point(same, values) for same in labels.values()), key=_by_value),
        )
        for (factor, system), labels in groups.items()
    }


def interval(values: np.ndarray | None) -> Interval | None:
    """Mean over queries and its 95 % bootstrap interval; None where there is nothing to resample.

    Args:
        values: [Q]; NaN values are left out.
    """
    return None if values is None else summarise({"x": values}).get("x")


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> Interval | None:
    """Ratio of two means over the same queries, resampled together.

    Args:
        numerator: [Q].
        denominator: [Q].

    Returns:
        Ratio and its 95 % interval; None where the denominator may be zero.
    """
    table = np.stack([numerator, denominator], axis=1).astype(np.float64)
    table = table[~np.isnan(table).any(axis=1)]
    if not len(table):
        return None
    means = bootstrap_means(table)
    below, middle = means[:, 1], table.mean(axis=0)
    if middle[1] == 0 or below.min() <= 0 <= below.max():
        return None
    low, high = np.percentile(means[:, 0] / below, [2.5, 97.5])
    return {"mean": float(middle[0] / middle[1]), "low": float(low), "high": float(high)}


def _point(same: list[Facts], values: Values) -> Point:
    """Cells that differ in their seeds alone."""
    first = same[0]
    names = [name for name in values[first["slug"]] if all(name in values[c["slug"]] for c in same)]
    means = {
        name: np.mean([values[c["slug"]][name].astype(np.float64) for c in same], axis=0)
        for name in names
    }
    value = first.get("value")
    return Point(
        label=first["label"],
        value=value,
        baseline=bool(first.get("baseline")),
        values=means,
        cells=same,
        fitted=_is_fitted(first["factor"], first["label"], value),
    )


def _is_fitted(factor: str, label: str, value: float | None) -> bool:
    if value is None or (factor in DOUBLING and value <= 0):
        return False
    return factor not in _NUMBERED or label.replace(".", "", 1).isdigit()


def _by_value(point: Point) -> float:
    return float("inf") if point.value is None else point.value


def _check_queries(
    groups: Mapping[tuple[str, str], Mapping[str, list[Facts]]], values: Values
) -> None:
    """Equal numbers of queries in all cells of a factor."""
    known: dict[str, tuple[str, int]] = {}
    for (factor, _), labels in groups.items():
        for cell in (cell for same in labels.values() for cell in same):
            for column in values[cell["slug"]].values():
                slug, size = known.setdefault(factor, (cell["slug"], len(column)))
                if len(column) != size:
                    raise DataError(
                        f"cell {cell['slug']} has values for {len(column)} queries, {slug} for "
                        f"{size}; cells of one factor share their queries."
                    )
