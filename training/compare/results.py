"""Every run of a comparison: measured once, kept on disk, read back when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hf_genret.data import Queries, RetrievalData
from hf_genret.data.repeats import note_repeats
from hf_genret.evaluation import Run, choose_weight, fuse
from hf_genret.evaluation.fusion import Method
from hf_genret.retriever import GenRetriever
from hf_genret.training.build import training_queries
from hf_genret.training.compare.checkpoints import Checkpoints, training_record
from hf_genret.training.compare.kept import load_measured, save_measured
from hf_genret.training.compare.measure import DEPTH, Measurer
from hf_genret.training.compare.names import System
from hf_genret.training.compare.only_ids import model_with_ids
from hf_genret.training.compare.plan import Plan

FORMAT = 4
"""Of the figures; kept ones of another format are measured anew."""
_EVEN = 0.5  # weight of both systems where there is no dev query to choose it


class Results:
    """Runs and figures by system and seed.

    Args:
        folder: Of the comparison.
        data: Corpus and splits.
        plan: The recipes.
        split: Which queries.
        fusion: How two systems are joined, `rrf` or `weighted`.
        tell: Hears what is being done.
        overwrite: Whether checkpoints of other settings are replaced.
    """

    def __init__(
        self,
        folder: Path,
        data: RetrievalData,
        plan: Plan,
        split: str,
        fusion: Method,
        tell: Callable[[str], None],
        overwrite: bool = False,
    ) -> None:
        self.folder, self.data, self.plan, self.split = folder, data, plan, split
        self.fusion, self.tell = fusion, tell
        self.checkpoints = Checkpoints(folder, data, plan, tell, overwrite=overwrite)
        self.queries = data.split(split)
        self.measurer = self._measurer(split, self.queries)
        recipe = plan.start_recipe()
        if recipe.task != "text":
            decided = recipe.search.exclude_history is None
            note_repeats(data, data.splits, self.measurer.exclude, decided)

    def get(self, system: System, seed: int) -> tuple[Run, dict[str, Any]]:
        """A system's run on the split and its figures; trained and measured where they are not.

        The run of ids by themselves is empty.

        Raises:
            GenRetError: When training or measuring fails.
        """
        identity = self._identity(system, seed, self.split)
        place = self._place(system, seed, self.split)
        found = load_measured(place, identity)
        if found is None:
            self.tell(f"{system.name}, seed {seed}: measuring")
            run, facts = self._measure(system, seed)
            save_measured(place, run, facts, identity)
            found = load_measured(place, identity)
        assert found is not None
        return found

    def dev_run(self, system: System, seed: int, dev: Queries) -> Run:
        """A system's run on dev queries."""
        identity = self._identity(system, seed, "dev")
        place = self._place(system, seed, "dev")
        measurer = self._measurer("dev", dev)

        def search() -> Run:
            if not system.recipe:
                return measurer.untrained(system.name, seed)[0]
            return measurer.run(system.name, *self._checkpoint(system, seed))

        return _kept_run(place, identity, search)

    def at_beams(self, system: System, seed: int, beams: int) -> Run:
        """A checkpoint's run on the split with another number of beams."""
        identity = self._identity(system, seed, self.split) | {"beams": beams}
        place = self.folder / "measured" / self.split / f"seed-{seed}-{beams}-beams" / system.slug

        def search() -> Run:
            retriever, record = self._checkpoint(system, seed)
            retriever.model.config.fix_beams(beams)
            self.tell(f"{system.name}, seed {seed}: searching with {beams} beams")
            return self.measurer.run(system.name, retriever, record)

        return _kept_run(place, identity, search)

    def _checkpoint(self, system: System, seed: int) -> tuple[GenRetriever, dict[str, Any]]:
        """A trained system and the record of its training."""
        folder = self.checkpoints.get(system, seed)
        return GenRetriever.from_pretrained(folder), training_record(folder)

    def dev_queries(self, seed: int) -> Queries | None:
        """The dev queries that training looks at; None where there are none."""
        recipe = self.plan.start_recipe()
        _, dev = training_queries(recipe, self.data, seed)
        if dev is None:
            return None
        rng = np.random.default_rng(seed)
        return dev.take(np.sort(rng.permutation(len(dev))[: recipe.queries.dev_limit]))

    def _measure(self, system: System, seed: int) -> tuple[Run, dict[str, Any]]:
        if system.parts:
            return self._fused(system, seed)
        if not system.searched:
            return self._only_ids(system, seed)
        if system.recipe:
            folder = self.checkpoints.get(system, seed)
            return self.measurer.checkpoint(system.name, folder, seed)
        return self.measurer.untrained(system.name, seed)

    def _only_ids(self, system: System, seed: int) -> tuple[Run, dict[str, Any]]:
        """Ids by themselves: their quality, and no search."""
        recipe = self.checkpoints.recipe(system, seed)
        model = model_with_ids(self.data, recipe, seed=seed, encodings=self.folder / "encodings")
        facts = self.measurer.ids(model, {"recipe": recipe.settings}, None, seed)
        return Run(system.name, rows=[]), facts

    def _fused(self, system: System, seed: int) -> tuple[Run, dict[str, Any]]:
        """Two systems as one, their mix chosen on dev."""
        measured = [self.get(part, seed) for part in system.parts]
        dev, weight = self.dev_queries(seed), _EVEN
        if dev is not None:
            first, second = (self.dev_run(part, seed, dev) for part in system.parts)
            weight = choose_weight((first, second), dev, method=self.fusion)
        run = fuse(
            [part for part, _ in measured],
            method=self.fusion,
            weights=(weight, 1 - weight),
            name=system.name,
            depth=DEPTH,
        )
        facts = self.measurer.figures(run, seed)
        costs = [part["costs"] for _, part in measured]
        facts["costs"] = {name: _sum(costs, name) for name in costs[0] | costs[1]}
        facts["fusion"] = {
            "method": self.fusion,
            "weight": weight,
            "of": system.parts[0].name,
            "dev_queries": 0 if dev is None else len(dev),
        }
        return run, facts

    def _measurer(self, split: str, queries: Queries) -> Measurer:
        exclude = self.plan.exclude_history(self.data.splits) and queries.histories is not None
        hidden = self.plan.start_recipe().new_documents
        return Measurer(self.data, split, queries, exclude_history=exclude, hidden=hidden)

    def _identity(self, system: System, seed: int, split: str) -> dict[str, Any]:
        """What figures are figures of."""
        about: dict[str, Any] = {
            "format": FORMAT,
            "data": self.data.fingerprint,
            "split": split,
            "seed": seed,
            "system": system.name,
            "exclude_history": self.measurer.exclude,
        }
        if own := int((self.measurer.own >= 0).sum()):
            about["own_documents"] = own
        if not system.searched:
            about["recipe"] = self.checkpoints.recipe(system, seed).settings
        elif system.recipe:
            about["weights"] = self.checkpoints.digest(system, seed)
        if system.parts:
            parts = [self._identity(part, seed, split) for part in system.parts]
            about |= {"parts": parts, "fusion": self.fusion}
        return about

    def _place(self, system: System, seed: int, split: str) -> Path:
        return self.folder / "measured" / split / f"seed-{seed}" / system.slug


def _kept_run(place: Path, identity: dict[str, Any], search: Callable[[], Run]) -> Run:
    """A run as it was kept, or made and kept now."""
    found = load_measured(place, identity)
    if found is not None:
        return found[0]
    run = search()
    save_measured(place, run, {}, identity)
    return run


def _sum(costs: list[dict[str, Any]], name: str) -> float | None:
    """A cost of two systems together; None where one does not tell."""
    values = [cost.get(name) for cost in costs]
    if name == "latency_ms" or name == "latency_alone_ms":
        return None if None in values else sum(value for value in values if value is not None)
    return sum(value for value in values if value is not None)
