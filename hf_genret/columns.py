"""Columns beside title and text: what their values may be, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from hf_genret.errors import DataError

RESERVED = ("id", "title", "text")
"""Columns that every document has; no other may be called so."""
TEXT, JSON = "text", "json"
_NOTHING_LISTED = "nothing listed"  # a list without entries: of texts, as far as it says
_ARROW = {
    TEXT: pa.large_string(),
    "whole number": pa.int64(),
    "number": pa.float64(),
    "truth value": pa.bool_(),
    JSON: pa.large_string(),
}
_KINDS = {str: TEXT, int: "whole number", float: "number", bool: "truth value"}
_AS_JSON = {b"genret": b"json"}  # beside a field of Arrow: its texts are JSON
_SCALARS = (type(None), *_KINDS)


def as_json(value: Any) -> Any:
    """A value as JSON holds it: objects, lists, texts, numbers, truth values and null.

    A tuple becomes a list, an array or a tensor a list or a number, a date its ISO form, a decimal
    number the nearest binary one.

    Raises:
        TypeError: For anything else.
    """
    if type(value) in _SCALARS:
        return value
    try:
        return json.loads(json.dumps(value, default=_simpler))
    except (ValueError, RecursionError) as error:  # one that holds itself, or is nested too deep
        raise TypeError(f"{type(value).__name__} ({error})") from error


def _simpler(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(type(value).__name__)


def kinds_of(values: Iterable[Any]) -> set[str]:
    """The kinds that occur in (a part of) a column; null is of none."""
    return {_kind(value) for value in values if value is not None}


def _kind(value: Any) -> str:
    if type(value) is int and not -(2**63) <= value < 2**63:
        return JSON
    if isinstance(value, list) and not value:
        return _NOTHING_LISTED
    return _KINDS.get(type(value), JSON)


def stored_kind(kinds: Collection[str]) -> str:
    """How values of these kinds are written one beside the other: as they are, or as JSON."""
    first = next(iter(kinds), JSON)
    return first if len(kinds) == 1 and first in _ARROW else JSON


def column_kind(kinds: Collection[str]) -> str:
    """What a whole column is: one of the plain kinds where all values are of it, else JSON."""
    is_text = kinds and {TEXT, _NOTHING_LISTED}.issuperset(kinds)
    return TEXT if is_text else stored_kind(kinds)


def completed(values: Iterable[Any], kind: str) -> list[Any]:
    """The values of a column of a kind: a text that is missing is empty, anything else None."""
    if kind != TEXT:
        return list(values)
    return ["" if value is None or value == [] else value for value in values]


def arrow_field(name: str, kind: str) -> pa.Field:
    """A column of a kind as Arrow, and so Parquet, declares it."""
    return pa.field(name, _ARROW[kind], metadata=_AS_JSON if kind == JSON else None)


def arrow_array(values: Iterable[Any], kind: str) -> pa.Array:
    """Values of a kind, written; None is null."""
    if kind == JSON:
        values = (None if v is None else json.dumps(v, ensure_ascii=False) for v in values)
    return pa.array(values, _ARROW[kind])


def arrow_column(name: str, values: Iterable[Any]) -> tuple[pa.Field, pa.Array]:
    """A whole column of whatever values, declared and written.

    Raises:
        DataError: When it has a value that JSON cannot hold.
    """
    try:
        plain = [as_json(value) for value in values]
    except TypeError as error:
        message = f"expected values that JSON can hold, found one of the type {error}."
        raise DataError(message, field=name) from error
    kind = column_kind(kinds_of(plain))
    return arrow_field(name, kind), arrow_array(completed(plain, kind), kind)


def is_json(field: pa.Field) -> bool:
    """Whether a column holds its values as JSON."""
    return bool((field.metadata or {}).get(b"genret") == b"json")


def has_kind(field: pa.Field, kind: str) -> bool:
    """Whether a column is declared as one of this kind is; other facts beside it do not count."""
    return field.type == _ARROW[kind] and is_json(field) == (kind == JSON)


def column_values(table: pa.Table, name: str) -> list[Any]:
    """A column as Python's values."""
    values = table[name].to_pylist()
    return [_decoded(text) for text in values] if is_json(table.field(name)) else values


def json_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns that hold their values as JSON."""
    return [field.name for field in schema if is_json(field)]


def documents_of(table: pa.Table, json_names: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a table as documents.

    Args:
        table: Some rows.
        json_names: What `json_columns` says of it.
    """
    documents: list[dict[str, Any]] = table.to_pylist()
    for name in json_names:
        for document in documents:
            document[name] = _decoded(document[name])
    return documents


def _decoded(text: str | None) -> Any:
    return None if text is None else json.loads(text)
