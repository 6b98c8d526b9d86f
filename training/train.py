"""`accelerate launch -m hf_genret.training.train DATA --recipe uri --output OUT`: several processes.

The same arguments as `hf-genret train`; one process gives the same as that command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `hf-genret train` with these arguments.

    Args:
        arguments: Without the program's name; the command line's by default.

    Returns:
        The exit status.
    """
    from hf_genret.cli.main import main as command

    given = list(sys.argv[1:] if arguments is None else arguments)
    status = command(["train", *given])
    _leave_together()
    return status


def _leave_together() -> None:
    """Let all processes arrive before any tears the group down; gloo aborts otherwise."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
