"""Where a run lies until its checkpoint is whole, and how it is known when it goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from hf_genret.data import RetrievalData
from hf_genret.errors import CheckpointError
from hf_genret.files import atomic_write_text
from hf_genret.sealed import read_object
from hf_genret.training.arguments import GenRetTrainingArguments
from hf_genret.training.curriculum import STATE_FILE
from hf_genret.training.processes import is_main, main_says, wait
from hf_genret.training.recipes import Recipe

RUN_FILE = "run.json"
IDENTITY = ("data", "seed", "recipe")
_OF_A_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)
_TORCH_WRITING = "PytorchStreamWriter|unexpected pos|basic_ios|file write failed"


def work_folder(output: Path) -> Path:
    """Where a run lies until its checkpoint is whole."""
    return output.with_name(output.name + ".run")


def identity(data: RetrievalData, recipe: Recipe, seed: int) -> dict[str, Any]:
    """What has to be the same when a run goes on."""
    return {"data": data.fingerprint, "seed": seed, "recipe": recipe.settings}


@contextmanager
def begun(work: Path, resume: bool) -> Iterator[None]:
    """Let the folder of a run be there from the first moment; a mistake leaves no empty one.

    A run that is killed before it has written anything can then go on like any other.

    Raises:
        CheckpointError: When a run shall go on and none ever began.
    """
    if resume and not work.is_dir():
        raise CheckpointError(f"{work} holds no interrupted run to resume.")
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except Exception:
        if is_main():
            with contextlib.suppress(OSError):
                work.rmdir()  # it stays where a run has left something
        raise


def prepare(work: Path, resume: bool, wanted: dict[str, Any], *, overwrite: bool = False) -> None:
    """Prepare the folder in which checkpoints of the run lie until the checkpoint is published.

    A run that was killed before it had written what it is has lost nothing: it begins anew.

    Args:
        work: The folder.
        resume: Whether an interrupted run goes on.
        wanted: The run's `identity`.
        overwrite: Whether an interrupted run may be given up for this one.

    Raises:
        CheckpointError: When the interrupted run is another one, what is there is none, or a run
            that could go on would be given up.
    """
    file = work / RUN_FILE
    if resume and not main_says(is_main() and _blank(work)):
        if not file.is_file():
            raise CheckpointError(f"{work} holds no interrupted run to resume.")
        before = read_object(file)
        other = [name for name, value in wanted.items() if before.get(name) != value]
        if other:
            raise CheckpointError(
                f"The interrupted run in {work} had another {' and '.join(other)}; "
                "resume it with the same, or start anew without resuming."
            )
        _compare_threads(before.get("threads"))
    elif not resume and not overwrite and main_says(is_main() and _has_states(work)):
        raise CheckpointError(
            f"{work} holds an interrupted run; --resume goes on with it, --overwrite gives it up."
        )
    elif is_main():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, json.dumps({**wanted, "threads": torch.get_num_threads()}) + "\n")
    wait()


def _has_states(work: Path) -> bool:
    """Whether a run has saved anything that it could go on from."""
    return any(work.glob(f"*/{STATE_FILE}"))


def _blank(work: Path) -> bool:
    """Whether a run was killed before it had written what it is, and so before all else."""
    if not all(path.name.lstrip(".").startswith(RUN_FILE) for path in work.iterdir()):
        return False
    try:
        return not read_object(work / RUN_FILE)
    except CheckpointError:
        return True


def _compare_threads(before: Any) -> None:
    """Say it where other threads than before add up the same numbers."""
    now = torch.get_num_threads()
    if before is not None and before != now:
        print(
            f"The interrupted run used {before} threads, this process uses {now}: the weights will "
            f"differ in their last bits. OMP_NUM_THREADS={before} makes them the same.",
            file=sys.stderr,
        )


@contextmanager
def disk_named(work: Path) -> Iterator[None]:
    """Say in one sentence that a disk is full or may not be written, whoever noticed it first.

    Raises:
        CheckpointError: In the place of what the writing library says.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = _disk_reason(error)
        if reason is None:
            raise
        message = f"the run could not be written ({reason}); with room there, --resume goes on."
        raise CheckpointError(f"{work}: {message}") from error


def _disk_reason(error: BaseException | None) -> str | None:
    """What a disk said, in whatever library's words; None where it was something else."""
    while error is not None:
        spoken = re.search(r"os error (\d+)", str(error))
        if isinstance(error, SafetensorError) and spoken is not None:
            return os.strerror(int(spoken[1]))
        if isinstance(error, OSError) and error.errno in _OF_A_DISK:
            return os.strerror(error.errno)
        if isinstance(error, RuntimeError) and re.search(_TORCH_WRITING, str(error)):
            return "the disk refused a part of a file; it may be full"
        error = error.__cause__ or error.__context__
    return None


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
