"""Checkpoints of a comparison: trained where they are not there yet, the start once a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_genret.data import RetrievalData
from hf_genret.errors import CheckpointError, GenRetError
from hf_genret.evaluation import scrub_command
from hf_genret.manifest import TRAINING_FILE, check_manifest, read_manifest, weights_digest
from hf_genret.sealed import read_object
from hf_genret.training import api
from hf_genret.training.compare.names import System
from hf_genret.training.compare.plan import START, Plan
from hf_genret.training.given import shown_setting
from hf_genret.training.recipes import Recipe
from hf_genret.training.run_folder import IDENTITY, identity, work_folder


class Checkpoints:
    """The folder in which the checkpoints of a comparison lie.

    A checkpoint is used as it is when it was trained on the same data with the same settings,
    seed and start; otherwise it is trained, going on where an interrupted run stopped.

    Args:
        folder: Of the comparison.
        data: What is trained on.
        plan: The recipes.
        tell: Hears what is being trained.
        encodings: Where encodings are kept; in the folder by default.
    """

    def __init__(
        self,
        folder: Path,
        data: RetrievalData,
        plan: Plan,
        tell: Callable[[str], None],
        encodings: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.data, self.plan, self.tell = folder, data, plan, tell
        self.encodings = folder / "encodings" if encodings is None else encodings
        self.overwrite = overwrite
        self._ready: dict[tuple[str, int], Path] = {}
        self._failed: dict[tuple[str, int], str] = {}  # not tried again for each that needs it
        self._digests: dict[tuple[str, int], str] = {}

    def get(self, system: System, seed: int) -> Path:
        """The checkpoint of a system, trained now where it has to be.

        Raises:
            GenRetError: When the training fails.
        """
        key = (system.name, seed)
        if key in self._failed:
            raise CheckpointError(f"'{system.name}' failed: {self._failed[key]}")
        if key not in self._ready:
            try:
                self._ready[key] = self._made(system, seed)
            except (GenRetError, ValueError, RuntimeError) as error:
                self._failed[key] = str(error)
                raise
        return self._ready[key]

    def digest(self, system: System, seed: int) -> str:
        """`weights_digest` of a system's checkpoint."""
        key = (system.name, seed)
        if key not in self._digests:
            self._digests[key] = weights_digest(self.get(system, seed))
        return self._digests[key]

    def _made(self, system: System, seed: int) -> Path:
        """The checkpoint as it lies there, or trained."""
        place = self.place(system, seed)
        recipe = self.recipe(system, seed)
        wanted = json.loads(json.dumps(identity(self.data, recipe, seed)))
        if _recorded(place) == wanted:
            return place
        work = work_folder(place)
        interrupted = _interrupted(work) == wanted
        self.tell(f"{system.name}, seed {seed}: {'going on' if interrupted else 'training'}")
        api.train_on(
            self.data,
            recipe,
            place,
            seed=seed,
            command=self.command(system, seed),
            resume=interrupted,
            encodings=self.encodings,
            overwrite=self.overwrite or not (_sound(place) or work.exists()),
        )
        return place

    def place(self, system: System, seed: int) -> Path:
        """Where a system's checkpoint lies."""
        return self.folder / f"seed-{seed}" / system.slug

    def command(self, system: System, seed: int) -> str:
        """The command that trains a system alone; START is the checkpoint of the start."""
        line = ["hf-genret", "train", "DATA", "--recipe", system.recipe, "--seed", str(seed)]
        for setting in self.plan.settings_of(system):
            line += ["--set", shown_setting(setting)]
        line += ["--set", "controls=[]"]
        if self.plan.shares_start(system):
            line += ["--set", "start_from=START"]
        return scrub_command(line, {})

    def recipe(self, system: System, seed: int) -> Recipe:
        """The recipe with the checkpoints it begins from, trained now where they have to be.

        Its settings name their content and not their place.

        Raises:
            GenRetError: When one of them fails.
        """
        shares, other = self.plan.shares_start(system), system.index_from
        start = str(self.get(START, seed).resolve()) if shares else ""
        ids = "" if other is None else str(self.get(other, seed).resolve())
        recipe = self.plan.recipe(system, start, ids)
        if shares:
            recipe.settings["start_from"] = f"{START.name} {self.digest(START, seed)}"
        if other is not None:
            recipe.settings["index_from"] = f"{other.name} {self.digest(other, seed)}"
        return recipe


def training_record(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of its training.

    Raises:
        CheckpointError: When it says nothing.
    """
    try:
        return read_object(checkpoint / TRAINING_FILE)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint} holds no record of its training.") from error


def _recorded(checkpoint: Path) -> dict[str, Any] | None:
    """The identity of a checkpoint; None where there is none, or a damaged one."""
    try:
        check_manifest(checkpoint)
        manifest = read_manifest(checkpoint)
        record = training_record(checkpoint)
    except (CheckpointError, OSError):
        return None
    if manifest is None or not isinstance(manifest.get("data"), dict):
        return None
    return {
        "data": manifest["data"].get("fingerprint"),
        "seed": manifest.get("seed"),
        "recipe": record.get("recipe"),
    }


def _sound(checkpoint: Path) -> bool:
    """Whether a folder holds a whole checkpoint, so that training another loses something."""
    return _recorded(checkpoint) is not None


def _interrupted(work: Path) -> dict[str, Any] | None:
    """The identity of an interrupted run; None where there is none."""
    try:
        found = read_object(work / "run.json")
    except CheckpointError:
        return None
    return {name: value for name, value in found.items() if name in IDENTITY}
