"""`hf-genret compare`: several systems trained, measured and set side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_genret.cli import options
from hf_genret.cli.output import Output, output


def compare(
    data: options.Data,
    systems: Annotated[
        str,
        typer.Option(
            "--systems",
            metavar="NAME,NAME",
            help="Recipes (uri, uri:no_em, uri@16x16, fixed:kmeans, dense), baselines without "
            "training (bm25, popularity, cooccurrence, random), or two joined by + (uri+bm25).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--output", metavar="DIR", help="Where checkpoints, runs and the report go."),
    ],
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Trainings of each system, seeds from 0.")
    ] = 1,
    repeat: Annotated[
        str,
        typer.Option(
            "--repeat",
            metavar="NAME,NAME",
            help="Train only these with every seed, the others with the first alone.",
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a setting of every trained system."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NAME",
            help="The system to test against; fixed:kmeans by default, else dense.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which queries.")] = "test",
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes",
            metavar="AxB,CxD",
            help="Train every system with ids at these codebook sizes as well.",
        ),
    ] = None,
    fusion: Annotated[
        str, typer.Option("--fusion", help="How two systems are joined: rrf or weighted.")
    ] = "rrf",
    columns: options.Columns = None,
    streaming: options.Streaming = False,
    json_file: options.Json = None,
) -> None:
    """Compare systems on one split: trained where they are not yet, measured alike.

    Stopped and started again, it goes on. The status is 1 when a system failed; the others are
    reported all the same.

    **Examples**

    - `hf-genret compare my-data --systems uri,fixed:kmeans,dense,bm25 --output out`

    - `hf-genret compare my-data --systems uri,uri:no_em,uri+bm25 --seeds 3 --output out --json -`
    """
    from hf_genret.training import compare as comparison

    with output(json_file) as result:
        report = comparison.compare(
            data,
            systems,
            seeds,
            output=out,
            settings=settings or [],
            baseline=baseline,
            split=split,
            sizes=sizes or (),
            fusion=fusion,
            repeat=repeat,
            reading=options.reading(columns, streaming),
            tell=lambda line: result.console.print(line, markup=False),
        )
        if report["systems"]:
            result.console.print(comparison.quality_table(report))
        _say_failures(result, report["failed"])
        result.console.print(f"Report: {out / 'report.md'}", markup=False)
        result.write(report)
    if report["failed"]:
        raise typer.Exit(1)


def _say_failures(result: Output, failed: list[dict[str, Any]]) -> None:
    """A line for each system and seed that failed."""
    for failure in failed:
        line = f"Failed: {failure['system']}, seed {failure['seed']}: {failure['error']}"
        result.console.print(line, markup=False)
