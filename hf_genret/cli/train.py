"""`hf-genret train`: data and a recipe in, a checkpoint out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output
from hf_genret.errors import ConfigError


def train(
    data: options.Data,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", help="A recipe's name (`hf-genret recipes` lists them) or a YAML file."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--output", metavar="OUT", help="Where the checkpoint goes.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one setting; may be repeated."),
    ] = None,
    seed: options.Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run in OUT.")
    ] = False,
    encodings: Annotated[
        Path | None,
        typer.Option(
            help="Keep what a frozen encoder says of the texts in this folder, for other runs."
        ),
    ] = None,
    columns: options.Columns = None,
    streaming: options.Streaming = False,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    json_file: options.Json = None,
) -> None:
    """Train a generative retriever.

    For several processes: `accelerate launch -m hf_genret.training.train`, same arguments.

    **Examples**

    - `hf-genret train my-data --recipe uri --output out`

    - `hf-genret train my-data --recipe uri --set encoder=path/to/encoder --seed 1 --output out`

    - `hf-genret train my-data --recipe uri --output out --resume`
    """
    _check_settings(settings or [])
    _check_recipe(recipe)
    reading = options.reading(columns, streaming, strict)
    from hf_genret.cli.tables import show_report
    from hf_genret.training import api

    with output(json_file) as result:
        report = api.train(
            data=data,
            recipe=recipe,
            output=out,
            settings=settings or [],
            resume=resume,
            overwrite=overwrite,
            seed=seed,
            encodings=encodings,
            reading=reading,
        )
        show_report(result, report)
        result.console.print(f"Checkpoint: {out}", markup=False)
        result.write(report)


def _check_settings(settings: list[str]) -> None:
    for setting in settings:
        key, equals, _ = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set wants KEY=VALUE; found '{setting}'.")


def _check_recipe(recipe: str) -> None:
    """A wrong recipe is wrong usage, so it is met here and not in the middle of the work."""
    if recipe.endswith((".yaml", ".yml")):
        if not Path(recipe).is_file():
            raise ConfigError(f"there is no recipe file {recipe}.")
        return
    from hf_genret.training.recipes import list_recipes

    known = list(list_recipes())
    if recipe.partition(":")[0] not in known:
        hint = options.nearest(recipe, known)
        raise ConfigError(f"there is no recipe '{recipe}'; {hint}")
