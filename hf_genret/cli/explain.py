"""`hf-genret explain`: why a document is found, level by level, or where it is lost."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output
from hf_genret.errors import ConfigError


def explain(
    checkpoint: options.Checkpoint,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[QUERY] ID", help="What was asked, and the document's id."),
    ],
    history: Annotated[
        str | None,
        typer.Option("--history", metavar="ID,ID", help="Ids of earlier items, oldest first."),
    ] = None,
    siblings: Annotated[
        int, typer.Option("--siblings", min=0, help="Codes shown beside the one taken.")
    ] = 5,
    json_file: options.Json = None,
) -> None:
    """Explain why a search finds a document: the codes of its id, their probability and words.

    The words of a prefix are those by which its documents differ from the rest (class-based
    TF-IDF).

    **Examples**

    - `hf-genret explain out "join two paths" os.path.join`

    - `hf-genret explain out --history B001,B007 B009`

    - `hf-genret explain out "join two paths" os.path.join --json -`
    """
    items = options.listed(history) or None
    *query, identifier = words
    if len(query) > 1:
        raise ConfigError("give one QUERY in quotes and one ID.")
    if not query and items is None:
        raise ConfigError("give a QUERY before the ID, a --history, or both.")
    from hf_genret.retriever import GenRetriever

    with output(json_file) as result:
        retriever = GenRetriever.from_pretrained(checkpoint)
        asked = query[0] if query else None
        options.check_asked(retriever, asked, items)
        found = retriever.explain(asked, identifier, history=items, siblings=siblings)
        result.console.print(str(found), markup=False)
        result.write(found.to_dict())
