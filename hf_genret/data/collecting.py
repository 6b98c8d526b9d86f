"""Records checked on the way in: documents, query texts and judgments, from any format."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hf_genret.columns import as_json, column_kind, completed, kinds_of
from hf_genret.data.reading import Record, Table, kind
from hf_genret.data.schema import Documents, Queries
from hf_genret.errors import ConfigError, DataError

#: How a list of strings (for example categories, widest first) becomes one string.
LIST_JOINER = " > "

#: The split that each accepted name means.
SPLIT_NAMES = {
    "train": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "test": "test",
}


@dataclass(frozen=True)
class CorpusFields:
    """The columns that a document's id, title and text may stand in, first found first used."""

    id: tuple[str, ...] = ("_id", "id")
    title: tuple[str, ...] = ("title",)
    text: tuple[str, ...] = ("text",)

    def mapped(self, field_map: Mapping[str, str] | None) -> CorpusFields:
        """The same with columns named by the user.

        Args:
            field_map: `id`, `title` or `text` -> name of the column that holds it.

        Raises:
            ConfigError: For any other key.
        """
        known = {"id": "id", "_id": "id", "title": "title", "text": "text"}
        unknown = sorted(set(field_map or {}) - set(known))
        if unknown:
            raise ConfigError(
                f"corpus_field_map has '{unknown[0]}'; it can name the columns of: id, title, text."
            )
        return replace(self, **{known[key]: (name,) for key, name in (field_map or {}).items()})


def check_text(value: object, table: Table, line: int, field: str) -> str:
    """A value as stripped text; null is empty.

    Raises:
        DataError: When it is no string, or holds half a surrogate pair.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        message = f"expected a string, found {kind(value)}."
        raise DataError(message, path=table.path, line=line, field=field)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        message = "expected valid Unicode, found half a surrogate pair."
        raise DataError(message, path=table.path, line=line, field=field) from error
    return value.strip()


def check_id(value: object, table: Table, line: int, field: str) -> str:
    """A value as an id; whole numbers are written out.

    Raises:
        DataError: When it is missing, empty or of another type.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    found = check_text(value, table, line, field)
    if not found:
        message = "expected an id, found none."
        raise DataError(message, path=table.path, line=line, field=field)
    return found


def _first(record: Record, names: tuple[str, ...]) -> tuple[str, object]:
    """The first of the columns that the record has, and its value."""
    for name in names:
        if name in record:
            return name, record[name]
    return names[0], None


def _extra_value(value: object, table: Table, line: int, field: str) -> Any:
    """A further column's value as JSON holds it; a list of texts (categories) as one text.

    Raises:
        DataError: When it holds half a surrogate pair.
        TypeError: When JSON cannot hold it.
    """
    value = as_json(value)
    if isinstance(value, str):
        return check_text(value, table, line, field)
    if value and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return LIST_JOINER.join(check_text(part, table, line, field) for part in value)
    if isinstance(value, dict | list):
        check_text(json.dumps(value, ensure_ascii=False), table, line, field)
    return value


class UniqueIds:
    """The ids seen so far with their lines, to name both places of a duplicate."""

    def __init__(self, table: Table, field: str) -> None:
        self.table, self.field = table, field
        self.lines: dict[str, int] = {}

    def add(self, identifier: str, line: int) -> None:
        """One more id.

        Raises:
            DataError: When an earlier line has it.
        """
        first = self.lines.setdefault(identifier, line)
        if first != line:
            message = f"expected unique ids, found '{identifier}' which line {first} has already."
            raise DataError(message, path=self.table.path, line=line, field=self.field)


