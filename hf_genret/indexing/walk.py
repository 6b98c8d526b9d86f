"""Items served one after another, each with the best code that has a place left."""

from __future__ import annotations

import numpy as np

from hf_genret.indexing.scratch import RowsOf, blocks


def walk(scores_of: RowsOf, order: np.ndarray, room: np.ndarray, extra: int = 0) -> np.ndarray:
    """Give every item, in order, its best code that has a place; ties go to the lower code.

    The walk is taken in strides, from one code that fills up to the next, and a block of items at a
    time: every item is read once.

    Args:
        scores_of: What the given items think of every code, the higher the better, finite.
        order: Item numbers, first come, first served: [m].
        room: Places of each code, int64 [k]; with `extra` at least m together.
        extra: How many codes may take one item more than their places: the first that want to.
            Once they have, every other code closes at its places, so that none is left below them.

    Returns:
        Codes in the order of `order`, int32 [m].
    """
    room = np.array(room, dtype=np.int64)
    codes = np.empty(len(order), dtype=np.int32)
    for places in blocks(len(order), len(room)):
        scores = scores_of(order[places]).astype(np.float64)  # [block, k], closed codes: -inf
        codes[places], extra = _walk_block(scores, room, extra)
    return codes


def _walk_block(ranked: np.ndarray, room: np.ndarray, extra: int) -> tuple[np.ndarray, int]:
    """Codes of one block, and what is left of `extra`; `room` and `ranked` are changed in place."""
    ranked[:, room + (extra > 0) <= 0] = -np.inf
    wish, at = ranked.argmax(axis=1), 0
    while at < len(wish):
        stop = at + _first_full(wish[at:], room + (extra > 0))
        room -= np.bincount(wish[at:stop], minlength=len(room))
        at = stop
        if extra > 0 and room[wish[at - 1]] < 0:
            extra -= 1
        closed = room + (extra > 0) <= 0
        stale = at + np.flatnonzero(closed[wish[at:]])
        ranked[stale[:, None], np.flatnonzero(closed)] = -np.inf
        wish[stale] = ranked[stale].argmax(axis=1)
    return wish.astype(np.int32), extra


def _first_full(wish: np.ndarray, room: np.ndarray) -> int:
    """How many items can be served before, and with, the one that fills a code."""
    order = np.argsort(wish, kind="stable")
    starts = np.searchsorted(wish[order], np.arange(len(room)))
    ends = np.append(starts[1:], len(wish))
    fills = starts + room - 1
    full = (room > 0) & (fills < ends)
    return int(order[fills[full]].min()) + 1 if full.any() else len(wish)
