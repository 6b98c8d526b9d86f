"""Files read line by line, plain or gzipped, with errors that name the line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tqdm.auto import tqdm

from hf_genret.errors import DataError
from hf_genret.notices import Notices

Record = dict[str, object]


@dataclass
class Table:
    """Numbered records and the place they come from, whatever the format was.

    Attributes:
        path: What an error names: a file, or a part of a saved dataset.
        records: Pairs of line (or row) number, from 1, and the record's fields.
        notices: Where it is noted what is left out of the records.
    """

    path: str
    records: Iterable[tuple[int, Record]]
    notices: Notices = field(default_factory=Notices)

    def note(
        self, what: str, *, line: int | None = None, example: str | None = None, count: int = 1
    ) -> None:
        """Note cases of a kind, with the file's name but not its folder: notes go into reports.

        Raises:
            DataError: Where strict reading was asked for.
        """
        self.notices.add(what, path=Path(self.path).name, line=line, example=example, count=count)


def find(folder: Path, stem: str) -> Path | None:
    """`stem` or `stem.gz` in a folder, whichever exists (plain first)."""
    for candidate in (folder / stem, folder / f"{stem}.gz"):
        if candidate.is_file():
            return candidate
    return None


def kind(value: object) -> str:
    """How an error calls the type of a JSON value."""
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), f"{value!r}"[:40])


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines as bytes, numbered from 1; only a newline ends a line (not U+2028 and its like)."""
    number = 0
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line
    except EOFError as error:
        message = "the gzip file ends too early; it is truncated."
        raise DataError(message, path=path, line=number + 1) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        message = f"expected a gzip file, found something else or a damaged one ({error})."
        raise DataError(message, path=path, line=number + 1) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error}).", path=path) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file that are not blank.

    Args:
        path: A text file; `.gz` is unpacked on the way.

    Yields:
        Line number from 1 and the line without its line end.

    Raises:
        DataError: Unreadable, truncated or not UTF-8.
    """
    for number, raw in tqdm(
        _raw_lines(path), desc=f"reading {path.name}", unit=" lines", delay=2, leave=False
    ):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            message = f"expected UTF-8, found byte 0x{raw[error.start]:02x} at {error.start + 1}."
            raise DataError(message, path=path, line=number) from error
        if line.strip():
            yield number, line


def _json_records(path: Path) -> Iterator[tuple[int, Record]]:
    for number, line in read_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            message = f"expected one JSON object a line, found {line[:40]!r}."
            raise DataError(message, path=path, line=number) from error
        if not isinstance(record, dict):
            message = f"expected a JSON object, found {kind(record)}."
            raise DataError(message, path=path, line=number)
        yield number, record


def read_jsonl(path: Path) -> Table:
    """A file of one JSON object a line, read lazily.

    Raises:
        DataError: While iterating, for a line that is not a JSON object.
    """
    return Table(str(path), _json_records(path))
