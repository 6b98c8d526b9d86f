"""Presets: comparisons that have a name, each one YAML with its systems and its table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from hf_genret.training.checks import known, typed

FOLDER = Path(__file__).resolve().parent / "presets"


@dataclass
class Preset:
    """A comparison with a name.

    Attributes:
        name: Of its file.
        description: One line.
        note: What has to be said beside its figures.
        layout: Which table is laid out, a key of `hf_genret.training.compare.layouts.LAYOUTS`.
        systems: Names, in the order of the table.
        scales: The systems with ids are compared at these multiples of their recipes' own codebook
            sizes; empty for those alone.
        against: System -> the one that it is a change of, where the layout reads it.
        settings: Overrides of all trained systems, `key=value`; the user's come after them.
        baseline: The system that others are tested against.
        repeat: Systems that are trained with every seed; all by default.
        left_out: Kind of data -> system that says nothing on it -> why.
    """

    name: str
    description: str
    layout: str
    systems: list[str]
    note: str = ""
    scales: list[float] = field(default_factory=list)
    against: dict[str, str] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)
    baseline: str | None = None
    repeat: list[str] = field(default_factory=list)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    def on(self, task: str) -> Preset:
        """The preset as it is on one kind of data: without what is left out there."""
        without = self.left_out.get(task, {})
        systems = [name for name in self.systems if name not in without]
        return dataclasses.replace(self, systems=systems, left_out={task: without})


def list_presets() -> dict[str, str]:
    """Every preset: name -> one line."""
    return {path.stem: load_preset(path.stem).description for path in sorted(FOLDER.glob("*.yaml"))}


def load_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        ConfigError: When there is none, naming the nearest.
    """
    known(name, [path.stem for path in FOLDER.glob("*.yaml")], "preset")
    tree = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    for key in tree:
        known(key, [item.name for item in dataclasses.fields(Preset)], f"setting of preset {name}")
    return Preset(**typed(Preset, {"name": name, **tree}, f"preset {name}: "))


def parse_presets(names: str | Iterable[str]) -> list[Preset]:
    """Presets of a list, each once, in the order given.

    Args:
        names: Names, or one text with commas between them.

    Raises:
        ConfigError: For an unknown one.
    """
    words = names.split(",") if isinstance(names, str) else list(names)
    return [load_preset(name) for name in dict.fromkeys(map(str.strip, words)) if name]
