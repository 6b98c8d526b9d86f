"""Queries without judgments, from a file of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hf_genret.data.collecting import collect_query_texts
from hf_genret.data.jsonl import ENDINGS
from hf_genret.data.reading import Record, Table, read_jsonl, read_lines
from hf_genret.data.schema import Queries
from hf_genret.errors import DataError

_TABLES = (".tsv", ".tsv.gz")


def is_query_file(source: str | Path) -> bool:
    """Whether a source is a file here that can hold queries: `.jsonl` or `.tsv`, also `.gz`."""
    return Path(source).is_file() and str(source).lower().endswith((*ENDINGS, *_TABLES))


def load_queries(path: str | Path) -> Queries:
    """Queries of a file, without judgments.

    Args:
        path: `.jsonl` with `_id` and `text` a line, or `.tsv` with id, a tab and the text.

    Raises:
        DataError: Unreadable, without queries, or with a fault in it: names line and field.
    """
    path = Path(path)
    is_table = str(path).lower().endswith(_TABLES)
    texts = collect_query_texts(Table(str(path), _lines(path)) if is_table else read_jsonl(path))
    if not texts:
        raise DataError("expected queries, found none.", path=path)
    return Queries(list(texts), [{} for _ in texts], texts=list(texts.values()))


def _lines(path: Path) -> Iterator[tuple[int, Record]]:
    for line, text in read_lines(path):
        identifier, tab, query = text.partition("\t")
        if not tab:
            message = f"expected an id, a tab and a text, found {text[:40]!r}."
            raise DataError(message, path=path, line=line)
        yield line, {"_id": identifier, "text": query}
