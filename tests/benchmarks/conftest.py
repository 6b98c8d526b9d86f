"""What benchmarks share: where their figures go, and the goals that they are held against."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_genret.evaluation import versions
from hf_genret.files import atomic_write_text

sys.path.insert(0, str(Path(__file__).parent))  # timing.py and ids.py, as in a folder of scripts
FOLDER = Path("benchmarks")


@pytest.fixture
def record():
    """Writes one benchmark's figures to benchmarks/NAME.json and prints them."""

    def write(name, figures):
        whole = {"name": name, "machine": machine(), "versions": versions(), **figures}
        atomic_write_text(FOLDER / f"{name}.json", json.dumps(whole, indent=2) + "\n")
        print(f"\n{name}: {figures}")

    return write


@pytest.fixture
def picture():
    """Gives the axes of a picture, written to benchmarks/NAME.png when the benchmark is over."""
    plots = pytest.importorskip("matplotlib.pyplot")
    drawn = {}

    def axes(name, title, panels):
        figure, found = plots.subplots(1, panels, figsize=(5 * panels, 3.6), layout="constrained")
        figure.suptitle(title)
        drawn[name] = figure
        return found

    yield axes
    for name, figure in drawn.items():
        figure.savefig(FOLDER / f"{name}.png", dpi=110)
        plots.close(figure)


@pytest.fixture(scope="session")
def checkpoint():
    """A trained checkpoint: `BENCH_CHECKPOINT`, or the quickstart's, trained here once."""
    named = os.environ.get("BENCH_CHECKPOINT")
    folder = Path(named) if named else FOLDER / "checkpoint"
    if not named and not folder.is_dir():
        line = [sys.executable, "-m", "hf_genret.cli.main", "quickstart", "--output", str(folder)]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """Ratios of one thread; `BENCH_THREADS` asks for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    yield
    torch.set_num_threads(before)


class Goals:
    """Goals and what was measured, kept in one file for all benchmarks of a machine's kind."""

    def __init__(self):
        self.found = []

    def add(self, name, goal, measured, peer, *, least=False):
        """One goal.

        Args:
            name: What is measured, with its setting.
            goal: The figure that should not be passed; with `least` not be missed.
            measured: The figure; None where the peer is not installed.
            peer: What it is a ratio to, or where the goal comes from.
            least: Whether more is better.
        """
        met = None
        if measured is not None:
            met = bool(measured >= goal if least else measured <= goal)
            measured = round(float(measured), 4)
        sign = ">=" if least else "<="
        entry = {"name": name, "goal": f"{sign} {goal}", "measured": measured}
        self.found.append({**entry, "met": met, "peer": peer})
        said = {True: "met", False: "MISSED", None: "no peer"}[met]
        print(f"\n  {name}: {measured} ({sign} {goal}) {said}", end="")

    def write(self):
        """Put what was measured into the file; goals that were not measured now stay."""
        kind = "gpu" if torch.cuda.is_available() else "cpu"
        path = FOLDER / f"{kind}.json"
        whole = {"goals": []}
        if path.is_file():
            whole = json.loads(path.read_text(encoding="utf-8"))
        kept = {entry["name"]: entry for entry in whole["goals"]}
        kept |= {entry["name"]: entry for entry in self.found}
        whole = {"goals": list(kept.values()), "machine": machine(), "commit": commit()}
        atomic_write_text(path, json.dumps({**whole, "versions": versions()}, indent=1) + "\n")

    def show(self):
        """Goal and measured side by side."""
        said = {True: "met", False: "MISSED", None: "no peer"}
        print("\n")
        for entry in self.found:
            measured = "-" if entry["measured"] is None else f"{entry['measured']:.3g}"
            print(f"{said[entry['met']]:8} {entry['goal']:>9} {measured:>8}  {entry['name']}")


@pytest.fixture(scope="session")
def goals():
    """Collects goals; the file is written when the last benchmark is over."""
    collected = Goals()
    yield collected
    if collected.found:
        collected.write()
        collected.show()


def machine():
    """What it was measured on, in words."""
    name = platform.machine()
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        lines = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    found = f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) used"
    return f"{found}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else found


def commit():
    """The commit that was measured; with a plus where files had changed since."""
    try:
        run = {"check": True, "capture_output": True, "text": True}
        found = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **run).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + ("+" if changed else "")
