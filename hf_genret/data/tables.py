"""Lines parted into columns: judgments and queries from .tsv, .csv and .txt, header or not."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from hf_genret.data.collecting import QUERY_ID, QUERY_TEXT
from hf_genret.data.judgments import COLUMNS, judged_columns, names_all
from hf_genret.data.reading import Record, Table, read_lines
from hf_genret.errors import DataError
from hf_genret.notices import Notices

Row = tuple[int, list[str]]

_TREC = 4  # columns: query, iteration, document, judgment


def _delimiter(line: str) -> str | None:
    """What parts a line: a tab where there is one, else whichever of , and ; comes first."""
    if "\t" in line:
        return "\t"
    mark = re.search("[,;]", line)
    return mark.group() if mark else None


def _csv_rows(lines: Iterator[tuple[int, str]], delimiter: str, path: Path) -> Iterator[Row]:
    """Rows whose cells may be quoted, also over several lines; the number is the last line's."""
    number = 0

    def texts() -> Iterator[str]:
        nonlocal number
        for line, text in lines:
            number = line
            yield f"{text}\n"

    try:
        for cells in csv.reader(texts(), delimiter=delimiter):
            yield number, cells
    except csv.Error as error:
        raise DataError(f"expected a table ({error}).", path=path, line=number) from error


def _rows(path: Path, blanks: bool = False) -> Iterator[Row]:
    """The rows of a file, parted as its first line is.

    Args:
        path: The file.
        blanks: Whether blanks part columns where nothing else does.
    """
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        return
    delimiter = _delimiter(first[1])
    lines = itertools.chain([first], lines)
    if delimiter in (",", ";"):
        yield from _csv_rows(lines, delimiter, path)
        return
    part: Callable[[str], list[str]] = str.split if blanks and delimiter is None else _by_tab
    yield from ((line, part(text)) for line, text in lines)


def _by_tab(text: str) -> list[str]:
    return [cell.strip() for cell in text.split("\t")]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_judgments(path: Path, notices: Notices) -> Table:
    """Judgments of a table as records of `query-id`, `corpus-id` and `score`.

    A header names the columns, which may stand in any order. Without one they are `query-id`,
    `corpus-id`, `score`, or TREC's four with an iteration after the query. Tabs part them, or
    commas or semicolons; blanks where there is none of these in the first line.

    Args:
        path: The file.
        notices: Where it is noted what is left out.

    Raises:
        DataError: While iterating, for a header without one of the three columns and rows of
            another length.
    """
    table = Table(str(path), [], notices)
    table.records = _judgments(table, path)
    return table


def _judgments(table: Table, path: Path) -> Iterator[tuple[int, Record]]:
    rows = _rows(path, blanks=True)
    first = next(rows, None)
    if first is None:
        return
    line, names = first
    if not any(map(_is_number, names)) or names_all(names):
        found = judged_columns(names, table, line)
        places = [names.index(found[column]) for column in COLUMNS]
    elif len(names) in (len(COLUMNS), _TREC):
        places = [0, 1, 2] if len(names) == len(COLUMNS) else [0, 2, 3]
        rows = itertools.chain([first], rows)
    else:
        message = f"expected {', '.join(COLUMNS)} parted by tabs, found {len(names)} columns."
        raise DataError(message, path=path, line=line)
    for line, cells in rows:
        if len(cells) != len(names):
            message = f"expected {len(names)} columns as in the first line, found {len(cells)}."
            raise DataError(message, path=path, line=line)
        yield line, {name: cells[at] for name, at in zip(COLUMNS, places, strict=True)}


def read_query_table(path: Path, notices: Notices) -> Table:
    """Queries of a table as records of `_id` and `text`; a header may name other columns, too.

    Args:
        path: A .tsv or .txt file (id, a tab, the text as it is) or a .csv file.
        notices: Where it is noted what is left out.

    Raises:
        DataError: While iterating, for a row of another form.
    """
    return Table(str(path), _queries(path), notices)


def _queries(path: Path) -> Iterator[tuple[int, Record]]:
    is_csv = path.name.lower().removesuffix(".gz").endswith(".csv")
    rows = _rows(path) if is_csv else ((n, text.split("\t")) for n, text in read_lines(path))
    names = ["_id", "text"]
    for number, (line, cells) in enumerate(rows):
        if number == 0 and (header := _query_header(cells)) is not None:
            names = header
            continue
        if len(cells) > len(names) and not is_csv:  # tabs that belong to the text
            cells[len(names) - 1 :] = ["\t".join(cells[len(names) - 1 :])]
        if len(cells) != len(names):
            mark, there = ("a comma", ",".join(cells)) if is_csv else ("a tab", "\t".join(cells))
            message = f"expected an id, {mark} and a text, found {there[:40]!r}."
            raise DataError(message, path=path, line=line)
        yield line, dict(zip(names, cells, strict=True))


def _query_header(cells: list[str]) -> list[str] | None:
    """The names of a header that names id and text; None where the first row is a query."""
    names = [cell.strip().lower() for cell in cells]
    named = any(name in QUERY_ID for name in names) and any(name in QUERY_TEXT for name in names)
    return names if named else None
