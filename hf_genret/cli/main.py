"""`hf-genret`: the application, and how errors and interrupts leave it."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hf_genret import __version__
from hf_genret.cli.card import card
from hf_genret.cli.compare import compare
from hf_genret.cli.demo import demo
from hf_genret.cli.evaluate import evaluate
from hf_genret.cli.explain import explain
from hf_genret.cli.export import export
from hf_genret.cli.index import index
from hf_genret.cli.inspect import inspect
from hf_genret.cli.output import notes
from hf_genret.cli.push import push
from hf_genret.cli.quickstart import quickstart
from hf_genret.cli.recipes import recipes
from hf_genret.cli.search import search
from hf_genret.cli.study import study
from hf_genret.cli.train import train
from hf_genret.errors import ConfigError, DataWarning, GenRetError

app = typer.Typer(
    name="hf-genret",
    help="Generative retrieval: documents in, learned ids out, search answers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
COMMANDS = (
    quickstart,
    train,
    search,
    explain,
    index,
    evaluate,
    compare,
    study,
    inspect,
    demo,
    card,
    export,
    push,
    recipes,
)
for command in COMMANDS:
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hf-genret {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Generative retrieval: documents in, learned ids out, search answers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `hf-genret`; those of the process where None.

    Returns:
        The exit status: 0, 2 for wrong usage, 130 after an interrupt, 1 for everything else.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    words, debug = _without_debug(words)
    _escape_unknown_letters()
    try:
        with notes(strict="--strict" in _before_dashes(words)):
            app(args=words, prog_name="hf-genret")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return 130
    except (GenRetError, DataWarning, OSError, ValueError) as error:
        if debug:
            raise
        print(f"Error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _escape_unknown_letters() -> None:
    """Show a letter that a terminal lacks by its number instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """Takes --debug out wherever it stands before a `--`: people add it to the end of a line."""
    options = _before_dashes(words)
    kept = [word for word in options if word != "--debug"]
    return kept + words[len(options) :], len(kept) < len(options)


def _before_dashes(words: list[str]) -> list[str]:
    """The words that may be options: those before a `--`."""
    return words[: words.index("--")] if "--" in words else words


def _one_line(error: Exception) -> str:
    """The error in one line: a file's trouble with the file first, anything else as it reads."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
