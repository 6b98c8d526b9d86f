"""What the page accepts: sizes of inputs and searches at the same time."""

from __future__ import annotations

from typing import Any

LONGEST_QUERY = 2_000
"""Characters read of a query."""
MOST_HITS = 50
"""Results of one search."""
LONGEST_FILTER = 20_000
"""Characters read of a filter's value."""
MOST_IDS = 1_000
"""Ids in a filter."""
MOST_TILES = 256
"""Children of a prefix shown side by side."""
MOST_ARCS = 3_000
"""Grandchildren of a prefix drawn around them."""
AT_ONCE = 2
"""Searches running at the same time."""
WAITING = 64
"""Searches waiting for their turn; more are turned away."""


def clean_query(query: Any) -> tuple[str, bool]:
    """A query on one line, and whether it had to be cut."""
    text = " ".join(str(query or "")[: 2 * LONGEST_QUERY].split())
    cut = len(str(query or "")) > 2 * LONGEST_QUERY or len(text) > LONGEST_QUERY
    return text[:LONGEST_QUERY], cut


def clean_k(k: Any) -> int:
    """A number of results between 1 and `MOST_HITS`, 10 for what is none."""
    try:
        return max(1, min(MOST_HITS, int(k)))
    except (TypeError, ValueError, OverflowError):
        return 10
