"""Data that is left out: counted, named, and an error where that is asked for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from hf_genret.errors import DataError, DataWarning


@dataclass
class _Kind:
    """All cases of one kind: how many, and where the first one stands."""

    count: int = 0
    line: int | None = None
    example: str | None = None


@dataclass
class Notices:
    """What was left out while data was read or used, each kind once with its count.

    Attributes:
        strict: Raise at the first case instead of noting it.

    Example:
        >>> notices = Notices()
        >>> notices.add("judgments of unknown documents left out", path="test.tsv", example="d9")
        >>> notices.messages()
        ["test.tsv: 1 judgments of unknown documents left out (the first: 'd9')."]
    """

    strict: bool = False
    _kinds: dict[tuple[str, str], _Kind] = field(default_factory=dict)

    def add(
        self,
        what: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        example: str | None = None,
        count: int = 1,
    ) -> None:
        """Note some cases of a kind.

        Args:
            what: What they are and what became of them, as read after a number.
            path: The file, or part of a dataset, that they stand in.
            line: Where the first of them stands.
            example: What the first of them says, for example an id.
            count: How many.

        Raises:
            DataError: In strict mode, naming path, line and example.
        """
        kind = self._kinds.setdefault((str(path or ""), what), _Kind(0, line, example))
        kind.count += count
        if self.strict:
            message = f"{self.messages()[-1]} This is an error because of strict reading."
            raise DataError(message)

    def messages(self) -> list[str]:
        """One sentence a kind, in the order of their first cases."""
        sentences = []
        for (path, what), kind in self._kinds.items():
            parts = [repr(kind.example)] if kind.example is not None else []
            parts += [f"line {kind.line}"] if kind.line is not None else []
            first = f" (the first: {', '.join(parts)})" if parts else ""
            sentences.append(f"{path + ': ' if path else ''}{kind.count:,} {what}{first}.")
        return sentences

    def warn(self) -> list[str]:
        """Say every sentence on stderr, as a `DataWarning`, and return them."""
        sentences = self.messages()
        for sentence in sentences:
            warnings.warn(sentence, DataWarning, stacklevel=3)
        return sentences
