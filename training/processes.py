"""Several processes train one model: what they have to agree on."""

from __future__ import annotations

from typing import TypeVar

import torch

T = TypeVar("T")


def together() -> bool:
    """Whether this process is one of several."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and world_size() > 1


def world_size() -> int:
    """How many processes train this model."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def is_main() -> bool:
    """Whether this process is the one that writes files."""
    return not together() or torch.distributed.get_rank() == 0


def main_says(value: T) -> T:
    """What the main process has, in every process.

    The same computation can differ in its last bits between devices, and an id or an early stop
    that follows from it must not.
    """
    if not together():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def wait() -> None:
    """Go on when every process has come here."""
    if together():
        torch.distributed.barrier()
