"""Plain jsonl: one file of documents, and queries that carry their judgments."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hf_genret.data.collecting import (
    QUERY_ID,
    QUERY_TEXT,
    SPLIT_NAMES,
    UniqueIds,
    check_id,
    check_text,
    split_name,
)
from hf_genret.data.folder import data_files
from hf_genret.data.layout import Options, Parts
from hf_genret.data.reading import Record, Table, find, kind
from hf_genret.data.schema import Documents, Queries
from hf_genret.errors import DataError

ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


def _is_jsonl_file(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(ENDINGS)


def corpus_file(path: Path) -> Path | None:
    """The file itself, documents.jsonl[.gz] of a folder, or the folder's only other jsonl file."""
    if _is_jsonl_file(path):
        return path
    if not path.is_dir():
        return None
    named = find(path, "documents.jsonl")
    judging = {file.path for file in data_files(path) if file.role in ("queries", "qrels")}
    others = [f for f in sorted(path.iterdir()) if _is_jsonl_file(f) and f not in judging]
    return named or (others[0] if len(others) == 1 else None)


def _queries_file(path: Path) -> Path | None:
    """queries.jsonl[.gz] of a folder."""
    files = data_files(path)
    named = [file for file in files if file.role == "queries" and not file.split and file.is_jsonl]
    return named[0].path if named else None


def is_jsonl(path: Path) -> bool:
    """Whether a path is a jsonl file or a folder with one."""
    return corpus_file(path) is not None


def jsonl_documents(path: Path, options: Options) -> Documents:
    """The documents, one a line."""
    corpus = corpus_file(path)
    assert corpus is not None  # is_jsonl found it
    return options.documents(options.jsonl(corpus))


@dataclass
class _Split:
    """A split under construction."""

    ids: list[str] = field(default_factory=list)
    relevant: list[dict[int, float]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    histories: list[np.ndarray] = field(default_factory=list)

    def queries(self) -> Queries:
        return Queries(
            ids=self.ids,
            relevant=self.relevant,
            texts=self.texts if any(self.texts) else None,
            histories=self.histories if any(map(len, self.histories)) else None,
        )


class _Reader:
    """Turns the lines of queries.jsonl into splits."""

    def __init__(self, table: Table, documents: Documents, max_history: int) -> None:
        self.table, self.max_history = table, max_history
        self.rows = {identifier: row for row, identifier in enumerate(documents.ids)}
        self.unique = UniqueIds(table, "_id")
        self.splits: dict[str, _Split] = {}

    def _fail(self, message: str, line: int, field_name: str) -> DataError:
        return DataError(message, path=self.table.path, line=line, field=field_name)

    def _rows(self, record: Record, line: int, name: str) -> list[int]:
        """The documents that a list names; those that the corpus lacks are left out."""
        value = record.get(name)
        if not isinstance(value, list):
            raise self._fail(f"expected a list of document ids, found {kind(value)}.", line, name)
        identifiers = [check_id(one, self.table, line, name) for one in value]
        for identifier in identifiers:
            if identifier not in self.rows:
                what = f"documents of '{name}' left out, since the corpus lacks them"
                self.table.note(what, line=line, example=identifier)
        return [self.rows[one] for one in identifiers if one in self.rows]

    def add(self, line: int, record: Record) -> None:
        """One query into its split; one that asks for nothing or finds nothing is left out."""
        split = split_name(record.get("split"))
        if split is None:
            message = f"expected one of {', '.join(SPLIT_NAMES)}, found {record.get('split')!r}."
            raise self._fail(message, line, "split")
        # Nothing refers to a query by its id here, so that the line may serve as one.
        identifier = next((record[name] for name in QUERY_ID if name in record), line)
        identifier = check_id(identifier, self.table, line, "_id")
        self.unique.add(identifier, line)
        text = next((record[name] for name in QUERY_TEXT if name in record), None)
        text = check_text(text, self.table, line, "text")
        history = self._rows(record, line, "history") if "history" in record else []
        relevant = self._rows(record, line, "relevant")
        if not text and not history:
            what = "queries with neither text nor history left out"
            return self.table.note(what, line=line, example=identifier)
        if not relevant:
            what = "queries without a relevant document left out"
            return self.table.note(what, line=line, example=identifier)
        target = self.splits.setdefault(split, _Split())
        target.ids.append(identifier)
        target.texts.append(text)
        target.relevant.append(dict.fromkeys(relevant, 1.0))
        target.histories.append(np.asarray(history[-self.max_history :], dtype=np.int64))


def judged_splits(file: Path, documents: Documents, options: Options) -> Parts:
    """The splits of a jsonl file of queries that carry their judgments.

    A line holds `text`, `relevant` (document ids) and `split`, and may hold `_id` and `history`
    (document ids, oldest first).

    Raises:
        DataError: For anything wrong in the queries, with the line.
    """
    table = options.jsonl(file)
    reader = _Reader(table, documents, options.max_history)
    for line, record in table.records:
        reader.add(line, record)
    if not reader.splits:
        raise DataError("expected queries with relevant documents, found none.", path=file)
    return Parts({name: split.queries() for name, split in reader.splits.items()})


def jsonl_splits(path: Path, documents: Documents, options: Options) -> Parts:
    """The splits of queries.jsonl[.gz]; a corpus alone has none.

    Raises:
        DataError: For anything wrong in the queries, with the line.
    """
    file = _queries_file(path)
    return Parts() if file is None else judged_splits(file, documents, options)
