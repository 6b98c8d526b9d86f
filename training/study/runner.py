"""The study from data to report: what is not there is trained and measured, a cell at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hf_genret.errors import GenRetError
from hf_genret.evaluation.report import report as make_report
from hf_genret.outputs import check_results
from hf_genret.training.compare.checkpoints import Checkpoints, training_record
from hf_genret.training.compare.plan import START
from hf_genret.training.given import shown_setting
from hf_genret.training.study.cells import (
    Facts,
    Values,
    drop,
    lines_of,
    load_cell,
    measure,
    save_cell,
)
from hf_genret.training.study.clock import Clock, spoken
from hf_genret.training.study.grid import Cell
from hf_genret.training.study.plan import Study, Wish
from hf_genret.training.study.probabilities import probability_facts
from hf_genret.training.study.write import write_study

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]


def study(
    wish: Wish, output: str | Path, *, tell: Tell = logger.info, overwrite: bool = False
) -> dict[str, Any]:
    """Train what is not there, measure every cell, and write the report.

    Started again with the same arguments it goes on where it was stopped; what was measured is
    neither trained nor measured again. A cell that fails is reported, and the others go on.

    Args:
        wish: What is asked for.
        output: Folder for cells, checkpoints and the report.
        tell: Hears what is being trained and measured, and how long the rest will take.
        overwrite: Replace results on other data, and checkpoints of other settings, that stand in
            the folder.

    Returns:
        The report, also in `report.json`; `failed` names what did not work.

    Raises:
        ConfigError: For an unknown factor, recipe or setting, before anything is trained.
        DataError: When the data have a fault, no test queries, or histories.
        CheckpointError: When results on other data stand in the folder.
    """
    began = time.perf_counter()
    plan, folder = Study(wish), Path(output).expanduser().resolve()
    check_results(folder, plan.slices.whole.fingerprint, overwrite=overwrite)
    runner = Runner(plan, folder, tell, overwrite)
    runner.run()
    cells, values = runner.results()
    report = make_report(
        plan.slices.whole,
        "test",
        plan.command(),
        0,
        time.perf_counter() - began,
        {},
        extra={
            "study": plan.facts(),
            "seeds": list(range(wish.seeds)),
            "cells": cells,
            "failed": runner.failed,
        },
    )
    return write_study(report, values, folder)


def list_cells(wish: Wish, output: str | Path) -> list[tuple[Cell, bool]]:
    """The cells of a study in order, and whether each is done; nothing is trained.

    Args:
        wish: What is asked for.
        output: Folder of the study.
    """
    plan, folder = Study(wish), Path(output).expanduser().resolve()
    runner = Runner(plan, folder, logger.info)
    return [(cell, runner.kept(cell) is not None) for cell in plan.cells]


class Runner:
    """Goes through the cells of a study.

    Args:
        plan: The study.
        folder: Where everything goes.
        tell: Hears of it.
        overwrite: Whether checkpoints of other settings are replaced.
    """

    def __init__(self, plan: Study, folder: Path, tell: Tell, overwrite: bool = False) -> None:
        self.plan, self.folder, self.tell = plan, folder, tell
        self.overwrite = overwrite
        self.failed: list[dict[str, str]] = []
        self.clock = Clock()
        self._identities = {cell.slug: plan.identity(cell) for cell in plan.cells}
        self._checkpoints: dict[float, Checkpoints] = {}

    def kept(self, cell: Cell) -> tuple[Facts, Values] | None:
        """A cell as it lies there; None where it has to be made."""
        return load_cell(self.folder / "cells" / cell.slug, self._identities[cell.slug])

    def run(self) -> None:
        """Every cell that is not there."""
        open_cells = [cell for cell in self.plan.cells if self.kept(cell) is None]
        done = len(self.plan.cells) - len(open_cells)
        if done:
            self.tell(f"{done} of {len(self.plan.cells)} cells are there already.")
        for place, cell in enumerate(open_cells):
            rest = open_cells[place + 1 :]
            name = f"{done + place + 1}/{len(self.plan.cells)} {cell.title}"
            twin = self._twin(cell)
            if twin is not None:
                self._save(cell, *twin)
                self.tell(f"{name}: the same as {twin[0]['title']}")
            else:
                self._try(cell, name, rest)
            self._clear(cell, rest)

    def results(self) -> tuple[list[Facts], dict[str, Values]]:
        """All cells that are there, and the values of their queries by slug."""
        cells, values = [], {}
        for cell in self.plan.cells:
            found = self.kept(cell)
            if found is not None:
                for facts, own in lines_of(cell.slug, *found):
                    cells.append(facts)
                    values[facts["slug"]] = own
        return cells, values

    def _try(self, cell: Cell, name: str, rest: Sequence[Cell]) -> None:
        """One cell, and how long the rest will take; what fails is said and noted."""
        self.clock.start()
        try:
            trained = self._make(cell, lambda what: self.tell(f"{name}: {what}"))
        except (GenRetError, ValueError, RuntimeError) as error:
            # Hours of other cells are not given up for one.
            logger.debug("%s failed", cell.slug, exc_info=True)
            self.tell(f"{name}: failed: {error}")
            self.failed.append({"cell": cell.slug, "error": self._plain(str(error))})
            return
        with_start = self.plan.plan.shares_start(cell.trained)
        took = self.clock.stop(cell, trained, with_start=with_start)
        left = self.clock.left([other for other in rest if not self._shares(other, cell, rest)])
        self.tell(f"{name}: done in {spoken(took)}, about {spoken(left)} left")

    def _shares(self, cell: Cell, done: Cell, rest: Sequence[Cell]) -> bool:
        """Whether a cell's figures are those of one before it, so that they take no time."""
        own = self._identities[cell.slug]
        before = [done, *rest[: rest.index(cell)]]
        if any(self._identities[other.slug] == own for other in before):
            return True
        return self._twin(cell) is not None

    def _make(self, cell: Cell, tell: Tell) -> bool:
        """One cell, made and written; whether it was trained for."""
        checkpoints = self._checkpoints_of(cell.share)
        place = checkpoints.place(cell.trained, cell.seed)
        before = place.is_dir()
        checkpoints.tell = lambda line: tell(line.partition(": ")[2] or line)
        checkpoint = checkpoints.get(cell.trained, cell.seed)
        tell("measuring")
        facts, values = measure(cell, checkpoint, self.plan.place(cell), probability_facts)
        facts["costs"]["training_seconds"] = self._training_seconds(cell, checkpoints)
        facts |= {"settings": list(map(shown_setting, self.plan.plan.settings_of(cell.trained)))}
        facts |= {"command": checkpoints.command(cell.trained, cell.seed)}
        self._save(cell, facts, values)
        return not before

    def _save(self, cell: Cell, facts: Facts, values: Values) -> None:
        """Figures and where they stand in the grid."""
        value = facts[cell.counts] if cell.counts else cell.value
        about = {
            "factor": cell.factor,
            "value": value,
            "label": cell.label,
            "title": cell.title,
            "system": cell.line,
            "baseline": cell.baseline,
            "recipe": cell.trained.recipe,
            "seed": cell.seed,
            "identity": self._identities[cell.slug],
        }
        save_cell(self.folder / "cells" / cell.slug, {**facts, **about}, values)

    def _twin(self, cell: Cell) -> tuple[Facts, Values] | None:
        """A cell of another factor with the same figures."""
        own = self._identities[cell.slug]
        for other in self.plan.cells:
            if other.slug != cell.slug and self._identities[other.slug] == own:
                found = self.kept(other)
                if found is not None:
                    return found
        return None

    def _checkpoints_of(self, share: float) -> Checkpoints:
        if share not in self._checkpoints:
            self._checkpoints[share] = Checkpoints(
                self.folder / "checkpoints" / f"corpus-{100 * share:g}",
                self.plan.part(share),
                self.plan.plan,
                self.tell,
                encodings=self.folder / "encodings",
                overwrite=self.overwrite,
            )
        return self._checkpoints[share]

    def _training_seconds(self, cell: Cell, checkpoints: Checkpoints) -> float:
        """Of the cell and of the start that it shares; none on a corpus that is only indexed."""
        if cell.elsewhere:
            return 0.0
        seconds = float(training_record(checkpoints.place(cell.trained, cell.seed))["seconds"])
        if self.plan.plan.shares_start(cell.trained):
            seconds += float(training_record(checkpoints.place(START, cell.seed))["seconds"])
        return seconds

    def _clear(self, cell: Cell, rest: Sequence[Cell]) -> None:
        """Remove the checkpoint that no later cell needs, unless it is a default's of the whole."""
        checkpoints = self._checkpoints.get(cell.share)
        if checkpoints is None or self.plan.wish.keep_checkpoints:
            return
        needed = {other.training for other in rest}
        needed |= {(other.share, other.seed, START.name) for other in rest}
        if cell.share >= 1:
            needed |= {(cell.share, cell.seed, name) for name in (START.name, self.plan.generative)}
        for system in (cell.trained, START):
            if (cell.share, cell.seed, system.name) not in needed:
                drop(checkpoints.place(system, cell.seed))

    def _plain(self, text: str) -> str:
        """A sentence without the folders of this machine."""
        for place, name in ((str(self.folder), "DIR"), (str(self.plan.wish.data), "DATA")):
            text = text.replace(place, name)
        return " ".join(text.split())
