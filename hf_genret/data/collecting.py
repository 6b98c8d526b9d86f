"""Records checked on the way in: documents and query texts, from any format."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hf_genret.columns import RESERVED, as_json, column_kind, completed, kinds_of
from hf_genret.data.reading import Record, Table, kind
from hf_genret.data.schema import Documents
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


#: Columns that often hold the text where none is called `text`.
BODIES = (
    *("body", "content", "contents", "description", "abstract", "passage", "document"),
    *("article", "summary", "full_text"),
)
QUERY_ID = ("_id", "id", "query-id", "query_id", "qid")
QUERY_TEXT = ("text", "query")


@dataclass(frozen=True)
class CorpusFields:
    """The columns that a document's id, title and text may stand in, first found first used.

    Attributes:
        id: Of the id.
        title: Of the title.
        text: Of the text.
        named: Which of the three the user named, so that their column has to be there.
        titles_do: Whether titles alone are as good as texts, as they are of items.
    """

    id: tuple[str, ...] = ("_id", "id", "item_id")
    title: tuple[str, ...] = ("title",)
    text: tuple[str, ...] = ("text",)
    named: tuple[str, ...] = ()
    titles_do: bool = False

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
        columns = {known[key]: (name,) for key, name in (field_map or {}).items()}
        return replace(self, named=tuple(columns), **columns)  # type: ignore[arg-type]


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


class _Columns:
    """What the columns of a corpus held, judged when its last record was read."""

    def __init__(self, table: Table, fields: CorpusFields) -> None:
        self.table, self.fields = table, fields
        self.names: dict[str, None] = {}
        self.bodies: dict[str, None] = {}  # likely texts under another name
        self.documents = self.titles = self.texts = 0

    def see(self, record: Record, title: str, text: str) -> None:
        """One more record."""
        self.names.update(dict.fromkeys(record))
        self.documents += 1
        self.titles += bool(title)
        self.texts += bool(text)
        if not self.texts:
            self.bodies.update((name, None) for name in BODIES if _is_text(record.get(name)))

    def check(self) -> None:
        """Judge them.

        Raises:
            DataError: A column that the user named and no record has, or neither title nor text
                in any.
        """
        for field in self.fields.named:
            (column,) = getattr(self.fields, field)
            if self.documents and column not in self.names:
                message = f"no record has this column, named for the {field}; {_there(self.names)}."
                raise DataError(message, path=self.table.path, field=column)
        if self.texts or not self.documents:
            return
        own = {*self.fields.title, *self.fields.text}
        likely = [name for name in self.bodies if name not in own]
        hint = f"; '{likely[0]}' may hold it: --columns text={likely[0]}" if likely else ""
        column = self.fields.text[0]
        if not self.titles:
            message = (
                f"expected a text or a title, no document has either{hint}; {_there(self.names)}."
            )
            raise DataError(message, path=self.table.path, field=column)
        if hint or not self.fields.titles_do:
            what = f"documents and none with a text in the column '{column}'{hint}"
            self.table.note(what, count=self.documents)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _stored_name(name: str, record: Record, table: Table, line: int) -> str:
    """What a further column is called beside the document's id, title and text."""
    if name not in RESERVED:
        return name
    stored = f"{name}_2"
    if stored in record:
        message = f"expected no such column, since '{name}' beside the document's own goes by it."
        raise DataError(message, path=table.path, line=line, field=stored)
    what = f"values of the column '{name}' are kept as '{stored}', for the {name} is in another"
    table.note(what, line=line)
    return stored


def checked_documents(
    table: Table, fields: CorpusFields | None = None
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Documents from records, one after another; further columns are extra.

    A document with neither title nor text is kept, since judgments and histories may name it, and
    noted. A further column that is called as one of the stored ones is kept under another name.

    Args:
        table: One record a document.
        fields: Where id, title and text stand.

    Yields:
        Id, title, text and the extra columns that the record has.

    Raises:
        DataError: A duplicate or missing id, a column that was named and is nowhere, or no text
            and title in any document.
    """
    fields = fields or CorpusFields()
    seen, columns = UniqueIds(table, fields.id[0]), _Columns(table, fields)
    for line, record in table.records:
        id_field, value = _first(record, fields.id)
        if id_field not in record:
            message = f"expected an id, found none; {_there(record)}."
            raise DataError(message, path=table.path, line=line, field=id_field)
        identifier = check_id(value, table, line, id_field)
        seen.add(identifier, line)
        (title_field, title), (text_field, text) = (
            _first(record, fields.title),
            _first(record, fields.text),
        )
        title = check_text(title, table, line, title_field)
        text = check_text(text, table, line, text_field)
        columns.see(record, title, text)
        if not title and not text:
            what = "documents with neither title nor text; they are kept"
            table.note(what, line=line, example=identifier)
        extra: dict[str, Any] = {}
        for name in record.keys() - {id_field, title_field, text_field}:
            try:
                value = _extra_value(record[name], table, line, name)
            except TypeError as error:
                what = f"values beside documents left out, of a type that JSON lacks ({error})"
                table.note(what, line=line, example=name)
                continue
            if name in fields.id and str(value) == identifier:
                continue
            if name in RESERVED and value in ("", None):
                continue
            extra[_stored_name(name, record, table, line)] = value
        yield identifier, title, text, extra
    columns.check()


def collect_documents(table: Table, fields: CorpusFields | None = None) -> Documents:
    """Documents from records; further columns go to `extra`, with their values' types.

    Args:
        table: One record a document.
        fields: Where id, title and text stand.

    Raises:
        DataError: As `checked_documents`, or no document at all.
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


def collect_query_texts(tables: Iterable[Table]) -> dict[str, str]:
    """Query id -> text; queries without a text are left out and noted.

    Args:
        tables: One record a query each; the same query may stand in several.

    Raises:
        DataError: Duplicate or missing ids, two texts of one id, or a table of queries without
            any text.
    """
    texts: dict[str, str] = {}
    for table in tables:
        seen = UniqueIds(table, "_id")
        columns: dict[str, None] = {}
        for line, record in table.records:
            columns.update(dict.fromkeys(record))
            id_field, value = _first(record, QUERY_ID)
            identifier = check_id(value, table, line, id_field)
            seen.add(identifier, line)
            text_field, value = _first(record, QUERY_TEXT)
            text = check_text(value, table, line, text_field)
            if not text:
                table.note("queries without a text left out", line=line, example=identifier)
            elif texts.setdefault(identifier, text) != text:
                message = f"query '{identifier}' has another text in another file."
                raise DataError(message, path=table.path, line=line, field=text_field)
        if columns and not any(identifier in texts for identifier in seen.lines):
            message = f"expected queries with a text, found none; {_there(columns)}."
            raise DataError(message, path=table.path, field=QUERY_TEXT[0])
    return texts


def _there(columns: Iterable[str]) -> str:
    return f"columns there are: {', '.join(map(str, columns))}"


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


def split_name(value: object) -> str | None:
    """`train`, `dev` or `test` for an accepted name of a split, None for anything else."""
    return SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
