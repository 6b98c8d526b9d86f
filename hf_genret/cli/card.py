"""`hf-genret card`: the model card of a checkpoint, from what its run wrote down."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output
from hf_genret.errors import ConfigError

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|multilingual|code")


def card(
    checkpoint: options.Checkpoint,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="What `hf-genret evaluate --json FILE` wrote; it is kept beside the card.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Another place than README.md of the checkpoint."
        ),
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option("--repo", metavar="OWNER/NAME", help="What the examples of the card load."),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", metavar="CODE", help="Of the documents; may be repeated."),
    ] = None,
    license_name: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="As the Hub spells it.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a card that was changed by hand.")
    ] = False,
    json_file: options.Json = None,
) -> None:
    """Write the model card: method, data, schedule, figures, health of the ids, how to load it.

    Language, license and data sets that an older card names are kept.

    **Examples**

    - `hf-genret card out`

    - `hf-genret card out --report report.json --language en --license apache-2.0`

    - `hf-genret card me/my-genret --output card.md`
    """
    fields = _fields(language or [], license_name)
    from hf_genret.hub import card_file
    from hf_genret.retriever import GenRetriever

    with output(json_file) as result:
        retriever = GenRetriever.from_pretrained(checkpoint)
        place = _place(checkpoint, out)
        card_file.check_replaceable(place, force=force)
        figures = card_file.load_report(report, retriever) if report is not None else None
        fields = {**card_file.kept_fields(place), **fields}
        _write(retriever, place, figures, repo, fields, beside=out is None)
        result.console.print(f"Card: {place}", markup=False)
        result.write(card_file.card_facts(place))


def _fields(languages: list[str], license_name: str | None) -> dict[str, Any]:
    for code in languages:
        if not _LANGUAGE.fullmatch(code):
            raise ConfigError(f"--language wants a code such as en or pt-BR; found '{code}'.")
    fields = {
        "language": languages[0] if len(languages) == 1 else languages,
        "license": license_name,
    }
    return {name: value for name, value in fields.items() if value}


def _place(checkpoint: str, out: Path | None) -> Path:
    """Where the card goes."""
    if out is not None:
        if out.is_dir():
            raise ConfigError(f"--output wants a file, {out} is a folder.")
        return out
    if not Path(checkpoint).is_dir():
        raise ConfigError(f"{checkpoint} is no folder here; name a file with --output.")
    return Path(checkpoint) / "README.md"


def _write(
    retriever: GenRetriever,
    place: Path,
    figures: dict[str, Any] | None,
    repo: str | None,
    fields: dict[str, Any],
    *,
    beside: bool,
) -> None:
    """The card with the given figures, or with those that lie beside the checkpoint."""
    from hf_genret.files import atomic_write_text
    from hf_genret.hub import render_card, write_card

    known = retriever.state.record("report.json") or None
    if beside:
        retriever.state.check_stands()
        write_card(place.parent, retriever, figures or known, repo_id=repo, **fields)
    else:
        text = render_card(retriever, figures or known, repo_id=repo, **fields)
        atomic_write_text(place, text)
