"""Ids in a file: given by the user, or written for others to read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from hf_genret.data.collecting import UniqueIds, check_id, row_of
from hf_genret.data.reading import Record, Table, kind, read_jsonl, read_lines
from hf_genret.errors import DataError
from hf_genret.files import atomic_write_text

_COLUMNS = ("_id", "docid")
_DOCUMENT = ("_id", "id", "item_id", "document")  # the last as `hf-genret export --ids` writes it
_LARGEST = np.iinfo(np.int32).max - 1  # one less: codes may move up by one


def read_ids(path: str | Path, document_ids: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """An id for every document, from a file.

    A line of a `.tsv` file holds a document's id, a tab and the codes, joined by dashes
    (`d7<TAB>3-17-2`); a first line `_id<TAB>docid` is a header. A line of a `.jsonl` file is an
    object of `_id` and `docid`, a list of codes or the same string. Either may end in `.gz`. What
    `hf-genret export --ids FILE.jsonl` wrote, with `document` for `_id`, is read as well.

    Codes count from 0. Where all ids have the same length they are taken as they are. Otherwise 0
    becomes the code that ends a short id, and **every code of the file goes up by one**: `3-17`
    among ids of three codes is read as 4, 18, 0.

    Args:
        path: The file.
        document_ids: Of the corpus; the codes come in this order.

    Returns:
        Codes, int32 [n, L], and for each level one more than its largest code.

    Raises:
        DataError: With file, line and field: a document that the corpus lacks or that has two
            lines, no document's id, codes that are no whole numbers from 0, a line that cannot be
            read; and, for the file, documents without an id or another ending.
    """
    path = Path(path)
    table = _table(path)
    rows = {identifier: row for row, identifier in enumerate(document_ids)}
    unique = UniqueIds(table, "_id")
    found: list[list[int]] = [[] for _ in document_ids]
    for line, record in table.records:
        field = next((name for name in _DOCUMENT if name in record), _DOCUMENT[0])
        identifier = check_id(record.get(field), table, line, field)
        row = row_of(identifier, rows, table, line, field)
        unique.add(identifier, line)
        found[row] = _codes(record.get("docid"), table, line)
    missing = [document_ids[row] for row, codes in enumerate(found) if not codes]
    if missing or not found:
        named = ", ".join(repr(name) for name in missing[:3]) or "no document at all"
        message = f"expected an id for each of {len(found)} documents, found none for {named}"
        more = f" and {len(missing) - 3} others." if len(missing) > 3 else "."
        raise DataError(message + more, path=path)
    return _padded(found)


def write_ids(path: str | Path, document_ids: Sequence[str], codes: np.ndarray) -> None:
    """Write ids as `read_ids` reads them, whole or not at all.

    Args:
        path: A `.tsv` or `.jsonl` file; missing parents are made.
        document_ids: Of the corpus.
        codes: One id a document, int [n, L], from 0.

    Raises:
        ValueError: When there is not one row of codes from 0 for each document.
        DataError: For another ending, or an id with a tab or line break in a `.tsv` file.
        OSError: When the disk refuses.
    """
    path = Path(path)
    codes = np.asarray(codes)
    if codes.ndim != 2 or len(codes) != len(document_ids) or codes.min(initial=0) < 0:
        raise ValueError(
            f"Expected codes from 0, one row for each of {len(document_ids)} documents, "
            f"found shape {codes.shape} and a smallest code of {codes.min(initial=0)}."
        )
    ending = _ending(path)
    if path.name.endswith(".gz") or ending is None:
        message = "expected a file name that ends in .tsv or .jsonl."
        raise DataError(message, path=path)
    pairs = zip(document_ids, codes.tolist(), strict=True)
    steps = tqdm(pairs, total=len(codes), desc="Writing ids", delay=2, leave=False)
    if ending == "jsonl":
        lines = [json.dumps({"_id": name, "docid": docid}) for name, docid in steps]
    else:
        lines = ["\t".join(_COLUMNS)]
        lines += [f"{_tsv_id(name, path)}\t{'-'.join(map(str, docid))}" for name, docid in steps]
    atomic_write_text(path, "".join(f"{line}\n" for line in lines))


def _ending(path: Path) -> str | None:
    """`tsv` or `jsonl`, whatever packs it."""
    ending = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    return {"tsv": "tsv", "jsonl": "jsonl", "ndjson": "jsonl"}.get(ending)


def _table(path: Path) -> Table:
    ending = _ending(path)
    if ending is None:
        raise DataError("expected a file of ids that ends in .tsv or .jsonl (or .gz).", path=path)
    return read_jsonl(path) if ending == "jsonl" else Table(str(path), _tsv_records(path))


def _tsv_records(path: Path) -> Iterator[tuple[int, Record]]:
    for line, text in read_lines(path):
        parts = [part.strip() for part in text.split("\t")]
        if line == 1 and parts[0] in _DOCUMENT and parts[1:] == ["docid"]:
            continue
        if len(parts) != len(_COLUMNS):
            message = f"expected a document's id, a tab and its codes, found {text[:40]!r}."
            raise DataError(message, path=path, line=line)
        yield line, dict(zip(_COLUMNS, parts, strict=True))


def _tsv_id(identifier: str, path: Path) -> str:
    if any(mark in identifier for mark in "\t\n\r"):
        message = f"document id {identifier!r} holds a tab or a line break: write a .jsonl file."
        raise DataError(message, path=path, field="_id")
    return identifier


def _codes(value: object, table: Table, line: int) -> list[int]:
    """The codes of one line."""
    parts = value.strip().split("-") if isinstance(value, str) else value
    if not isinstance(parts, list):
        message = f"expected codes as a list or as 3-17-2, found {kind(value)}."
        raise DataError(message, path=table.path, line=line, field="docid")
    if not parts or parts == [""]:
        raise DataError("expected codes, found none.", path=table.path, line=line, field="docid")
    codes = []
    for part in parts:
        code = _code(part)
        if code is None:
            message = (
                f"expected codes that are whole numbers from 0 to {_LARGEST}, "
                f"found {repr(part)[:40]} in {json.dumps(value)[:60]}."
            )
            raise DataError(message, path=table.path, line=line, field="docid")
        codes.append(code)
    return codes


def _code(part: object) -> int | None:
    """A code, None where it is none."""
    if isinstance(part, str) and part.isascii() and part.isdigit() and len(part) <= 10:
        part = int(part)
    if isinstance(part, bool) or not isinstance(part, int) or not 0 <= part <= _LARGEST:
        return None
    return part


def _padded(found: list[list[int]]) -> tuple[np.ndarray, list[int]]:
    """Ids as one matrix and its sizes; lengths that differ make 0 the end and the rest go up."""
    levels = max(map(len, found))
    shift = int(min(map(len, found)) < levels)
    codes = np.zeros((len(found), levels), dtype=np.int32)
    for row, numbers in enumerate(found):
        codes[row, : len(numbers)] = numbers
        codes[row, : len(numbers)] += shift
    return codes, (codes.max(axis=0) + 1).tolist()
