"""`hf-genret inspect`: what a checkpoint's index looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output
from hf_genret.errors import ConfigError


def inspect(
    checkpoint: options.Checkpoint,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw how token distributions moved in training."
        ),
    ] = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show the tree of ids with sizes and typical words.")
    ] = False,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="CODE-CODE", help="Where the tree starts.")
    ] = "",
    depth: Annotated[int, typer.Option("--depth", min=1, help="Levels of the tree.")] = 2,
    children: Annotated[
        int, typer.Option("--children", min=1, help="Largest children shown of each node.")
    ] = 8,
    json_file: options.Json = None,
) -> None:
    """Report the index: documents, levels, bucket sizes, code use, duplicates, bytes.

    With --tree: the ids as a tree. The words of a prefix are those by which its documents differ
    from the rest (class-based TF-IDF).

    **Examples**

    - `hf-genret inspect out`

    - `hf-genret inspect out --plot tokens.png --json -`

    - `hf-genret inspect out --tree --prefix 3 --children 20`
    """
    start = _codes(prefix)
    from hf_genret.cli.tables import show_facts
    from hf_genret.retriever import GenRetriever

    with output(json_file) as result:
        retriever = GenRetriever.from_pretrained(checkpoint)
        facts = retriever.describe()
        if tree:
            found = retriever.tree(start, depth=depth, children=children)
            result.console.print(str(found), markup=False)
            facts["tree"] = found.to_dict()
        else:
            show_facts(result, facts)
        if plot is not None:
            retriever.plot(plot)
            result.console.print(f"Plot: {plot}", markup=False)
        result.write(facts)


def _codes(prefix: str) -> tuple[int, ...]:
    """`3-17` as codes.

    Raises:
        ConfigError: When it is something else.
    """
    try:
        return tuple(int(code) for code in prefix.split("-") if prefix)
    except ValueError as error:
        raise ConfigError(
            f"--prefix is '{prefix}'; codes with - between them were expected, as in 3-17."
        ) from error
