"""How long it takes until a command answers and until the package is imported."""

from __future__ import annotations

import subprocess
import sys
import time

REPEATS = 5


def seconds(code):
    """The best of several runs of a fresh interpreter."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        best = min(best, time.perf_counter() - start)
    return round(best, 3)


def test_startup(record):
    """`hf-genret --help`, `import hf_genret`, and the model code."""
    record(
        "startup",
        {
            "unit": "seconds, best of 5",
            "help": seconds("from hf_genret.cli.main import main; main(['--help'])"),
            "import hf_genret": seconds("import hf_genret"),
            "import hf_genret.modeling": seconds("import hf_genret.modeling"),
        },
    )
