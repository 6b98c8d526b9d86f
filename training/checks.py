"""Checks of what a recipe says, made before anything is loaded or trained."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterable
from types import UnionType
from typing import TYPE_CHECKING, Any

from hf_genret.errors import ConfigError
from hf_genret.indexing.capacity import Method
from hf_genret.training.curriculum import Stage
from hf_genret.training.limits import check_number

if TYPE_CHECKING:
    from hf_genret.training.recipes import Recipe

IDS = ("kmeans", "rq", "random")  # what a control's ids can be made of
_SPOKEN: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    list[str]: "a list of names",
    list[int]: "a list of whole numbers",
    list[float]: "a list of numbers",
    dict[str, Any]: "settings",
}


def known(key: str, names: Iterable[str], what: str) -> None:
    """Refuse a name that is not among those that exist.

    Raises:
        ConfigError: Naming the nearest known one.
    """
    names = list(names)
    if key not in names:
        raise ConfigError(f"Unknown {what} '{key}'{nearest(key, names)}.")


def nearest(key: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'` where a known name is near, else all of them."""
    close = difflib.get_close_matches(key, list(names), n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'" if close else f"; known: {', '.join(sorted(names))}"


def typed(made_by: type, values: dict[str, Any], what: str) -> dict[str, Any]:
    """The values with every one of the type that its reader declares.

    Args:
        made_by: A dataclass, or a class whose `__init__` says the types.
        values: Settings by name, as YAML gave them.
        what: Stands before the name in an error, for example `queries.`.

    Returns:
        The same settings; a whole number where a float is wanted, or a float that YAML took for
        text (`1e-3`), is one.

    Raises:
        ConfigError: When a value is of another type.
    """
    hints = typing.get_type_hints(made_by.__init__)  # type: ignore[misc]
    return {name: _fit(value, hints[name], f"{what}{name}") for name, value in values.items()}


def _fit(value: Any, hint: Any, name: str) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for kind in kinds:
        plain = typing.get_origin(kind) or kind
        if plain is Any:
            return value
        if plain is float:
            value = _number(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                check_number(name, value)
                return float(value)
        elif plain is list and isinstance(value, list):
            inside = typing.get_args(kind)[0]
            return [_fit(entry, inside, name) for entry in value]
        elif plain is dict and isinstance(value, dict):
            inside = typing.get_args(kind)[1]
            return {key: _fit(entry, inside, f"{name}.{key}") for key, entry in value.items()}
        elif isinstance(value, plain) and not (plain is int and isinstance(value, bool)):
            if plain is int:
                check_number(name, value)
            return value
    wanted = " or ".join(_SPOKEN.get(kind, str(kind)) for kind in kinds)
    raise ConfigError(f"{name} is {value!r}; {wanted} was expected.")


def _number(value: Any) -> Any:
    """YAML reads 1e-3 as text: it wants 1.0e-3."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def known_ids(name: str, what: str = "ids") -> None:
    """Refuse a name of ids that nothing makes, and a name without its argument.

    Raises:
        ConfigError: Naming the nearest known one.
    """
    from hf_genret.training.given import FROM_DATA, GIVEN, PLACES  # they need models

    kind, _, argument = name.partition(":")
    known(kind, [*GIVEN, *FROM_DATA], what)
    if kind in PLACES and not argument:
        raise ConfigError(f"ids={kind} needs a place: ids={kind}:PATH.")


def check_given(recipe: Recipe) -> None:
    """Put another checkpoint's ids in the place of the recipe's, and refuse what does not fit.

    Args:
        recipe: With all of its stages; `ids` is changed where `index_from` says so.

    Raises:
        ConfigError: For unknown ids, and for settings of given ids where no stage takes any.
    """
    borders = [border for stage in recipe.stages for border in (stage.before, stage.after)]
    takes = any(border.get("ids") == "given" for border in borders)
    for name in ("index_from", "position_code"):
        if getattr(recipe, name) and not takes:
            raise ConfigError(
                f"{name} is for recipes that learn given ids, such as fixed, dsi, nci and tiger; "
                f"'{recipe.name}' takes none."
            )
    if recipe.index_from:
        from hf_genret.training.given import recorded_place  # it needs models

        recipe.ids = f"checkpoint:{recipe.index_from}"
        recipe.settings["index_from"] = recorded_place(recipe.index_from)
    if recipe.position_code and recipe.new_documents.share and not recipe.new_documents.queries:
        raise ConfigError(
            "position_code numbers the documents that training knows, and new_documents hides "
            "some; set new_documents.queries=true or position_code=0."
        )
    known_ids(recipe.ids)


def own_ids(name: str, ids: str) -> None:
    """Refuse ids of a stage that the data alone decide and that are not the recipe's own.

    The model has the sizes of the recipe's ids, and no others are made before it.

    Raises:
        ConfigError: Naming the setting.
    """
    from hf_genret.training.given import FROM_DATA  # it needs models

    if name != ids and name.partition(":")[0] in FROM_DATA:
        raise ConfigError(f"ids: '{name}' has to be the recipe's own (ids={name}).")


def check_stage(stage: Stage) -> None:
    """Refuse an objective, a setting of it, or an action that does not exist.

    Raises:
        ConfigError: Naming stage and setting.
    """
    # Both import what a stage is.
    from hf_genret.training.objectives import OBJECTIVES
    from hf_genret.training.stage_actions import ACTIONS

    where = f" in stage '{stage.name}'"
    if stage.objective not in OBJECTIVES:
        hint = nearest(stage.objective, OBJECTIVES)
        raise ConfigError(f"Unknown objective '{stage.objective}'{where}{hint}.")
    options = OBJECTIVES[stage.objective].Options
    names = [item.name for item in dataclasses.fields(options)]
    for key in stage.options:
        known(key, names, f"setting of {stage.objective}{where}")
    stage.options = typed(options, stage.options, f"stages.{stage.name}.options.")
    for key, setting in (*stage.before.items(), *stage.after.items()):
        known(key, ACTIONS, f"action{where}")
        _check_action(key, setting, f"{key}{where}")


def _check_action(name: str, setting: Any, where: str) -> None:
    """Refuse an action's setting now, not after the steps that come before it."""
    methods = typing.get_args(Method)
    if name == "ids":
        known_ids(str(setting), f"setting of {where}")
    elif name == "assign":
        known(str(setting), methods, f"setting of {where}")
    elif name == "heads":
        known(str(setting), ("centres",), f"setting of {where}")
    elif name == "rename":
        known(str(setting), ("uniform", "by_parent"), f"setting of {where}")
    elif name == "codebook" and isinstance(setting, dict):
        lacking = {"size_min", "size_max"} - set(setting)
        if lacking:
            raise ConfigError(f"{where} lacks {', '.join(sorted(lacking))}.")
    elif name == "codebook":
        known(str(setting), ("balanced", "plain", "query_aware"), f"setting of {where}")
    elif name == "clusters":
        known(str(setting), ("balanced", "query_aware"), f"setting of {where}")
    elif name == "paths":
        from hf_genret.training.path_assignment import PathSettings  # it needs models

        fields = [item.name for item in dataclasses.fields(PathSettings)]
        for key in setting or {}:
            known(key, fields, f"setting of {where}")
        typed(PathSettings, setting or {}, f"{where}: ")
    elif name == "mine" and "depth" not in (setting or {}):
        raise ConfigError(f"{where} lacks depth, the negatives kept for a query.")
    elif name == "reassign":
        options = setting if isinstance(setting, dict) else {"method": setting}
        for key in options:
            known(key, ("method", "levels"), f"setting of {where}")
        known(str(options.get("method")), methods, f"method of {where}")
