"""What an interval says of a statement, and how it is put into words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hf_genret.training.study.lines import (
    DENSE,
    Facts,
    Interval,
    Line,
    Point,
    Values,
    make_lines,
)

HOLDS, CONTRADICTED, UNKNOWN = "holds", "does not hold here", "cannot be told"
METRIC = "ndcg@10"
"""What statements without a metric of their own are held against."""
NAMES = {
    "hits@1": "Hits@1",
    "hits@10": "Hits@10",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
    "recall@100": "R@100",
}


@dataclass
class Statement:
    """A finding of the literature, held against the cells of a study.

    Attributes:
        id: Short name.
        source: Where it stands: figure, table or theory.
        text: What it says, with the limits that decide.
        verdict: `holds` and `does not hold here` where the interval says so, else `cannot be told`.
        evidence: One sentence with figures and 95 % intervals.
    """

    id: str
    source: str
    text: str
    verdict: str
    evidence: str

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


class Findings:
    """The cells of a study, as statements ask for them.

    Args:
        cells: With their `slug`.
        values: Slug -> metric -> values [Q].

    Raises:
        DataError: When cells of a factor have values for different numbers of queries.
    """

    def __init__(self, cells: Sequence[Facts], values: Values) -> None:
        self.lines = make_lines(cells, values)

    def line(self, factor: str, system: str) -> Line | None:
        """A system over a factor's values; None where it was not measured."""
        return self.lines.get((factor, system))

    def same_points(self, factor: str, *systems: str) -> tuple[Line | None, ...]:
        """Systems over the values of a factor that all of them have; a cell may have failed."""
        lines = [self.line(factor, system) for system in systems]
        known = [{point.label for point in line.points} for line in lines if line is not None]
        shared = set.intersection(*known) if len(known) == len(systems) else set()
        return tuple(None if line is None else line.only(shared) for line in lines)

    def points(self, *factors: str, ids: bool | None = None) -> list[Point]:
        """The points of some factors, all by default.

        Args:
            *factors: Names.
            ids: Whether of systems with ids or of dense; both by default.
        """
        return [
            point
            for (factor, system), line in self.lines.items()
            if (not factors or factor in factors) and ids in (None, system != DENSE)
            for point in line.points
        ]

    def default(self, system: str, *path: str) -> Point | None:
        """The default of a system that has something at a path of keys; None where none has.

        Of several, the one that most queries were asked of: `corpus` has fewer than other factors.
        """
        known = [
            point
            for (_, name), line in self.lines.items()
            for point in (line.points if name == system else ())
            if point.baseline and point.figure(*path) is not None
        ]
        return max(known, key=lambda point: point.figure("queries"), default=None)

    def pair(self, factors: Sequence[str], first: str, second: str) -> Pair | None:
        """Two systems' defaults on the same queries, in the first factor that has both."""
        for factor in factors:
            lines = self.line(factor, first), self.line(factor, second)
            points = [line.default or line.points[-1] for line in lines if line is not None]
            if len(points) == 2:
                return Pair(points[0].values, points[1].values, points[0].figure("documents"))
        return None


@dataclass
class Pair:
    """Two systems on the same queries.

    Attributes:
        first: Metric -> values [Q].
        second: Likewise.
        documents: Of the corpus.
    """

    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]
    documents: int | None


def above(found: Interval | None, limit: float = 0.0) -> str:
    """Whether a figure is above a limit, by its interval."""
    if found is None or not _known(found):
        return UNKNOWN
    if found["low"] > limit:
        return HOLDS
    return CONTRADICTED if found["high"] < limit else UNKNOWN


def below(found: Interval | None, limit: float = 0.0) -> str:
    """Whether a figure is below a limit, by its interval."""
    return {HOLDS: CONTRADICTED, CONTRADICTED: HOLDS}.get(above(found, limit), UNKNOWN)


def within(found: Interval | None, margin: float) -> str:
    """Whether a figure is within a margin of zero, by its interval."""
    if found is None or not _known(found):
        return UNKNOWN
    if -margin < found["low"] and found["high"] < margin:
        return HOLDS
    outside = found["low"] > margin or found["high"] < -margin
    return CONTRADICTED if outside else UNKNOWN


def all_of(*verdicts: str) -> str:
    """Of a statement with several parts: each has to hold, and one that does not decides."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return HOLDS if set(verdicts) == {HOLDS} else UNKNOWN


def apart(first: Interval | None, second: Interval | None) -> str:
    """Whether the first figure is below the second: their intervals do not meet."""
    if first is None or second is None or not (_known(first) and _known(second)):
        return UNKNOWN
    if first["high"] < second["low"]:
        return HOLDS
    return CONTRADICTED if first["low"] > second["high"] else UNKNOWN


def say(found: Interval | None, digits: int = 4, *, sign: bool = False) -> str:
    """A figure with its interval: `.123 [.101, .145]`."""
    if found is None or not _known(found):
        return "not known"
    plus = "+" if sign else ""
    mean, low, high = (f"{found[key]:{plus}.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def not_measured(what: str) -> tuple[str, str]:
    """Verdict and evidence where cells are missing."""
    return UNKNOWN, f"Not measured: this study has no {what}."


def _known(found: Interval) -> bool:
    ends = [found.get(key) for key in ("mean", "low", "high")]
    return all(end is not None and math.isfinite(end) for end in ends)


Check = Callable[[Findings], Statement]
"""One finding, held against a study."""
