"""What a study is asked for, and what it makes of that: data, cells and recipes, all checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_genret.data import RetrievalData, load_data
from hf_genret.errors import ConfigError
from hf_genret.evaluation import scrub_command
from hf_genret.training.api import reading_words, task_of
from hf_genret.training.compare.plan import START, Plan
from hf_genret.training.given import shown_setting
from hf_genret.training.recipes import Recipe, load_recipe
from hf_genret.training.study.cells import Place, identity_of
from hf_genret.training.study.grid import (
    FACTORS,
    Cell,
    make_cells,
    make_grid,
    query_settings,
    shared_settings,
)
from hf_genret.training.study.slices import Slices, make_slices
from hf_genret.training.study.values import FULL, QUICK


@dataclass(frozen=True)
class Wish:
    """What a user asks of a study.

    Attributes:
        data: Folder, file or `datasets` name, as `load_data` takes it.
        settings: Overrides for all cells, `key=value`.
        factors: Names in `FACTORS`; all by default.
        recipe: Of the generative system.
        quick: Few values, few steps, few documents.
        seeds: Trainings of each cell, with seeds from 0.
        zero_shot: Another corpus with test queries, searched without training on it.
        keep_checkpoints: Keep every checkpoint and not only the defaults' on the whole corpus.
        reading: Arguments of `load_data`.
    """

    data: str | Path
    settings: Sequence[str] = ()
    factors: Sequence[str] = ()
    recipe: str = "uri"
    quick: bool = False
    seeds: int = 1
    zero_shot: str | Path | None = None
    keep_checkpoints: bool = False
    reading: Mapping[str, Any] | None = None


class Study:
    """Data, cells and recipes of a study, all checked before anything is trained.

    Args:
        wish: What is asked for.

    Raises:
        ConfigError: For an unknown factor, recipe or setting.
        DataError: When the data have a fault, no test queries, or histories.
    """

    def __init__(self, wish: Wish) -> None:
        self.wish, self.values = wish, QUICK if wish.quick else FULL
        if wish.seeds < 1:
            raise ConfigError(f"seeds is {wish.seeds}; at least 1 was expected.")
        if task_of(wish.data) != "text":
            raise ConfigError(
                f"{wish.data} holds histories of items; the study needs documents and queries "
                "with texts."
            )
        self.factors = _factors(wish)
        settings = list(wish.settings)
        recipe = load_recipe(START.recipe, query_settings(self.values, settings), "text")
        self.slices = self._cut(wish.data, wish.reading, recipe)
        whole = self.slices.whole
        grid = make_grid(wish.recipe, self.values, settings, len(whole.documents))
        self.generative = grid.generative.name
        self.cells = make_cells(grid, self.factors, wish.seeds, settings)
        systems = {cell.trained.name: cell.trained for cell in self.cells}
        shared = shared_settings(self.values, settings)
        self.plan = Plan(list(systems.values()), shared, "text")
        self._elsewhere: Place | None = None
        self._parts: dict[float, RetrievalData] = {}
        if wish.zero_shot is not None:
            found = self._cut(wish.zero_shot, wish.reading, recipe).whole
            self._elsewhere = Place(found, found.split("test"))

    def _cut(self, data: str | Path, reading: Mapping[str, Any] | None, recipe: Recipe) -> Slices:
        loaded, most = load_data(data, **(reading or {})), self.values.most
        return make_slices(loaded, recipe, self.values.shares, most=most)

    def part(self, share: float) -> RetrievalData:
        """What a cell of a share is trained on."""
        if share not in self._parts:
            self._parts = {share: self.slices.at(share)}  # one at a time: texts weigh
        return self._parts[share]

    def place(self, cell: Cell) -> Place:
        """What a cell is measured on.

        The factor `corpus` has the queries that all its parts answer, others all test queries.
        """
        if cell.elsewhere:
            assert self._elsewhere is not None  # or the factor would not be there
            return self._elsewhere
        if cell.factor != "corpus":
            whole = self.slices.whole
            return Place(whole, whole.split("test"))
        part = self.part(cell.share)
        fixed = self.slices.fixed if cell.share >= 1 else part.split("test")
        return Place(part, fixed)

    def identity(self, cell: Cell) -> str:
        """What a cell's figures are figures of."""
        recipe = self.plan.recipe(cell.trained).settings
        shared = self.plan.shares_start(cell.trained)
        start = self.plan.recipe(START).settings if shared else None
        part = self.part(cell.share).fingerprint
        return identity_of(cell, self.place(cell), part, recipe, start)

    def facts(self) -> dict[str, Any]:
        """What a report says of how the study was made."""
        values = self.values
        return {
            "quick": self.wish.quick,
            "recipe": self.wish.recipe,
            "factors": list(self.factors),
            "slices": {"shares": list(values.shares), **self.slices.facts(values.shares)},
            "train_queries": len(self.slices.whole.splits["train"]),
            "steps": {
                setting.split(".")[1]: int(setting.split("=")[1])
                for setting in values.settings
                if ".max_steps=" in setting
            },
            "zero_shot": None if self._elsewhere is None else self._elsewhere.data.name,
        }

    def command(self) -> str:
        """The command as others can give it."""
        wish = self.wish
        line = ["hf-genret", "study", "DATA"]
        line += ["--factors", ",".join(wish.factors)] if wish.factors else []
        line += ["--recipe", wish.recipe] if wish.recipe != "uri" else []
        for setting in wish.settings:
            line += ["--set", shown_setting(setting)]
        line += ["--quick"] if wish.quick else []
        line += ["--seeds", str(wish.seeds)] if wish.seeds > 1 else []
        line += ["--zero-shot", "OTHER"] if wish.zero_shot is not None else []
        return scrub_command([*line, "--output", "DIR"], {}) + reading_words(wish.reading)


def _factors(wish: Wish) -> list[str]:
    """The factors that are asked for; zero-shot where there is another corpus.

    Raises:
        ConfigError: For an unknown factor, or zero-shot without another corpus.
    """
    asked = list(wish.factors)
    if "zero_shot" in asked and wish.zero_shot is None:
        raise ConfigError("the factor zero_shot needs another corpus: --zero-shot OTHER_DATA.")
    chosen = asked or [name for name in FACTORS if name != "zero_shot"]
    if wish.zero_shot is not None and "zero_shot" not in chosen:
        chosen.append("zero_shot")
    return chosen
