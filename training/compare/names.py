"""Names of systems in a comparison: `uri`, `fixed:rq@16x16`, `dsi:index_from=uri`, `uri+bm25`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hf_genret.errors import ConfigError
from hf_genret.training.checks import nearest
from hf_genret.training.given import FROM_DATA, GIVEN, PLACES
from hf_genret.training.recipes import FOLDER, load_recipe, variants
from hf_genret.training.runs import UNTRAINED

GIVEN_IDS = "fixed"
"""The recipe whose part after the colon may also be any value of `ids`."""
ONLY_IDS = "ids"
"""Stands before a value of `ids` that is measured by itself: no decoder, no search."""
INDEX_FROM = "index_from="
"""Stands before the system whose ids another one takes."""

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
        index_from: The system whose ids it takes, those of the same seed.
        searched: Whether it answers queries; ids by themselves only have a quality.
    """

    name: str
    recipe: str = ""
    settings: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    parts: tuple[System, ...] = ()
    index_from: System | None = None
    searched: bool = True

    @property
    def slug(self) -> str:
        """The name of its files: one a system, the same in every run."""
        plain = re.sub(r"[^A-Za-z0-9@+.=_-]", "-", self.name.replace(":", "."))
        settings = [*self.settings, *(self.index_from.settings if self.index_from else ())]
        identity = "|".join([self.name, self.recipe, *settings])
        if plain == self.name.replace(":", ".") and not any(
            f"ids={kind}:" in s for s in settings for kind in PLACES
        ):
            return plain
        return f"{plain}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def at(self, sizes: Sequence[int]) -> System:
        """The same system with other codebook sizes; of the system whose ids it takes, if any."""
        name, shown = self.name.partition("@")[0], "x".join(map(str, sizes))
        other = self.index_from.at(sizes) if self.index_from else None
        return replace(self, name=f"{name}@{shown}", sizes=tuple(sizes), index_from=other)

    @property
    def takes_sizes(self) -> bool:
        """Whether it has ids whose sizes can be chosen; those that the data decide have none."""
        if self.index_from is not None:
            return self.index_from.takes_sizes
        if not self.recipe:
            return False
        ids = load_recipe(self.recipe, self.settings).ids
        return ids.partition(":")[0] not in FROM_DATA


def parse_systems(names: str | Iterable[str]) -> list[System]:
    """The systems of a comparison, each once, in the order given.

    A system is a recipe with an optional variant (`uri:no_em`; after `fixed:` also any value of
    `ids`) and optional codebook sizes (`@16x16`), a recipe on the ids of another one
    (`dsi:index_from=uri:no_em@16x16`), ids by themselves (`ids:rq@16x16`), a baseline without
    training, or two of them joined by `+`, their fusion.

    Args:
        names: Names, or one text with commas between them.

    Raises:
        ConfigError: For an unknown name, with the nearest known one, or none at all.
    """
    words = names.split(",") if isinstance(names, str) else list(names)
    found = [parse_system(word.strip()) for word in words if word.strip()]
    if not found:
        raise ConfigError(
            "no system is named; for example uri,fixed:kmeans,dense,bm25, or the preset uri-table1."
        )
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
    for part in (first, second):
        if not part.searched:
            raise ConfigError(f"'{part.name}' answers no queries: there is nothing to fuse.")
    return System(f"{first.name}+{second.name}", parts=(first, second))


def parse_sizes(sizes: str | Iterable[str | Sequence[int]]) -> list[tuple[int, ...]]:
    """Codebook sizes such as `16x16,32x32`.

    Raises:
        ConfigError: When they are something else.
    """
    words = sizes.split(",") if isinstance(sizes, str) else list(sizes)
    return [_sizes(word) if isinstance(word, str) else tuple(word) for word in words if word]


def known_systems() -> list[str]:
    """Every name without sizes: recipes, their variants, given ids, untrained baselines."""
    recipes = _recipes()
    named = [f"{recipe}:{variant}" for recipe in recipes for variant in variants(recipe)]
    named += [f"{GIVEN_IDS}:{ids}" for ids in (*GIVEN, *FROM_DATA)]
    named += [f"{ONLY_IDS}:{ids}" for ids in _only_ids()]
    return [*recipes, *dict.fromkeys(named), *UNTRAINED]


