"""Cases in processes of their own, so that a hang or the death of a process is noticed."""

from __future__ import annotations

import json
import os
import re
import resource
import selectors
import signal
import subprocess
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

MEMORY = 10 * 2**30  # bytes of address space a worker may take
LIMIT = 20.0
"""Seconds after which a case counts as a hang."""
BAD = ("unnamed", "hang", "death")
OUTCOMES = ("refused", "loaded", *BAD)

Case = dict[str, Any]


class Worker:
    """One process that does cases; a new one takes its place when it has to be ended.

    Args:
        script: A file that calls `serve`.
        limit: Seconds a case may take.
    """

    def __init__(self, script: Path, limit: float = LIMIT) -> None:
        self.script, self.limit = script, limit
        self.process: subprocess.Popen[bytes] | None = None

    def do(self, case: Case) -> tuple[str, str]:
        """What came of a case: one of `OUTCOMES`, and what was said."""
        if self.process is None:
            self._start()
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(json.dumps(case).encode() + b"\n")
        self.process.stdin.flush()
        line = self._line(self.limit)
        if line is None:
            self.end()
            return "hang", f"no answer after {self.limit:g} s"
        if not line:
            status = self.process.wait()
            self.process = None
            return "death", _named(status)
        found = json.loads(line)
        return found["outcome"], found["said"]

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _start(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [sys.executable, str(self.script), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        ready = self._line(180)
        if not ready:
            raise RuntimeError(f"{self.script} does not start")

    def _line(self, seconds: float) -> bytes | None:
        """The next line, None after so many seconds, empty when the process is gone."""
        assert self.process is not None and self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        return self.process.stdout.readline()


def _named(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def serve(do: Callable[[Case], None]) -> None:
    """Answer cases from standard input, one a line, until it ends.

    A case that is `good` may not be refused either.
    """
    from hf_genret.errors import GenRetError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    answers.write(b'{"ready": true}\n')
    for line in sys.stdin:
        case = json.loads(line)
        try:
            do(case)
            outcome, said = "loaded", ""
        except GenRetError as error:
            said = str(error)
            fair = _is_sentence(said) and not case.get("good")
            outcome = "refused" if fair else "unnamed"
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            ours = [f for f in traceback.extract_tb(error.__traceback__) if _ours(f.filename)]
            where = ours[-1] if ours else last
            said = f"{type(error).__name__}: {str(error)[:200]} ({where.filename}:{where.lineno})"
            outcome = "unnamed"
        answers.write(json.dumps({"outcome": outcome, "said": said}).encode() + b"\n")


def _ours(name: str) -> bool:
    return bool(re.search(r"/(hf_genret|training|modeling)/", name)) and "site-packages" not in name


def _is_sentence(said: str) -> bool:
    """Whether a message is something that people can read."""
    return 0 < len(said) < 1500 and "Traceback" not in said


class Table:
    """Counts by kind and outcome, and an example of each thing that must not be."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.examples: dict[tuple[str, str], str] = {}

    def add(self, kind: str, outcome: str, said: str, done: str) -> None:
        """Note what came of a case."""
        self.counts[kind][outcome] += 1
        if outcome in BAD:
            place = re.sub(r"\d+|/tmp/\S+", "#", said)[-120:]
            self.examples.setdefault((kind, place), f"{outcome} after {done}: {said}")

    @property
    def bad(self) -> int:
        """Cases that must not be."""
        return sum(counts[name] for counts in self.counts.values() for name in BAD)

    def print(self) -> None:
        """The table and the examples."""
        columns = ["what", "tried", *OUTCOMES]
        rows = [
            [kind, counts.total(), *(counts[name] for name in OUTCOMES)]
            for kind, counts in self.counts.items()
        ]
        rows.append(["all", *(sum(row[i] for row in rows) for i in range(1, len(columns)))])
        for row in (columns, *rows):
            print(" | ".join(f"{entry!s:>{22 if i == 0 else 8}}" for i, entry in enumerate(row)))
        for (kind, _), said in self.examples.items():
            print(f"\n{kind}: {said}")


def run_cases(script: Path, cases: Iterable[tuple[str, Case, str]], limit: float = LIMIT) -> Table:
    """Do cases one after another: (kind, what the worker gets, what was done)."""
    table, worker = Table(), Worker(script, limit)
    try:
        for kind, case, done in cases:
            table.add(kind, *worker.do(case), done)
    finally:
        worker.end()
    return table
