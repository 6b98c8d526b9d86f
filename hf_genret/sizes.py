"""The sizes in a configuration beside those of the weights, compared before memory is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from hf_genret.errors import CheckpointError
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.sealed import read_object
from hf_genret.tensor_files import Entry, read_header

Header = Mapping[str, Entry]

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
_TIED = 4
"""How often a number may count that stands in the files once (tied weights)."""
_SPARE = 10_000
_MOST = 1_000_000  # parameters that any model has


def read_config(folder: Path) -> GenRetConfig:
    """The configuration of a checkpoint folder.

    Raises:
        CheckpointError: When it is missing or says what cannot be.
    """
    read_object(folder / "config.json")
    try:
        return GenRetConfig.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # whatever values of other types make a library raise
        raise CheckpointError(f"{folder / 'config.json'}: {_reason(error)}.") from error


def weights_header(folder: Path) -> dict[str, Entry]:
    """Type and shape of each of a checkpoint's weights, by the headers of its file or files.

    Raises:
        CheckpointError: When a file is missing, truncated or damaged.
    """
    index = folder / WEIGHTS_INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return read_header(folder / WEIGHTS)
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(n, str) for n in places.values()):
        raise CheckpointError(f"{index}: weight_map, the file of each tensor, was expected.")
    found: dict[str, Entry] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{index}: a file of this folder was expected, found '{name}'.")
        found |= read_header(folder / name)
    return found


def check_sizes(folder: Path, header: Header | None = None) -> GenRetConfig:
    """Compare what a folder's configuration describes with the weights that there are.

    The model is described without memory; a configuration that would need more than the files
    hold is refused before anything of that size is made.

    Args:
        folder: With config.json.
        header: Of all the weights; that of the folder's own files by default.

    Returns:
        The configuration.

    Raises:
        CheckpointError: When they do not fit each other, naming the first tensor.
    """
    config = read_config(folder)
    header = weights_header(folder) if header is None else header
    where = folder / "config.json"
    wanted = _described(config, len(header), where)
    for name in sorted(wanted.keys() & header.keys()):
        one, other = wanted[name], header[name]
        if one.shape != other.shape or one.floating != other.floating:
            raise CheckpointError(
                f"{where} describes '{name}' as {_spoken(one)}, the weights hold {_spoken(other)}; "
                "they do not fit."
            )
    numbers, held = (sum(math.prod(e.shape) for e in some.values()) for some in (wanted, header))
    if numbers > _TIED * held + _SPARE:
        raise CheckpointError(
            f"{where} describes a model of {numbers:,} numbers, the weights hold {held:,}; "
            "they do not fit."
        )
    return config


def check_vectors(path: Path, documents: int, dim: int) -> None:
    """Compare the header of the ranker's vectors with what the index needs.

    Raises:
        CheckpointError: When the file is damaged, or does not hold one vector a document.
    """
    header = read_header(path)
    wanted = (documents, dim)
    vectors, scales = header.get("vectors"), header.get("scales")
    if vectors is None or vectors.shape != wanted:
        found = "none" if vectors is None else f"the shape {list(vectors.shape)}"
        raise CheckpointError(
            f"{path}: vectors of the shape {list(wanted)} expected, found {found}."
        )
    exact = vectors.kind in ("F64", "F32", "F16", "BF16") and scales is None
    if not exact and (vectors.kind != "I8" or scales is None or scales.shape != wanted[:1]):
        raise CheckpointError(
            f"{path}: vectors of floating-point numbers, or of bytes with a scale for each, were "
            f"expected, found {vectors.kind}{'' if scales is None else ' with other scales'}."
        )


def entries_of(tensors: Mapping[str, Tensor]) -> dict[str, Entry]:
    """Type and shape of tensors in memory, as a header says them."""
    return {
        name: Entry("F" if value.is_floating_point() else "I", tuple(value.shape))
        for name, value in tensors.items()
    }


def _spoken(entry: Entry) -> str:
    return f"{'' if entry.floating else 'whole '}numbers of the shape {list(entry.shape)}"


def count_numbers(config: GenRetConfig) -> int:
    """The numbers in the model that a configuration describes, counted without memory.

    Raises:
        Exception: What a constructor raises where values do not fit.
    """
    with _at_most(_MOST), torch.device("meta"):
        return sum(math.prod(entry.shape) for entry in entries_of(_bare(config)).values())


def _bare(config: GenRetConfig) -> dict[str, Tensor]:
    return dict(GenRetModel(config).state_dict())


def _described(config: GenRetConfig, tensors: int, where: Path) -> dict[str, Entry]:
    """The tensors of the model that a configuration describes, made without memory."""
    try:
        with _at_most(_TIED * tensors + 1000), torch.device("meta"):
            return entries_of(_bare(config))
    except Exception as error:  # whatever values of other types make a constructor raise
        message = f"{where}: no model can be made of it ({_reason(error)})."
        raise CheckpointError(message) from error


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Stop a constructor of this thread that makes parameters without end."""
    thread, made = get_ident(), 0

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        del module, name, parameter
        nonlocal made
        made += get_ident() == thread
        if made > parameters:
            raise ValueError("it has layers without end")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _reason(error: Exception) -> str:
    """An error in one line of moderate length, without its full stop."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")
