"""Options and arguments that several commands share; wrong usage is a ConfigError (status 2)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_genret.errors import ConfigError

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever


def _json_file(value: str | None) -> str | None:
    """Refuses a folder before the work starts, not when its result cannot be written."""
    if value not in (None, "-") and Path(str(value)).is_dir():
        raise ConfigError(f"{value} is a folder; a file name or - was expected.")
    return value


Json = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        callback=_json_file,
        help="Write the result as JSON; - is standard output, which then holds nothing else.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same figures.")]
Checkpoint = Annotated[
    str, typer.Argument(metavar="OUT", help="A checkpoint folder or a repository on the Hub.")
]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A BEIR folder, a folder of jsonl files, a saved `datasets` folder, `user/name` of "
        "the Hub (`user/name:SET` where it holds several), or `stdlib`.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAME=COLUMN,...",
        help="Where id, title and text of a document stand, for example text=body,title=name.",
    ),
]
Streaming = Annotated[
    bool,
    typer.Option(
        "--streaming",
        help="Keep the documents' texts on disk. Ids, token numbers, vectors and queries are in "
        "memory all the same.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace a checkpoint or results that stand there already."),
]

Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Make an error of everything that would be left out of the data with a note.",
    ),
]
Vectors = Annotated[
    str | None,
    typer.Option(
        "--vectors",
        metavar="PRECISION",
        help="Keep the ranker's vectors as float32, float16 or int8; as they are by default.",
    ),
]


def reading(columns: str | None, streaming: bool, strict: bool) -> dict[str, Any]:
    """What `load_data` and `load_documents` take, from the words of a command.

    Raises:
        ConfigError: When a part of --columns has another form, or is there twice.
    """
    found: dict[str, str] = {}
    for part in (columns or "").split(","):
        name, equals, column = (word.strip() for word in part.partition("="))
        if columns is not None and not (name and equals and column):
            raise ConfigError(f"--columns wants NAME=COLUMN,NAME=COLUMN; found '{columns}'.")
        if name in found:
            raise ConfigError(f"--columns names the column of {name} twice.")
        if name:
            found[name] = column
    return {"corpus_field_map": found or None, "streaming": streaming, "strict": strict}


def check_asked(retriever: GenRetriever, query: str | None, history: list[str] | None) -> None:
    """Refuse what a checkpoint does not read, in the words of the command line.

    Raises:
        ConfigError: Naming the argument that was expected instead.
    """
    reads = retriever.model.encoder
    if query is not None and reads.query is None:
        raise ConfigError(
            "this checkpoint reads histories, not text; give --history ID,ID and no QUERY."
        )
    if history and reads.history is None:
        raise ConfigError("this checkpoint reads text, not histories; give a QUERY, no --history.")


def nearest(word: str, known: list[str]) -> str:
    """`did you mean 'x'?` where a known word is near, else the whole list."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(known))}."


def listed(text: str | None) -> list[str]:
    """What stands between commas, without blanks; none for no text."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
