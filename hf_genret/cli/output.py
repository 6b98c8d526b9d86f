"""What a command shows and what it writes: tables for people, JSON for programs."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from hf_genret.errors import DataWarning

if TYPE_CHECKING:
    from rich.console import Console

FILE_WIDTH = 200


class Output:
    """Where one command's result goes.

    Args:
        json_file: Where the JSON goes: a path, `-` for standard output, or None for nowhere.
    """

    def __init__(self, json_file: str | None) -> None:
        self.json_file = json_file
        self.stdout = sys.stdout
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """Standard output, or standard error where standard output belongs to the JSON."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=self.json_file == "-", soft_wrap=True, highlight=False)
            if not self._console.is_terminal:  # a file or a pipe has no edge to fold a table at
                self._console.width = FILE_WIDTH
        return self._console

    def write(self, report: Mapping[str, Any]) -> None:
        """Write the JSON where it was asked for.

        Raises:
            OSError: When the file cannot be written; an older one is then untouched.
        """
        if self.json_file is None:
            return
        from hf_genret.evaluation import write_report

        with contextlib.redirect_stdout(self.stdout):
            write_report(report, self.json_file)


def _hide_small_bars() -> None:
    """Switch off transformers' own bars: a stage of training would show dozens of a moment each."""
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.disable_progress_bar()


@contextlib.contextmanager
def output(json_file: str | None) -> Iterator[Output]:
    """The output of a command; with `-`, whatever prints meanwhile goes to standard error."""
    result = Output(json_file)
    _hide_small_bars()
    if json_file == "-":
        with contextlib.redirect_stdout(sys.stderr):
            yield result
    else:
        yield result


@contextlib.contextmanager
def notes(*, strict: bool = False) -> Iterator[None]:
    """Say what was left out of data as `Note: ...` on standard error, each time.

    Of several processes that read the same data the first one says it.

    Args:
        strict: Raise the first one instead.

    Raises:
        DataWarning: In strict mode.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "always", DataWarning)
        shown = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, DataWarning):
                shown(message, category, filename, lineno, file, line)
            elif os.environ.get("RANK", "0") == "0":
                print(f"Note: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield
