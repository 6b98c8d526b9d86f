"""How long cells took, and how long those that are left may take."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from hf_genret.training.study.grid import DENSE, Cell

_Kind = tuple[bool, bool]  # dense or not, trained for or not


class Clock:
    """Means of what was seen, by kind of cell."""

    def __init__(self) -> None:
        self._seconds: dict[_Kind, list[float]] = {}
        self._trained: set[tuple[float, int, str]] = set()
        self._began = 0.0

    def start(self) -> None:
        """A cell begins."""
        self._began = time.perf_counter()

    def stop(self, cell: Cell, trained: bool) -> float:
        """A cell is done; the seconds it took."""
        kind, took = (cell.line == DENSE, trained), time.perf_counter() - self._began
        self._seconds.setdefault(kind, []).append(took)
        self._trained.add(cell.training)
        return took

    def left(self, cells: Sequence[Cell]) -> float:
        """Seconds that some cells may take; 0 before the first is done."""
        known, total = set(self._trained), 0.0
        for cell in cells:
            total += self._mean((cell.line == DENSE, cell.training not in known))
            known.add(cell.training)
        return total

    def _mean(self, kind: _Kind) -> float:
        """Of this kind, else of what is nearest to it."""
        dense, trained = kind
        for like in (kind, (not dense, trained)):
            if like in self._seconds:
                return float(np.mean(self._seconds[like]))
        seen = [took for kind_took in self._seconds.values() for took in kind_took]
        return float(np.mean(seen)) if trained and seen else 0.0


def spoken(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
