"""safetensors files: their tensors, or the sizes in their headers, or one clear sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from hf_genret.errors import CheckpointError


class Entry(NamedTuple):
    """What a header says of a tensor.

    Attributes:
        kind: Its type as safetensors names it, for example `F32`.
        shape: Its axes.
    """

    kind: str
    shape: tuple[int, ...]

    @property
    def floating(self) -> bool:
        """Whether its numbers are no whole ones."""
        return "F" in self.kind


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever the library says of a file, with the file's name."""
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a safetensors file, found none.")
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        message = f"{path}: the file is truncated or damaged ({reason})."
        raise CheckpointError(message) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file.

    Raises:
        CheckpointError: When it is missing, truncated or damaged.
    """
    with _named(path):
        found: dict[str, Tensor] = load_file(path)
        return found


def read_header(path: Path) -> dict[str, Entry]:
    """Type and shape of every tensor, by the header alone, which fits the file's size.

    Raises:
        CheckpointError: When it is missing, truncated or damaged.
    """
    with _named(path), safe_open(str(path), framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: Entry(p.get_dtype(), tuple(p.get_shape())) for name, p in parts.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that a file says of itself; empty where it says nothing.

    Raises:
        CheckpointError: When it is missing, truncated or damaged.
    """
    with _named(path), safe_open(str(path), framework="pt") as file:
        return dict(file.metadata() or {})


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, kinds, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
