"""`hf-genret demo`: the page of a checkpoint, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output


def demo(
    checkpoint: options.Checkpoint,
    example: Annotated[
        list[str] | None,
        typer.Option(
            "--example", metavar="TEXT", help="An example query; once for each. The first is asked."
        ),
    ] = None,
    title: Annotated[
        str, typer.Option("--title", help="Heading of the page.")
    ] = "Generative retrieval",
    host: Annotated[
        str, typer.Option("--host", help="Where it listens; 0.0.0.0 is every network.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="A free one by default.")
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser of this machine.")
    ] = False,
    json_file: options.Json = None,
) -> None:
    """Serve the page of a checkpoint: search, reasons, BM25 and dense beside it, the tree of ids.

    It runs until it is interrupted (Ctrl+C). Needs the extra `demo`.

    **Examples**

    - `hf-genret demo out`

    - `hf-genret demo out --example "join two paths" --port 7860 --open`
    """
    from hf_genret.demo import build_demo, serve
    from hf_genret.retriever import GenRetriever

    with output(json_file) as result:
        page = build_demo(
            GenRetriever.from_pretrained(checkpoint), title=title, examples=example or 5
        )
        _, address, _ = serve(
            page,
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            quiet=True,
            prevent_thread_lock=True,
        )
        result.console.print(f"The page: {address} (Ctrl+C ends it)", markup=False)
        result.write({"address": address})
        page.block_thread()
