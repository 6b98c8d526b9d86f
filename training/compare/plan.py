"""What a comparison trains: a recipe a system with the settings that concern it, and its start."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_genret.data import Queries
from hf_genret.data.repeats import leaves_history_out
from hf_genret.errors import ConfigError
from hf_genret.training.compare.names import System
from hf_genret.training.recipes import Recipe, load_recipe

START = System("dense", "dense")
"""The system whose encoder and ranker the others start from."""

_OWN = ("start_from", "controls", "index_from")  # what a comparison decides itself
_START_PARTS = (
    "task",
    "encoder",
    "text",
    "lora",
    "bag",
    "items",
    "queries",
    "new_documents",
)
_START_MODEL = ("normalize", "query_adapter", "item_adapter", "query_prompt", "document_prompt")


@dataclass
class Plan:
    """Recipes of a comparison, all checked before anything is trained.

    Args:
        systems: Every system, parts of fusions apart.
        settings: Overrides for all trained systems; one of a stage goes to the systems that have
            such a stage.
        task: Kind of the data.

    Attributes:
        notes: Which overrides do not concern which systems.

    Raises:
        ConfigError: For a setting that no system knows.
    """

    systems: list[System]
    settings: Sequence[str]
    task: str
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for setting in self.settings:
            if setting.partition("=")[0].strip() in _OWN:
                key = setting.partition("=")[0].strip()
                raise ConfigError(f"--set {setting}: a comparison decides '{key}' itself.")
        trained = [system for system in self.systems if system.recipe]
        self._accepted: dict[str, list[str]] = {}
        known = dict.fromkeys([*trained, *([START] if trained else [])])
        for system in known:
            self._accepted[system.name] = self._concerns(system)
        for setting in self.settings:
            self._note_skipped(setting, trained)
        self._start = start_key(self.recipe(START)) if trained else None
        for system in trained:
            self.recipe(system)

    def recipe(self, system: System, start_from: str = "", index_from: str = "") -> Recipe:
        """A fresh recipe: training changes what it is given.

        Args:
            system: A trained one.
            start_from: Checkpoint whose encoder and ranker are taken over.
            index_from: Checkpoint whose ids are taken over, for a system that takes ids.

        Raises:
            ConfigError: When the settings do not fit.
        """
        own = [*self._accepted[system.name], *system.settings, "controls=[]"]
        if system.index_from is not None:
            own.append(f"index_from={json.dumps(index_from or system.index_from.name)}")
        elif system.sizes:
            own.append(f"model.codebook_sizes={list(system.sizes)}")
        if start_from:
            own.append(f"start_from={json.dumps(start_from)}")
        return load_recipe(system.recipe, own, self.task)

    def shares_start(self, system: System) -> bool:
        """Whether a system's first stages are those of the start, so that they need no repeat."""
        if system.name == START.name or self._start is None:
            return False
        return start_key(self.recipe(system)) == self._start

    def start_recipe(self) -> Recipe:
        """The start's recipe; as it is shipped where nothing is trained."""
        if START.name in self._accepted:
            return self.recipe(START)
        return load_recipe(START.recipe, (), self.task)

    def exclude_history(self, splits: Mapping[str, Queries]) -> bool:
        """Whether items of a history are left out of its results, for data with these splits."""
        recipe = self.start_recipe()
        return recipe.task != "text" and leaves_history_out(splits, recipe.search.exclude_history)

    def settings_of(self, system: System) -> list[str]:
        """Overrides of a system, as its command says them."""
        own = [*self._accepted[system.name], *system.settings]
        if system.index_from is not None:
            own.append(f"index_from={system.index_from.name}")
        elif system.sizes:
            own.append("model.codebook_sizes=[" + ",".join(map(str, system.sizes)) + "]")
        return own

    def _concerns(self, system: System) -> list[str]:
        """The settings that a system knows, one after another."""
        if self._takes(system, self.settings):
            return list(self.settings)
        kept: list[str] = []
        for setting in self.settings:
            if self._takes(system, [*kept, setting]):
                kept.append(setting)
            elif not setting.strip().startswith("stages."):
                load_recipe(system.recipe, [*kept, setting], self.task)  # says what is wrong
        return kept

    def _takes(self, system: System, settings: Sequence[str]) -> bool:
        try:
            load_recipe(system.recipe, [*settings, *system.settings], self.task)
        except ConfigError:
            return False
        return True

    def _note_skipped(self, setting: str, trained: Iterable[System]) -> None:
        without = [s.name for s in trained if setting not in self._accepted[s.name]]
        if without and not any(setting in kept for kept in self._accepted.values()):
            first = next(system for system in trained if system.name == without[0])
            load_recipe(first.recipe, [setting], self.task)  # says what is wrong with it
            raise ConfigError(f"--set {setting}: no system that was named takes it.")
        if without:
            self.notes.append(f"{setting} does not concern {', '.join(without)}.")


def start_key(recipe: Recipe) -> dict[str, Any] | None:
    """What encoder and ranker become in the first stages; equal keys can share them.

    None where the first stages cannot be taken over (low-rank adapters are merged afterwards).
    """
    tree = recipe.settings
    if recipe.lora.r:
        return None
    shared = tree.get("shared_stages") or []
    model = tree.get("model") or {}
    return {
        **{part: tree.get(part) for part in _START_PARTS},
        "model": {
            key: value
            for key, value in model.items()
            if key in _START_MODEL or key.startswith("ranker")
        },
        "stages": [stage for stage in tree["stages"] if stage["name"] in shared],
    }


def needed_systems(listed: Iterable[System]) -> list[System]:
    """Systems that a comparison needs, each once.

    Those listed, the parts of fusions, and those whose ids others take.
    """
    found: dict[str, System] = {}
    for system in listed:
        for part in system.parts or (system,):
            for one in (part.index_from, part):
                if one is not None:
                    found.setdefault(one.name, one)
    return list(found.values())
