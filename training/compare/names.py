"""Names of systems in a comparison: `uri`, `fixed:rq@16x16`, `bm25`, `asi+++dense`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hf_genret.errors import ConfigError
from hf_genret.training.checks import nearest
from hf_genret.training.given import FROM_DATA, GIVEN, PLACES
from hf_genret.training.recipes import list_recipes, load_recipe, variants
from hf_genret.training.runs import UNTRAINED

GIVEN_IDS = "fixed"
"""The recipe whose part after the colon may also be any value of `ids`."""

_SIZES = re.compile(r"[1-9]\d*(x[1-9]\d*)*")


@dataclass(frozen=True)
class System:
    """One row of a comparison.

    Attributes:
        name: As reports show it.
        recipe: What is trained, as `load_recipe` takes it; empty for other systems.
        settings: Overrides of its own, `key=value`.
        sizes: Codebook sizes that were asked for; empty for the recipe's own.
        parts: The two systems of a fusion.
    """

    name: str
    recipe: str = ""
    settings: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    parts: tuple[System, ...] = ()

    @property
    def slug(self) -> str:
        """The name of its files: one a system, the same in every run."""
        plain = re.sub(r"[^A-Za-z0-9@+._-]", "-", self.name.replace(":", "."))
        identity = "|".join([self.name, self.recipe, *self.settings])
        if plain == self.name.replace(":", ".") and not any(
            f"ids={kind}:" in s for s in self.settings for kind in PLACES
        ):
            return plain
        return f"{plain}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def at(self, sizes: Sequence[int]) -> System:
        """The same system with other codebook sizes."""
        name, shown = self.name.partition("@")[0], "x".join(map(str, sizes))
        return replace(self, name=f"{name}@{shown}", sizes=tuple(sizes))

    @property
    def takes_sizes(self) -> bool:
        """Whether it has ids whose sizes can be chosen; those that the data decide have none."""
        if not self.recipe:
            return False
        ids = load_recipe(self.recipe, self.settings).ids
        return ids.partition(":")[0] not in FROM_DATA


def parse_systems(names: str | Iterable[str]) -> list[System]:
    """The systems of a comparison, each once, in the order given.

    A system is a recipe with an optional variant (`uri:no_em`; after `fixed:` also any value of
    `ids`) and optional codebook sizes (`@16x16`), a baseline without training, or two of them
    joined by `+`, their fusion.

    Args:
        names: Names, or one text with commas between them.

    Raises:
        ConfigError: For an unknown name, with the nearest known one, or none at all.
    """
    words = names.split(",") if isinstance(names, str) else list(names)
    found = [parse_system(word.strip()) for word in words if word.strip()]
    if not found:
        raise ConfigError("no system is named; for example uri,fixed:kmeans,dense,bm25.")
    return list({system.name: system for system in found}.values())


def parse_system(name: str) -> System:
    """One system.

    Raises:
        ConfigError: When it is unknown.
    """
    first, rest = _head(name)
    if not rest:
        return first
    second, more = _head(rest[1:])
    if more:
        raise ConfigError(f"'{name}' joins more than two systems; two are fused.")
    return System(f"{first.name}+{second.name}", parts=(first, second))


def parse_sizes(sizes: str | Iterable[str | Sequence[int]]) -> list[tuple[int, ...]]:
    """Codebook sizes such as `16x16,32x32`.

    Raises:
        ConfigError: When they are something else.
    """
    words = sizes.split(",") if isinstance(sizes, str) else list(sizes)
    return [_sizes(word) if isinstance(word, str) else tuple(word) for word in words if word]


def known_systems() -> list[str]:
    """Every name without sizes: recipes, their variants, given ids and untrained baselines."""
    recipes = list(list_recipes())
    named = [f"{recipe}:{variant}" for recipe in recipes for variant in variants(recipe)]
    named += [f"{GIVEN_IDS}:{ids}" for ids in (*GIVEN, *FROM_DATA)]
    return [*recipes, *dict.fromkeys(named), *UNTRAINED]


def _head(text: str) -> tuple[System, str]:
    """The system with which a text begins, and what follows from its `+` on.

    A recipe's name may hold a plus itself (`asi++`), so the longest known name counts.
    """
    recipes = list_recipes()
    for name in sorted((*recipes, *UNTRAINED), key=len, reverse=True):
        rest = text.removeprefix(name)
        if not text.startswith(name) or (rest and rest[0] not in ":@+"):
            continue
        if name in UNTRAINED:
            if rest and rest[0] != "+":
                raise ConfigError(f"'{name}' is not trained: it has no variants and no sizes.")
            return System(name), rest
        return _recipe(name, rest)
    raise _unknown(text)


def _recipe(name: str, rest: str) -> tuple[System, str]:
    """A recipe with what follows its name."""
    match = re.match(r"(?::(?P<variant>[^@+]*))?(?:@(?P<sizes>[^+]*))?", rest)
    assert match is not None
    variant, sizes = match["variant"], match["sizes"]
    system = System(name, name) if variant is None else _variant(name, variant)
    if sizes is not None:
        if not system.takes_sizes:
            raise ConfigError(f"'{system.name}' has no codebook sizes to choose (@{sizes}).")
        system = system.at(_sizes(sizes))
    return system, rest[match.end() :]


def _variant(recipe: str, variant: str) -> System:
    """A recipe's variant, or given ids."""
    name = f"{recipe}:{variant}"
    if variant in variants(recipe):
        return System(name, name)
    kind, _, argument = variant.partition(":")
    if recipe != GIVEN_IDS or kind not in (*GIVEN, *FROM_DATA):
        raise _unknown(name)
    if kind in PLACES and not argument:
        raise ConfigError(f"'{name}' needs the place of the ids: {name}:PATH.")
    shown = f"{recipe}:{kind}" + (f":{Path(argument).name}" if argument else "")
    return System(shown, recipe, (f"ids={variant}",))


def _sizes(text: str) -> tuple[int, ...]:
    if not _SIZES.fullmatch(text):
        raise ConfigError(f"codebook sizes are written like 16x16; found '{text}'.")
    return tuple(int(size) for size in text.split("x"))


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"Unknown system '{name}'{nearest(name, known_systems())}.")
