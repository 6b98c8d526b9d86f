"""`hf-genret export`: the ids and rankings of a checkpoint, for other engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output
from hf_genret.errors import ConfigError

if TYPE_CHECKING:
    from hf_genret.data import Queries
    from hf_genret.retriever import GenRetriever


def export(
    checkpoint: options.Checkpoint,
    ids: Annotated[
        Path | None,
        typer.Option(
            "--ids",
            metavar="FILE",
            help="Write document, docid and bucket as .parquet, .csv or .jsonl.",
        ),
    ] = None,
    run: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            "--run",
            metavar="QUERIES FILE",
            help="Search QUERIES (a .jsonl or .tsv file of queries, or DATA) and write a TREC run.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Which queries, where QUERIES is DATA.")
    ] = "test",
    k: Annotated[int, typer.Option("--k", min=1, help="Documents a query in the run.")] = 100,
    columns: options.Columns = None,
    streaming: options.Streaming = False,
    strict: options.Strict = False,
    json_file: options.Json = None,
) -> None:
    """Write the id table of a checkpoint, a TREC run of it, or both.

    **Examples**

    - `hf-genret export out --ids ids.parquet`

    - `hf-genret export out --run queries.jsonl out.run --k 1000`

    - `hf-genret export out --run my-data out.run --split dev`
    """
    reading = options.reading(columns, streaming, strict)
    if ids is None and run is None:
        raise ConfigError("give --ids FILE, --run QUERIES FILE, or both.")
    from hf_genret.export import check_table_name, export_ids, export_run
    from hf_genret.retriever import GenRetriever

    if ids is not None:
        check_table_name(ids)
    with output(json_file) as result:
        retriever = GenRetriever.from_pretrained(checkpoint)
        written: dict[str, Any] = {}
        if ids is not None:
            written["ids"] = {"file": str(ids), "rows": export_ids(retriever, ids)}
            result.console.print(f"Ids: {ids}, {written['ids']['rows']:,} rows", markup=False)
        if run is not None:
            queries = _queries(run[0], split, retriever, reading)
            lines = export_run(retriever, queries, run[1], k=k)
            written["run"] = {"file": str(run[1]), "queries": len(queries), "lines": lines}
            result.console.print(
                f"Run: {run[1]}, {len(queries):,} queries, {lines:,} lines", markup=False
            )
        result.write(written)


def _queries(
    source: str, split: str, retriever: GenRetriever, reading: Mapping[str, Any]
) -> Queries:
    """Queries of a file, or of a split of data with the checkpoint's documents."""
    from hf_genret.data import load_data, load_queries
    from hf_genret.data.queries import is_query_file

    if is_query_file(source):
        return load_queries(source, strict=reading["strict"])
    data = load_data(source, **reading)
    if data.split(split).histories is not None:
        from hf_genret.training.systems import aligned

        data = aligned(data, retriever.documents.ids)  # histories are rows of the documents
    return data.split(split)
