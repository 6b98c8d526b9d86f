"""Queries without judgments, from a file of their own."""

from __future__ import annotations

from pathlib import Path

from hf_genret.data.collecting import collect_query_texts
from hf_genret.data.jsonl import ENDINGS
from hf_genret.data.reading import read_jsonl
from hf_genret.data.schema import Queries
from hf_genret.data.tables import read_query_table
from hf_genret.errors import DataError
from hf_genret.notices import Notices

_TABLES = tuple(
    f"{ending}{packed}" for ending in (".tsv", ".csv", ".txt") for packed in ("", ".gz")
)


def is_query_file(source: str | Path) -> bool:
    """Whether a source is a file here that can hold queries: .jsonl, .tsv, .csv or .txt[.gz]."""
    return Path(source).is_file() and str(source).lower().endswith((*ENDINGS, *_TABLES))


def load_queries(path: str | Path, *, strict: bool = False) -> Queries:
    """Queries of a file, without judgments; queries without a text are left out with a warning.

    Args:
        path: `.jsonl` with `_id` and `text` a line, `.tsv` or `.txt` with id, a tab and the text,
            or `.csv` with both. A header may name the columns.
        strict: Whether what would be left out is an error.

    Raises:
        DataError: Unreadable, without queries, or with a fault in it: names line and field.
    """
    path, notices = Path(path), Notices(strict)
    is_table = str(path).lower().endswith(_TABLES)
    table = read_query_table(path, notices) if is_table else read_jsonl(path, notices)
    texts = collect_query_texts([table])
    if not texts:
        raise DataError("expected queries with a text, found none.", path=path)
    notices.warn()
    return Queries(list(texts), [{} for _ in texts], texts=list(texts.values()))
