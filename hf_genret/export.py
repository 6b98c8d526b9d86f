"""What other engines read: a table of ids, and TREC runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from hf_genret.errors import ConfigError, DataError
from hf_genret.files import atomic_file

if TYPE_CHECKING:
    from hf_genret.data.schema import Queries
    from hf_genret.documents import DocumentStore
    from hf_genret.evaluation import Run
    from hf_genret.retriever import GenRetriever

CHUNK = 100_000
"""Rows of the table that are in memory at once."""

SCHEMA = pa.schema(
    [("document", pa.large_string()), ("docid", pa.string()), ("bucket", pa.int64())]
)
"""The document's id, its learned id as codes joined by `-`, and the number of its bucket."""

TAG = "hf-genret"


def id_batches(retriever: GenRetriever) -> Iterator[pa.Table]:
    """The id table, `CHUNK` rows at a time: one row a document and path, in document order.

    Documents that share a docid share a bucket; buckets are numbered from 0 in the order of their
    docids.

    Yields:
        Tables of `SCHEMA`.
    """
    index = retriever.model.index
    rows = index.rows.cpu().numpy().astype(np.int64)
    starts = index.buckets.cpu().numpy()
    order = np.argsort(rows, kind="stable")
    for first in range(0, len(order), CHUNK):
        chosen = order[first : first + CHUNK]
        codes = index.paths[chosen.tolist()].tolist()
        bucket = np.searchsorted(starts, chosen, side="right") - 1
        columns = [
            retriever.documents.ids_of(rows[chosen]),
            pa.array(["-".join(map(str, docid)) for docid in codes], pa.string()),
            pa.array(bucket, pa.int64()),
        ]
        yield pa.table(columns, schema=SCHEMA)


def _write_parquet(path: Path, tables: Iterator[pa.Table]) -> int:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        return sum(_counted(table, writer.write_table) for table in tables)


def _write_csv(path: Path, tables: Iterator[pa.Table]) -> int:
    with pacsv.CSVWriter(path, SCHEMA) as writer:
        return sum(_counted(table, writer.write_table) for table in tables)


def _write_jsonl(path: Path, tables: Iterator[pa.Table]) -> int:
    with path.open("w", encoding="utf-8") as file:

        def write(table: pa.Table) -> None:
            for record in table.to_pylist():
                file.write(json.dumps(record, ensure_ascii=False) + "\n")

        return sum(_counted(table, write) for table in tables)


def _counted(table: pa.Table, write: Callable[[pa.Table], None]) -> int:
    write(table)
    return len(table)


WRITERS: dict[str, Callable[[Path, Iterator[pa.Table]], int]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}
"""How a table is written, by the ending of its file."""


def check_table_name(path: str | Path) -> None:
    """Refuse a file whose ending names no format.

    Raises:
        ConfigError: Naming the formats.
    """
    if Path(path).suffix not in WRITERS:
        raise ConfigError(f"{path}: expected a file that ends with {', '.join(WRITERS)}.")


def export_ids(retriever: GenRetriever, path: str | Path) -> int:
    """Write the id table: columns `document`, `docid` (codes joined by `-`) and `bucket`.

    Args:
        retriever: With an index.
        path: A `.parquet`, `.csv` or `.jsonl` file, written whole or not at all.

    Returns:
        Rows written; a document with several ids has several.

    Raises:
        ConfigError: When the ending is another.
        OSError: When the disk refuses.
    """
    check_table_name(path)
    with atomic_file(path) as fresh:
        return WRITERS[Path(path).suffix](fresh, id_batches(retriever))


def trec_lines(
    run: Run, queries: Sequence[str], documents: DocumentStore, tag: str = TAG
) -> Iterator[str]:
    """A run as TREC writes it: `query Q0 document rank score tag`, ranks from 1.

    trec_eval orders equal scores by document id, whatever the ranks say.

    Args:
        run: Rows and scores of every query.
        queries: Their ids.
        documents: The documents of the rows.
        tag: Name of the system.

    Raises:
        DataError: An id with white space, which the format has no way to write.
    """
    assert run.scores is not None  # every search has them
    for query, rows, scores in zip(queries, run.rows, run.scores, strict=True):
        _check_word(query, "query")
        names = documents.ids_of(np.asarray(rows)).to_pylist()
        for rank, (name, score) in enumerate(zip(names, scores, strict=True), start=1):
            _check_word(name, "document")
            yield f"{query} Q0 {name} {rank} {float(score):.9g} {tag}\n"


def _check_word(identifier: str, kind: str) -> None:
    if not identifier or re.search(r"\s", identifier):
        raise DataError(f"a TREC run has no way to write the {kind} id '{identifier}' with spaces.")


def export_run(retriever: GenRetriever, queries: Queries, path: str | Path, *, k: int = 100) -> int:
    """Search queries and write a TREC run file.

    Args:
        retriever: What searches.
        queries: Texts or histories; judgments are not read.
        path: The file, written whole or not at all.
        k: Documents a query at most.

    Returns:
        Lines written.

    Raises:
        DataError: An id with white space.
        OSError: When the disk refuses.
    """
    exclude = bool(retriever.facts.get("exclude_history", False))
    run = retriever.search_dataset(queries, k=k, exclude_history=exclude)
    lines = 0
    with atomic_file(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        for line in trec_lines(run, queries.ids, retriever.documents):
            file.write(line)
            lines += 1
    return lines