def _only_ids() -> list[str]:
    """Ids that no training changes, so that they can be measured without any."""
    return [ids for ids in (*GIVEN, *FROM_DATA) if ids not in ("em", "none")]


def _recipes() -> list[str]:
    """Names of recipes, without reading what they say."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _head(text: str) -> tuple[System, str]:
    """The system with which a text begins, and what follows from its `+` on.

    A recipe's name may hold a plus itself (`asi++`), so the longest known name counts.
    """
    for name in sorted((*_recipes(), *UNTRAINED, ONLY_IDS), key=len, reverse=True):
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
    """A recipe, or ids by themselves, with what follows its name."""
    match = re.match(
        rf"(?::(?!{INDEX_FROM})(?P<variant>[^@+]*?)(?=:{INDEX_FROM}|[@+]|$))?"
        rf"(?::{INDEX_FROM}(?P<other>.*)|@(?P<sizes>[^+]*))?",
        rest,
    )
    assert match is not None
    variant, other, sizes = match["variant"], match["other"], match["sizes"]
    if name == ONLY_IDS:
        system = _ids(variant or "")
    else:
        system = System(name, name) if variant is None else _variant(name, variant)
    if other is not None:
        return _taking_ids(system, other)
    if sizes is not None:
        if not system.takes_sizes:
            raise ConfigError(f"'{system.name}' has no codebook sizes to choose (@{sizes}).")
        system = system.at(_sizes(sizes))
    return system, rest[match.end() :]


def _taking_ids(system: System, text: str) -> tuple[System, str]:
    """A system on the ids of the one with which a text begins, and what follows of the text."""
    other, rest = _head(text)
    name = f"{system.name}:{INDEX_FROM}{other.name}"
    if other.recipe == "" or not other.searched:
        raise ConfigError(f"'{name}': '{other.name}' is not trained; name a system with ids.")
    if other.index_from is not None:
        raise ConfigError(f"'{name}': '{other.name}' takes the ids of another one; name that one.")
    if system.settings or not system.searched:
        raise ConfigError(
            f"'{name}' names ids twice; {GIVEN_IDS}:{INDEX_FROM}{other.name} learns those."
        )
    for one, lacks in ((other, "has no ids"), (system, "learns no ids")):
        if load_recipe(one.recipe, one.settings).ids == "none":
            raise ConfigError(f"'{name}': '{one.name}' {lacks}.")
    return replace(system, name=name, sizes=other.sizes, index_from=other), rest


def _ids(kind: str) -> System:
    """Ids by themselves."""
    if kind.partition(":")[0] not in _only_ids():
        raise _unknown(f"{ONLY_IDS}:{kind}")
    return replace(_given(ONLY_IDS, kind), searched=False)


def _variant(recipe: str, variant: str) -> System:
    """A recipe's variant, or given ids."""
    name = f"{recipe}:{variant}"
    if variant in variants(recipe):
        return System(name, name)
    if recipe != GIVEN_IDS or variant.partition(":")[0] not in (*GIVEN, *FROM_DATA):
        raise _unknown(name)
    return _given(recipe, variant)


def _given(shown_as: str, ids: str) -> System:
    """The recipe for given ids with a value of `ids`."""
    kind, _, argument = ids.partition(":")
    name = f"{shown_as}:{kind}"
    if kind in PLACES and not argument:
        raise ConfigError(f"'{name}' needs the place of the ids: {name}:PATH.")
    shown = name + (f":{Path(argument).name}" if argument else "")
    return System(shown, GIVEN_IDS, (f"ids={ids}",))


def _sizes(text: str) -> tuple[int, ...]:
    if not _SIZES.fullmatch(text):
        raise ConfigError(f"codebook sizes are written like 16x16; found '{text}'.")
    return tuple(int(size) for size in text.split("x"))


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"Unknown system '{name}'{nearest(name, known_systems())}.")
