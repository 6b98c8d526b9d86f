"""A little of the torture with a fixed seed: nothing unnamed, no hang, no death of a process."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_files
import fuzz_settings
import mutations
import workers

SHORT = ["adapter", "control", "kept run", "cell", "kept vectors", "run.json"]


def told(table: workers.Table) -> list[str]:
    """What must not be, in words."""
    return list(table.examples.values())


def test_spoiled_files_are_refused_in_a_sentence():
    """Adapters, controls, kept figures and encodings, the record of a run."""
    table = fuzz_files.fuzz(SHORT, seed=0, count=8)
    assert told(table) == []
    assert sum(counts["refused"] for counts in table.counts.values()) > 10
    assert all(counts.total() == 9 for counts in table.counts.values())


def test_impossible_settings_are_refused_in_a_sentence():
    """Of a recipe with ids of its own, one with levels, one of histories."""
    table = fuzz_settings.fuzz(["tiger", "uri", "uri-sequential"], "build", seed=0, count=3)
    assert told(table) == []


def test_every_mutation_changes_a_file(tmp_path):
    """Else much of the torture would be none."""
    content = {"a.json": '{"a": [1, 2], "b": {"c": "x"}}', "b.yaml": "a: 1\nb: {c: [1]}\n"}
    changed = 0
    for number in range(200):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
        mutations.spoil(folder, Random(number))
        left = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
        changed += left != {name: text.encode() for name, text in content.items()}
    assert changed > 180


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("raise ValueError('x')", "unnamed"),
        ("from hf_genret.errors import DataError; raise DataError('a sentence')", "refused"),
        ("import time; time.sleep(60)", "hang"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGBUS)", "death"),
        ("bytearray(2**40)", "unnamed"),
        ("pass", "loaded"),
    ],
)
def test_the_worker_notices(tmp_path, body, outcome):
    """Whatever a case does to its process, the next one has a whole one."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path[:0] = {[str(Path(__file__).parent)]}\nfrom workers import serve\n"
        f"def do(case):\n    if case['bad']:\n        {body}\nserve(do)\n"
    )
    cases = [("a", {"bad": True}, ""), ("b", {"bad": False}, "")]
    table = workers.run_cases(script, cases, limit=3)
    assert table.counts["a"][outcome] == 1
    assert table.counts["b"]["loaded"] == 1
