"""`hf-genret index`: a trained model brought to another corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output


def index(
    checkpoint: options.Checkpoint,
    documents: Annotated[
        str,
        typer.Argument(metavar="DOCUMENTS", help="A jsonl file, or DATA as `train` takes it."),
    ],
    out: Annotated[
        Path, typer.Option("--output", metavar="NEW", help="Where the new checkpoint goes.")
    ],
    vectors: options.Vectors = None,
    columns: options.Columns = None,
    streaming: options.Streaming = False,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    json_file: options.Json = None,
) -> None:
    """Give ids to other documents with the trained model; nothing is trained.

    **Examples**

    - `hf-genret index out more/corpus.jsonl --output out-more`

    - `hf-genret index out big.jsonl --output out-big --streaming --columns text=body`
    """
    reading = options.reading(columns, streaming, strict)
    from hf_genret.cli.tables import show_facts
    from hf_genret.data import load_documents
    from hf_genret.outputs import check_output
    from hf_genret.retriever import GenRetriever

    with output(json_file) as result:
        check_output(out, overwrite=overwrite)
        retriever = GenRetriever.from_pretrained(checkpoint)
        retriever.index(load_documents(documents, **reading))
        if vectors is not None:
            retriever.compress_vectors(vectors)
        retriever.save_pretrained(out)
        facts = retriever.describe()
        show_facts(result, facts)
        result.console.print(f"Checkpoint: {out}", markup=False)
        result.write(facts)
