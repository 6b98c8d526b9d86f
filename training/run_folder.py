"""Where a run lies until its checkpoint is whole, and how it is known when it goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from hf_genret.data import RetrievalData
from hf_genret.errors import CheckpointError
from hf_genret.files import atomic_write_text
from hf_genret.training.arguments import GenRetTrainingArguments
from hf_genret.training.processes import is_main, wait
from hf_genret.training.recipes import Recipe


def identity(data: RetrievalData, recipe: Recipe, seed: int) -> dict[str, Any]:
    """What has to be the same when a run goes on."""
    return {"data": data.fingerprint, "seed": seed, "recipe": recipe.settings}


def prepare(work: Path, resume: bool, wanted: dict[str, Any]) -> None:
    """Prepare the folder in which checkpoints of the run lie until the checkpoint is published.

    Raises:
        CheckpointError: When there is no interrupted run to resume, or it is another one.
    """
    file = work / "run.json"
    if resume:
        if not file.is_file():
            raise CheckpointError(f"{work} holds no interrupted run to resume.")
        before = json.loads(file.read_text(encoding="utf-8"))
        other = [name for name, value in wanted.items() if before.get(name) != value]
        if other:
            raise CheckpointError(
                f"The interrupted run in {work} had another {' and '.join(other)}; "
                "resume it with the same, or start anew without resuming."
            )
    elif is_main():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        atomic_write_text(file, json.dumps(wanted) + "\n")
    wait()


def arguments(folder: Path, seed: int) -> GenRetTrainingArguments:
    """What every run sets for transformers' Trainer."""
    return GenRetTrainingArguments(
        output_dir=str(folder),
        seed=seed,
        save_strategy="steps",
        save_steps=500,
        save_total_limit=1,
        logging_steps=50,
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
    )
