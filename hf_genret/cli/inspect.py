"""`hf-genret inspect`: what a checkpoint's index looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output


def inspect(
    checkpoint: options.Checkpoint,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw how token distributions moved in training."
        ),
    ] = None,
    json_file: options.Json = None,
) -> None:
    """Report the index: documents, levels, bucket sizes, code use, duplicates, bytes.

    **Examples**

    - `hf-genret inspect out`

    - `hf-genret inspect out --plot tokens.png --json -`
    """
    from hf_genret.cli.tables import show_facts
    from hf_genret.retriever import GenRetriever

    with output(json_file) as result:
        retriever = GenRetriever.from_pretrained(checkpoint)
        facts = retriever.describe()
        show_facts(result, facts)
        if plot is not None:
            retriever.plot(plot)
            result.console.print(f"Plot: {plot}", markup=False)
        result.write(facts)
