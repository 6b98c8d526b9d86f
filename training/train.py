"""Several processes: `accelerate launch -m hf_genret.training.train DATA --recipe R --output O`.

The arguments are those of `hf-genret train`, and one process gives the same as that command. The
main process alone writes and reports.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `hf-genret train` with these arguments.

    Args:
        arguments: Without the program's name; the command line's by default.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    main_process = int(os.environ.get("RANK", "0")) == 0
    if not main_process:
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
        given = _without_json(given)
    from hf_genret.cli.main import main as command

    with contextlib.nullcontext() if main_process else contextlib.redirect_stdout(io.StringIO()):
        status = command(["train", *given])
    if status == 0:  # after an error the launcher ends the others, who wait elsewhere
        _leave_together()
    return status


def _without_json(arguments: list[str]) -> list[str]:
    """The same without `--json FILE`: one process writes the report."""
    kept = [word for word in arguments if not word.startswith("--json=")]
    if "--json" in kept:
        place = kept.index("--json")
        del kept[place : place + 2]
    return kept


def _leave_together() -> None:
    """Let all processes arrive before any tears the group down; gloo aborts otherwise."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
