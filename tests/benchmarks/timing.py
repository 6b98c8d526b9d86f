"""Timing side by side: methods take turns, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(
    methods: Mapping[str, Callable[[], Any]], rounds: int = 15, least: float = 2e-3
) -> dict[str, list[float]]:
    """Milliseconds of each method in every round.

    Args:
        methods: What is timed, by name; each is called once before anything counts.
        rounds: How often each is timed.
        least: Seconds that one timing lasts at least; short calls are repeated within it.
    """
    calls = {}
    for name, method in methods.items():
        method()
        start = time.perf_counter()
        method()
        calls[name] = max(1, round(least / max(time.perf_counter() - start, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                method()
            found[name].append((time.perf_counter() - start) / calls[name] * 1e3)
    return found


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each method."""
    return {name: statistics.median(values) for name, values in times.items()}


def ratio(times: Mapping[str, list[float]], above: str, below: str) -> float:
    """The median over rounds of one method's time divided by another's."""
    pairs = zip(times[above], times[below], strict=True)
    return statistics.median(a / b for a, b in pairs)
