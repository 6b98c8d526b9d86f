"""Which systems a comparison is of: those named, those of presets, at which sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hf_genret.errors import ConfigError
from hf_genret.training.build import codebook_sizes
from hf_genret.training.checks import nearest
from hf_genret.training.compare.names import System, parse_sizes, parse_systems
from hf_genret.training.compare.plan import START, Plan
from hf_genret.training.compare.presets import Preset, parse_presets

_BASELINES = ("fixed:kmeans", START.name)  # the first of them that is listed


@dataclass
class Selection:
    """What was asked for, all names checked.

    Attributes:
        presets: Those named, in order.
        extra: Systems named beside them.
        sizes: Codebook sizes that were asked for.
        settings: Overrides of all trained systems, those of presets first.
    """

    presets: list[Preset]
    extra: list[System]
    sizes: list[tuple[int, ...]]
    settings: list[str]

    @classmethod
    def of(
        cls,
        systems: str | Iterable[str],
        presets: str | Iterable[str],
        sizes: str | Iterable[str],
        settings: Sequence[str],
        task: str,
    ) -> Selection:
        """Read the words of a command for one kind of data.

        Raises:
            ConfigError: For an unknown name, naming the nearest, or none at all.
        """
        chosen = [preset.on(task) for preset in parse_presets(presets)]
        words = systems.split(",") if isinstance(systems, str) else list(systems)
        named = [word for word in words if word.strip()]
        extra = parse_systems(named) if named or not chosen else []
        given = [setting for preset in chosen for setting in preset.settings]
        return cls(chosen, extra, parse_sizes(sizes), [*dict.fromkeys(given), *settings])

    def named(self) -> list[System]:
        """Every system at the sizes that its name says, each once."""
        found = [system for preset in self.presets for system in parse_systems(preset.systems)]
        return _once([*found, *self.extra])

    def listed(self, plan: Plan, documents: int) -> list[System]:
        """The systems of the comparison, at every size.

        Args:
            plan: Of `named`, for the sizes of their recipes.
            documents: In the corpus.
        """
        tables = self.tables(plan, documents)
        found = [system for _, systems in tables.values() for system in systems]
        growing = [system for system in self.extra if system.takes_sizes and not system.sizes]
        grown = [system.at(sizes) for system in growing for sizes in self.sizes]
        return _once([*found, *self.extra, *grown])

    def tables(self, plan: Plan, documents: int) -> dict[str, tuple[Preset, list[System]]]:
        """Name of a preset -> the preset and its systems at every size; arguments as `listed`."""
        return {
            preset.name: (preset, self._of_preset(preset, plan, documents))
            for preset in self.presets
        }

    def _of_preset(self, preset: Preset, plan: Plan, documents: int) -> list[System]:
        """Systems of one preset; sizes that were asked for take the place of its own scales."""
        systems = parse_systems(preset.systems)
        if not preset.scales:
            return systems
        out: list[System] = []
        for system in systems:
            if not system.takes_sizes or system.sizes:
                out.append(system)
            elif self.sizes:
                out += [system.at(sizes) for sizes in self.sizes]
            else:
                own = codebook_sizes(plan.recipe(system.index_from or system), documents)
                out += [_scaled(system, own, scale) for scale in preset.scales]
        return _once(out)

    def baseline(self, wish: str | None, names: Sequence[str]) -> str | None:
        """The system that others are tested against: the wished one, a preset's, or a usual one.

        Raises:
            ConfigError: When the wished one is not listed.
        """
        if wish is not None:
            return in_list(wish, names, "baseline")
        wishes = [preset.baseline for preset in self.presets if preset.baseline]
        return next((name for name in (*wishes, *_BASELINES) if name in names), None)

    def repeated(self, wish: str | Iterable[str], names: Sequence[str]) -> list[str]:
        """Systems that are trained with every seed: the wished ones, those of presets, or all.

        Raises:
            ConfigError: When one is not listed.
        """
        words = wish or [name for preset in self.presets for name in preset.repeat]
        found = [system.name for system in parse_systems(words)] if words else []
        return [in_list(name, names, "repeated") for name in found] or list(names)


def in_list(wish: str, names: Sequence[str], what: str) -> str:
    """A name that has to stand in the list.

    Raises:
        ConfigError: When it does not.
    """
    if wish not in names:
        raise ConfigError(f"The {what} '{wish}' is no listed system{nearest(wish, names)}.")
    return wish


def _scaled(system: System, own: Sequence[int], scale: float) -> System:
    """A system at a multiple of its own sizes, at least two codes a level; itself at 1."""
    if scale == 1:
        return system
    return system.at([max(2, round(scale * size)) for size in own])


def _once(systems: Iterable[System]) -> list[System]:
    return list({system.name: system for system in systems}.values())