def checked_documents(
    table: Table, fields: CorpusFields | None = None
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Documents from records, one after another; further columns are extra.

    Args:
        table: One record a document.
        fields: Where id, title and text stand.

    Yields:
        Id, title, text and the extra columns that the record has.

    Raises:
        DataError: A duplicate or missing id, or a document without text.
    """
    fields = fields or CorpusFields()
    own = {*fields.id, *fields.title, *fields.text}
    seen = UniqueIds(table, fields.id[0])
    for line, record in table.records:
        id_field, value = _first(record, fields.id)
        identifier = check_id(value, table, line, id_field)
        seen.add(identifier, line)
        (title_field, title), (text_field, text) = (
            _first(record, fields.title),
            _first(record, fields.text),
        )
        title = check_text(title, table, line, title_field)
        text = check_text(text, table, line, text_field)
        if not title and not text:
            message = f"expected a text or a title, document '{identifier}' has neither."
            raise DataError(message, path=table.path, line=line, field=text_field)
        extra: dict[str, Any] = {}
        for name in record.keys() - own:
            try:
                extra[name] = _extra_value(record[name], table, line, name)
            except TypeError as error:
                what = f"values beside documents left out, of a type that JSON lacks ({error})"
                table.note(what, line=line, example=name)
        yield identifier, title, text, extra


def collect_documents(table: Table, fields: CorpusFields | None = None) -> Documents:
    """Documents from records; further columns go to `extra`, with their values' types.

    Args:
        table: One record a document.
        fields: Where id, title and text stand.

    Raises:
        DataError: Duplicate or missing ids, a document without text, or no document at all.
    """
    ids: list[str] = []
    titles: list[str] = []
    texts: list[str] = []
    extra: dict[str, dict[int, Any]] = defaultdict(dict)
    for identifier, title, text, further in checked_documents(table, fields):
        for name, value in further.items():
            extra[name][len(ids)] = value
        ids.append(identifier)
        titles.append(title)
        texts.append(text)
    if not ids:
        raise DataError("expected documents, found none.", path=table.path)
    columns: dict[str, list[Any]] = {}
    for name in sorted(extra):
        values = extra.pop(name)
        kind = column_kind(kinds_of(values.values()))
        columns[name] = completed(map(values.get, range(len(ids))), kind)
    return Documents(ids, titles, texts, columns)


def collect_query_texts(table: Table) -> dict[str, str]:
    """Query id -> text.

    Raises:
        DataError: Duplicate or missing ids, or a query without text.
    """
    found: dict[str, str] = {}
    seen = UniqueIds(table, "_id")
    for line, record in table.records:
        id_field, value = _first(record, ("_id", "id"))
        identifier = check_id(value, table, line, id_field)
        seen.add(identifier, line)
        text = check_text(record.get("text"), table, line, "text")
        if not text:
            message = f"expected a text, query '{identifier}' has none."
            raise DataError(message, path=table.path, line=line, field="text")
        found[identifier] = text
    return found


def row_of(identifier: str, rows: Mapping[str, int], table: Table, line: int, field: str) -> int:
    """The row of a document id.

    Raises:
        DataError: When the corpus has no such document.
    """
    row = rows.get(identifier)
    if row is None:
        message = f"expected the id of a document, found '{identifier}' which the corpus lacks."
        raise DataError(message, path=table.path, line=line, field=field)
    return row


def _score(value: object, table: Table, line: int) -> float:
    try:
        score = float(value)  # type: ignore[arg-type]  # whatever else it is raises TypeError
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        message = f"expected a number, found '{value}'."
        raise DataError(message, path=table.path, line=line, field="score")
    return score


def collect_judgments(
    table: Table, query_texts: Mapping[str, str], rows: Mapping[str, int]
) -> tuple[Queries, int]:
    """One split from records of `query-id`, `corpus-id` and `score`.

    Judgments of 0 or less are not relevant; a query that has no other is left out.

    Args:
        table: One record a judgment.
        query_texts: Texts of all queries by id.
        rows: Rows of all documents by id.

    Returns:
        The queries in order of appearance, and how many were left out.

    Raises:
        DataError: Unknown ids, scores that are no numbers, contradictions, or an empty split.
    """
    scores: dict[str, dict[int, float]] = {}
    for line, record in table.records:
        query = check_id(record.get("query-id"), table, line, "query-id")
        if query not in query_texts:
            message = f"expected the id of a query, found '{query}' which the queries lack."
            raise DataError(message, path=table.path, line=line, field="query-id")
        document = check_id(record.get("corpus-id"), table, line, "corpus-id")
        row = row_of(document, rows, table, line, "corpus-id")
        score = _score(record.get("score"), table, line)
        if scores.setdefault(query, {}).setdefault(row, score) != score:
            message = f"query '{query}' and document '{document}' have another score further up."
            raise DataError(message, path=table.path, line=line, field="score")
    relevant = {q: {r: s for r, s in gains.items() if s > 0} for q, gains in scores.items()}
    kept = [query for query, gains in relevant.items() if gains]
    if not kept:
        found = "none above 0" if scores else "none"
        raise DataError(f"expected judgments above 0, found {found}.", path=table.path)
    queries = Queries(
        ids=kept,
        relevant=[relevant[query] for query in kept],
        texts=[query_texts[query] for query in kept],
    )
    return queries, len(relevant) - len(kept)


def left_out_note(split: str, count: int) -> list[str]:
    """The note about queries without a judgment above 0, none where there are none."""
    if not count:
        return []
    return [f"{split}: {count} queries without a judgment above 0 were left out."]


def split_name(value: object) -> str | None:
    """`train`, `dev` or `test` for an accepted name of a split, None for anything else."""
    return SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
