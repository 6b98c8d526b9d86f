"""What identifies data whatever its files are called: a hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from hf_genret.data.schema import Documents, Queries

DIGITS = 16


class _Hash:
    """SHA-256 over columns; lengths are hashed too, so that no two contents run together."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def strings(self, column: Sequence[str]) -> None:
        # Read twice, since a streamed column is not held: the lengths come first.
        self.numbers(np.fromiter((len(text.encode("utf-8")) for text in column), dtype=np.int64))
        for text in column:
            self._sha.update(text.encode("utf-8"))

    def numbers(self, values: list[int] | np.ndarray) -> None:
        array = np.asarray(values, dtype="<i8")
        self._sha.update(len(array).to_bytes(8, "little") + array.tobytes())

    def gains(self, relevant: list[dict[int, float]]) -> None:
        self.numbers([len(gains) for gains in relevant])
        pairs = [pair for gains in relevant for pair in sorted(gains.items())]
        self.numbers([row for row, _ in pairs])
        self._sha.update(np.asarray([gain for _, gain in pairs], dtype="<f8").tobytes())

    def hexdigest(self) -> str:
        return self._sha.hexdigest()[:DIGITS]


def _add_queries(sha: _Hash, queries: Queries) -> None:
    sha.strings(queries.ids)
    sha.gains(queries.relevant)
    if queries.texts is not None:
        sha.strings(queries.texts)
    if queries.histories is not None:
        sha.numbers([len(history) for history in queries.histories])
        sha.numbers(np.concatenate([np.empty(0, np.int64), *queries.histories]))


def fingerprint(documents: Documents, splits: Mapping[str, Queries]) -> str:
    """First 16 hex digits of SHA-256 over ids, texts, judgments and histories.

    Args:
        documents: The corpus.
        splits: Its queries; the order of the splits does not matter.
    """
    sha = _Hash()
    for column in (documents.ids, documents.titles, documents.texts):
        sha.strings(column)
    for name in sorted(splits):
        sha.strings([name])
        _add_queries(sha, splits[name])
    return sha.hexdigest()
