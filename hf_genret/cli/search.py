"""`hf-genret search`: a query or a history in, ranked documents out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output
from hf_genret.errors import ConfigError

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever, Hit


def search(
    checkpoint: options.Checkpoint,
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="What to look for.")] = None,
    history: Annotated[
        str | None,
        typer.Option("--history", metavar="ID,ID", help="Ids of earlier items, oldest first."),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many hits.")] = 10,
    json_file: options.Json = None,
) -> None:
    """Search a checkpoint with a query, with the history of a user, or with both.

    **Examples**

    - `hf-genret search out "join two paths"`

    - `hf-genret search out --history B001,B007 --k 20`

    - `hf-genret search out "join two paths" --json -`
    """
    items = options.listed(history)
    if query is None and not items:
        raise ConfigError("give a QUERY, a --history, or both.")
    from hf_genret.cli.tables import hit_record, show_hits
    from hf_genret.retriever import GenRetriever

    with output(json_file) as result:
        retriever = GenRetriever.from_pretrained(checkpoint)
        options.check_asked(retriever, query, items)
        hits = _search(retriever, query, items, k)
        records = [hit_record(hit) for hit in hits]
        show_hits(result, query if query is not None else ", ".join(items), records)
        asked = {"query": query, "history": items or None, "k": k}
        result.write(asked | {"hits": records})


def _search(retriever: GenRetriever, query: str | None, items: list[str], k: int) -> list[Hit]:
    if query is None:
        return retriever.recommend(history=items, k=k)
    if items:
        return retriever.search(query, k=k, history=items)
    return retriever.search(query, k=k)
