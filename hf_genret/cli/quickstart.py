"""`hf-genret quickstart`: the whole path on the standard library's own documentation."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output


def quickstart(
    out: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Where the checkpoint goes.")
    ] = Path("genret-stdlib"),
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
) -> None:
    """Train on the documentation of the running Python's standard library, evaluate, search.

    Needs no network, no GPU and no data: the texts are gathered from the running Python.

    **Examples**

    - `hf-genret quickstart`

    - `hf-genret quickstart --output my-first --seed 1 --json report.json`
    """
    from hf_genret.cli.tables import show_hits, show_report
    from hf_genret.training import api

    with output(json_file) as result:
        report = api.quickstart(output=out, seed=seed, overwrite=overwrite)
        show_report(result, report)
        for example in report.get("searches", []):
            show_hits(result, example["query"], example["hits"])
        result.console.print(f"Checkpoint: {out}", markup=False)
        result.console.print(f'Search it: {_command()} search {out} "join two paths"', markup=False)
        result.write(report)


def _command() -> str:
    """How to call this program again: by its path where its environment is not activated."""
    return "hf-genret" if shutil.which("hf-genret") else sys.argv[0]
