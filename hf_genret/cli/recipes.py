"""`hf-genret recipes`: what can be trained, and with which settings."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output
from hf_genret.errors import ConfigError


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this recipe's YAML.")
    ] = None,
    json_file: options.Json = None,
) -> None:
    """List the recipes, or show one.

    **Examples**

    - `hf-genret recipes`

    - `hf-genret recipes uri > mine.yaml`
    """
    from hf_genret.training.recipes import list_recipes

    known = list_recipes()
    with output(json_file) as result:
        if name is None:
            width = max(map(len, known), default=0)
            for recipe, line in sorted(known.items()):
                result.console.print(f"{recipe:{width}s}  {line}", markup=False)
            result.console.print("\nA recipe's variants follow a colon, as in uri:no_em.")
            result.write(known)
            return
        if name not in known:
            hint = options.nearest(name, list(known))
            raise ConfigError(f"there is no recipe '{name}'; {hint}")
        from hf_genret.training.recipes import variants

        text = _yaml_of(name)
        result.console.print(text.rstrip("\n"), markup=False)
        result.write(
            {
                "name": name,
                "description": known[name],
                "variants": variants(name),
                "yaml": text,
            }
        )


def _yaml_of(name: str) -> str:
    """The recipe as it is written, comments included."""
    return (files("hf_genret.training") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
