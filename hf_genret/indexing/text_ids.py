"""Ids that are words, and ids that are mere numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tqdm.auto import tqdm

END = 0
"""The code that ends an id shorter than the number of levels."""

_BATCH = 4096  # titles that the tokenizer gets at once


def title_codes(
    titles: Sequence[str], tokenize: Callable[[list[str]], list[list[int]]], *, levels: int
) -> tuple[np.ndarray, list[int]]:
    """The first tokens of each title as its id (GENRE and its like, with ids of fixed length).

    Tokens are numbered anew from 1, the most frequent first and equals by their own number, in one
    numbering for all levels, so that heads can be shared. A title with fewer tokens ends with the
    code 0, an empty one is 0 throughout; titles that begin alike share an id.

    Args:
        titles: One a document: a title, or whatever text shall name it where there is none.
        tokenize: Texts to token numbers, without special tokens.
        levels: Tokens an id keeps.

    Returns:
        Codes, int32 [n, levels], and the codes of each level: `levels` times 1 + the number of
        different tokens that are kept.

    Raises:
        ValueError: When `levels` is below 1, there is no title, or the tokenizer returns another
            number of texts.
    """
    if levels < 1 or not len(titles):
        raise ValueError(
            f"Expected at least 1 level and 1 title, "
            f"found {levels} levels and {len(titles)} titles."
        )
    tokens = np.full((len(titles), levels), -1, dtype=np.int64)
    for at in tqdm(range(0, len(titles), _BATCH), desc="Titles", delay=2, leave=False):
        batch = list(titles[at : at + _BATCH])
        found = tokenize(batch)
        if len(found) != len(batch):
            raise ValueError(f"Expected tokens of {len(batch)} texts, found {len(found)}.")
        for row, numbers in enumerate(found, start=at):
            kept = numbers[:levels]
            tokens[row, : len(kept)] = kept
    return _renumbered(tokens)


def _renumbered(tokens: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Codes of tokens [n, levels], -1 where a title has ended."""
    present = tokens >= 0
    names, place, counts = np.unique(tokens[present], return_inverse=True, return_counts=True)
    rank = np.empty(len(names), dtype=np.int32)
    rank[np.argsort(-counts, kind="stable")] = np.arange(1, len(names) + 1)
    codes = np.full(tokens.shape, END, dtype=np.int32)
    codes[present] = rank[place]
    return codes, [len(names) + 1] * tokens.shape[1]


def atomic_codes(n: int) -> tuple[np.ndarray, list[int]]:
    """One level with a code for every document (the atomic ids of DSI).

    Args:
        n: Number of documents.

    Returns:
        Codes, int32 [n, 1], and the codes of the level, [n].

    Raises:
        ValueError: When there is no document.
    """
    if n < 1:
        raise ValueError(f"Expected at least 1 document, found {n}.")
    return np.arange(n, dtype=np.int32)[:, None], [n]
