"""`hf-genret evaluate`: a checkpoint and its baselines on judged queries, in one table."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output
from hf_genret.errors import ConfigError


def evaluate(
    checkpoint: options.Checkpoint,
    data: options.Data,
    split: Annotated[str, typer.Option("--split", help="Which queries.")] = "test",
    systems: Annotated[
        str | None,
        typer.Option(
            "--systems",
            metavar="NAME,NAME",
            help="Which rows, for example generative,kmeans,bm25,dense; all that apply by default.",
        ),
    ] = None,
    vectors: options.Vectors = None,
    columns: options.Columns = None,
    streaming: options.Streaming = False,
    strict: options.Strict = False,
    json_file: options.Json = None,
) -> None:
    """Measure a checkpoint beside its baselines: item-level, with 95 % intervals.

    **Examples**

    - `hf-genret evaluate out my-data`

    - `hf-genret evaluate out my-data --split dev --systems generative,bm25 --json report.json`

    - `hf-genret evaluate out my-data --systems generative --vectors int8`
    """
    wanted, reading = _systems(systems), options.reading(columns, streaming, strict)
    from hf_genret.cli.tables import show_report
    from hf_genret.training import api

    with output(json_file) as result:
        report = api.evaluate_checkpoint(
            checkpoint, data, split, systems=wanted, vectors=vectors, reading=reading
        )
        show_report(result, report)
        result.write(report)


def _systems(names: str | None) -> list[str] | None:
    """The names asked for, in order; None for all that apply."""
    if names is None:
        return None
    from hf_genret.evaluation.report import SYSTEMS

    wanted = options.listed(names)
    if not wanted:
        raise ConfigError("--systems names no system.")
    for name in wanted:
        if name not in SYSTEMS:
            hint = options.nearest(name, list(SYSTEMS))
            raise ConfigError(f"there is no system '{name}'; {hint}")
    return list(dict.fromkeys(wanted))
