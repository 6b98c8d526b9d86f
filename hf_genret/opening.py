"""A whole checkpoint or adapter opened at once: everything of one save."""

from __future__ import annotations

from pathlib import Path

import torch

from hf_genret import adapters, checkpoints
from hf_genret.errors import CheckpointError, ConfigError, GenRetError
from hf_genret.manifest import check_manifest, read_manifest
from hf_genret.state import State, read_records
from hf_genret.swap import read_folder


def read_state(
    folder: Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    base: str | Path | None = None,
) -> State:
    """Everything that a checkpoint or an adapter holds, opened at once and of one save.

    Args:
        folder: As `locate` finds it.
        dtype: Of the weights; as they were saved by default.
        device: A GPU where there is one by default.
        base: Of an adapter, where it is no longer where the adapter says.

    Raises:
        CheckpointError: Missing, incomplete, damaged, contradicting itself, or an adapter of
            another base.
    """

    def read(still: Path) -> State:
        try:
            return _read_state(still, folder, dtype, device, base)
        except GenRetError as error:  # under the name that the user knows
            raise type(error)(str(error).replace(str(still), str(folder))) from error

    try:
        return read_folder(folder, read, (CheckpointError,))
    except OSError as error:
        raise CheckpointError(
            f"{folder}: it cannot be read ({error.strerror or error})."
        ) from error


def _read_state(
    still: Path,
    folder: Path,
    dtype: torch.dtype | str | None,
    device: str | None,
    base: str | Path | None,
) -> State:
    """`read_state` of a folder that holds still."""
    check_manifest(still)
    if adapters.is_adapter(still):
        model = adapters.load_adapter(still, base, dtype=dtype, device=device)
    elif base is not None:
        raise ConfigError(f"{folder} is a whole checkpoint; base= is for adapters.")
    else:
        model = checkpoints.load_model(still, dtype, device)
    tokenizer = checkpoints.load_tokenizer(still, model)
    documents = checkpoints.load_documents(still, model)
    model.config.name_or_path = str(folder)
    if tokenizer is not None:
        tokenizer.name_or_path = str(folder)
    own = ("format", "files", "versions")
    facts = {key: value for key, value in (read_manifest(still) or {}).items() if key not in own}
    return State(model, tokenizer, documents, folder.resolve(), facts, read_records(still))
