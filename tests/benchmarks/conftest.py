"""What benchmarks share: where their figures go."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from hf_genret.evaluation import versions
from hf_genret.files import atomic_write_text


@pytest.fixture
def record():
    """Writes one benchmark's figures to benchmarks/NAME.json and prints them."""

    def write(name, figures):
        whole = {"name": name, "machine": platform.machine(), "versions": versions(), **figures}
        text = json.dumps(whole, indent=2) + "\n"
        atomic_write_text(Path("benchmarks") / f"{name}.json", text)
        print(f"\n{name}: {figures}")

    return write
