"""Spoils the files that the package reads; every one has to be refused in a sentence, or held.

python tests/torture/fuzz_files.py --seconds 60 --seed 0
python tests/torture/fuzz_files.py --only adapter --cases 500
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from mutations import spoil  # noqa: E402
from workers import Case, Table, run_cases, serve  # noqa: E402


def cases(
    root: Path, kinds: Sequence[str], seed: int, *, count: int | None, seconds: float
) -> Iterator[tuple[str, Case, str]]:
    """Spoiled copies of good folders, one kind after another, until time or count is over."""
    from targets import TARGETS

    for kind in kinds:
        good = root / kind.replace(" ", "-")
        good.mkdir()
        TARGETS[kind].make(good)
        whole = root / "whole" / good.name
        shutil.copytree(good, whole)
        yield kind, {"kind": kind, "folder": str(whole), "good": True}, "nothing"
    end = time.monotonic() + seconds
    for number in itertools.count():
        if count is not None and number >= count * len(kinds):
            return
        if count is None and time.monotonic() > end:
            return
        kind = kinds[number % len(kinds)]
        rng = Random(f"{seed} {number}")
        good, bad = root / kind.replace(" ", "-"), root / f"case-{number}"
        shutil.copytree(good, bad)
        done = spoil(bad, rng, spare=TARGETS[kind].spare)
        if rng.randrange(2) and (bad / "manifest.json").is_file():
            (bad / "manifest.json").unlink()  # it finds most things before a reader sees them
        yield kind, {"kind": kind, "folder": str(bad)}, f"case {number}, {done}"
        shutil.rmtree(bad, ignore_errors=True)


def fuzz(
    kinds: Sequence[str], seed: int = 0, *, count: int | None = None, seconds: float = 60
) -> Table:
    """Spoil and read for some time, or so many cases a kind."""
    with tempfile.TemporaryDirectory(prefix="torture-") as root:
        found = cases(Path(root), kinds, seed, count=count, seconds=seconds)
        return run_cases(Path(__file__), found)


def _do(case: Case) -> None:
    from targets import TARGETS

    TARGETS[case["kind"]].read(Path(case["folder"]))


def main() -> int:
    """Fuzz, print the table; 1 where something was neither refused in a sentence nor held."""
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--cases", type=int, help="of each kind, in the place of a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(TARGETS))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    wish = parser.parse_args()
    if wish.serve:
        serve(_do)
        return 0
    table = fuzz(wish.only or list(TARGETS), wish.seed, count=wish.cases, seconds=wish.seconds)
    table.print()
    return int(table.bad > 0)


if __name__ == "__main__":
    sys.exit(main())
