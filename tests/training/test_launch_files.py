"""The launch files: accelerate reads them, and two CPU processes really are two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

LAUNCH = Path(__file__).resolve().parents[2] / "training" / "launch"
SCRIPT = """
import json
import sys
import torch
from accelerate import Accelerator

accelerator = Accelerator()
ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
if accelerator.is_main_process:
    with open(sys.argv[1], "w") as file:
        json.dump({"processes": accelerator.num_processes, "ranks": ranks}, file)
accelerator.wait_for_everyone()
accelerator.end_training()
"""


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_reads_the_file(path):
    """Each file is a valid accelerate configuration and keeps every key."""
    config = load_config_from_file(str(path))
    for key, value in yaml.safe_load(path.read_text()).items():
        assert getattr(config, key) == value or str(getattr(config, key).value) == value


def test_two_cpu_processes_are_one_world(tmp_path):
    """Both processes start and see each other; one alone would write processes 1."""
    script, result = tmp_path / "ranks.py", tmp_path / "ranks.json"
    script.write_text(SCRIPT)
    file = LAUNCH / "cpu_two_processes.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(result)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(result.read_text()) == {"processes": 2, "ranks": [0, 1]}


def test_zero2_files_agree():
    """The file for accelerate and the one for the Trainer's `deepspeed` argument are one stage."""
    plugin = yaml.safe_load((LAUNCH / "zero2.yaml").read_text())["deepspeed_config"]
    engine = json.loads((LAUNCH / "zero2.json").read_text())
    assert plugin["zero_stage"] == engine["zero_optimization"]["stage"] == 2
    assert engine["train_batch_size"] == "auto"
