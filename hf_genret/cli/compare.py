"""`hf-genret compare`: several systems trained, measured and set side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_genret.cli import options
from hf_genret.cli.output import Output, output

_OF_SYSTEMS = "Systems"
Systems = Annotated[
    str,
    typer.Option(
        "--systems",
        metavar="NAME,NAME",
        rich_help_panel=_OF_SYSTEMS,
        help="Recipes (uri, uri:no_em, uri@16x16, fixed:kmeans, dense), a recipe on the ids of "
        "another one (dsi:index_from=uri), ids by themselves (ids:rq), baselines without training "
        "(bm25, popularity, cooccurrence, random), or two joined by + (uri+bm25).",
    ),
]
Presets = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME,NAME",
        rich_help_panel=_OF_SYSTEMS,
        help="Comparisons with a table of their own: uri-table1 (classic decoders on their ids and "
        "on URI's), uri-table2 (URI's ablations), uri-table3 (APE by kind and size of ids).",
    ),
]
Sizes = Annotated[
    str | None,
    typer.Option(
        "--sizes",
        metavar="AxB,CxD",
        rich_help_panel=_OF_SYSTEMS,
        help="Train every system of --systems with ids at these codebook sizes as well; for "
        "uri-table3 they take the place of its own.",
    ),
]
Fusion = Annotated[
    str,
    typer.Option(
        "--fusion",
        rich_help_panel=_OF_SYSTEMS,
        help="How two systems are joined: rrf or weighted.",
    ),
]
_OF_TRAINING = "Training"
Seeds = Annotated[
    int,
    typer.Option(
        "--seeds",
        min=1,
        rich_help_panel=_OF_TRAINING,
        help="Trainings of each system, seeds from 0.",
    ),
]
Repeat = Annotated[
    str,
    typer.Option(
        "--repeat",
        metavar="NAME,NAME",
        rich_help_panel=_OF_TRAINING,
        help="Train only these with every seed, the others with the first alone.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        rich_help_panel=_OF_TRAINING,
        help="Override a setting of every trained system.",
    ),
]
_OF_REPORT = "Report"
Folder = Annotated[
    Path,
    typer.Option(
        "--output",
        metavar="DIR",
        rich_help_panel=_OF_REPORT,
        help="Where checkpoints, runs and the report go.",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="NAME",
        rich_help_panel=_OF_REPORT,
        help="The system to test against; by default the preset's, else fixed:kmeans, else dense.",
    ),
]
Split = Annotated[str, typer.Option("--split", rich_help_panel=_OF_REPORT, help="Which queries.")]


def compare(
    data: options.Data,
    *,
    systems: Systems = "",
    preset: Presets = "",
    sizes: Sizes = None,
    fusion: Fusion = "rrf",
    seeds: Seeds = 1,
    repeat: Repeat = "",
    settings: Settings = None,
    out: Folder,
    baseline: Baseline = None,
    split: Split = "test",
    columns: options.Columns = None,
    streaming: options.Streaming = False,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    json_file: options.Json = None,
) -> None:
    """Compare systems on one split: trained where they are not yet, measured alike.

    Stopped and started again, it goes on. The status is 1 when a system failed; the others are
    reported all the same.

    **Examples**

    - `hf-genret compare my-data --systems uri,fixed:kmeans,dense,bm25 --output out`

    - `hf-genret compare my-data --systems uri,uri:no_em,uri+bm25 --seeds 3 --output out --json -`

    - `hf-genret compare my-data --preset uri-table1,uri-table3 --output out`
    """
    from hf_genret.training import compare as comparison

    with output(json_file) as result:
        report = comparison.compare(
            data,
            systems,
            seeds,
            output=out,
            preset=preset,
            settings=settings or [],
            baseline=baseline,
            split=split,
            sizes=sizes or (),
            fusion=fusion,
            repeat=repeat,
            reading=options.reading(columns, streaming, strict),
            tell=lambda line: result.console.print(line, markup=False),
            overwrite=overwrite,
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
