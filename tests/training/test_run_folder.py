"""The folder of a run: begun, gone on with, and what is said when the disk is full."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from hf_genret.errors import CheckpointError, ConfigError
from hf_genret.training import api
from hf_genret.training.run_folder import begun, disk_named, prepare

WANTED = {"data": "0" * 16, "seed": 0, "recipe": {"a": 1}}


@pytest.mark.parametrize("left", [{}, {"run.json": ""}, {".run.json.x1": "{"}, {"run.json": "[1"}])
def test_a_run_killed_before_its_first_file_begins_anew(tmp_path, left):
    """It has lost nothing, so resuming it is no mistake."""
    for name, text in left.items():
        (tmp_path / name).write_text(text)
    prepare(tmp_path, True, WANTED)
    assert {n: json.loads((tmp_path / "run.json").read_text())[n] for n in WANTED} == WANTED
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("left", ["stage-00", "beside"])
def test_a_folder_without_a_record_that_holds_something_is_refused(tmp_path, left):
    """Nobody knows whose it is."""
    (tmp_path / left).mkdir()
    with pytest.raises(CheckpointError, match="holds no interrupted run to resume"):
        prepare(tmp_path, True, WANTED)
    assert (tmp_path / left).is_dir()


def test_a_mistake_leaves_no_empty_folder(tmp_path):
    """What was begun and failed at once is as if it had never been; a run's files stay."""
    work = tmp_path / "out.run"
    with pytest.raises(ValueError, match="a mistake"), begun(work, False):
        raise ValueError("a mistake")
    assert not work.exists()
    with pytest.raises(ValueError, match="a mistake"), begun(work, False):
        (work / "run.json").touch()
        raise ValueError("a mistake")
    assert (work / "run.json").is_file()
    with pytest.raises(CheckpointError, match="no interrupted run"), begun(tmp_path / "no", True):
        pass


def test_other_threads_are_said(tmp_path, capsys):
    """The run goes on; the last bits of the weights will differ."""
    prepare(tmp_path, False, WANTED)
    prepare(tmp_path, True, WANTED)
    assert capsys.readouterr().err == ""
    path = tmp_path / "run.json"
    used = torch.get_num_threads() + 3
    path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": used}))
    prepare(tmp_path, True, WANTED)
    assert f"OMP_NUM_THREADS={used} makes them the same" in capsys.readouterr().err


SEEN = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EROFS, "Read-only file system"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
]


@pytest.mark.parametrize("error", SEEN, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_one_sentence(tmp_path, error):
    """Whichever library met it, in the words that it was seen to use."""
    with pytest.raises(CheckpointError) as raised, disk_named(tmp_path):
        raise error
    said = str(raised.value)
    assert said.startswith(f"{tmp_path}: the run could not be written (")
    assert said.endswith("--resume goes on.")


def test_other_errors_stay_what_they_are(tmp_path):
    """A mistake of ours is not the disk's."""
    with pytest.raises(RuntimeError, match="sizes"), disk_named(tmp_path):
        raise RuntimeError("sizes do not fit")
    with pytest.raises(FileNotFoundError), disk_named(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")


_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
from hf_genret.training.train import main
sys.exit(main(sys.argv[1:]))
"""
SETTINGS = ["bag={vocab_size: 200, dim: 16}", "model.decoder_dim=16", "queries.pseudo=1"]
SETTINGS += [f"stages.{name}.max_steps=1" for name in ("encoder", "final", "ranker")]
SETTINGS += ["controls=[]", "search.beam_weights=[0.0]"]


def test_writes_that_really_fail(tmp_path, small_folder):
    """One sentence, the checkpoint of before untouched, and the run goes on afterwards."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("before")
    words = [str(small_folder), "--recipe", "fixed", "--output", str(out)]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    root = Path(api.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", _LIMITED.format(limit=20_000), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "TQDM_DISABLE": "1", "PYTHONPATH": str(root)},
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: {out}.run: the run could not be written (File too large)")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    api.train(small_folder, "fixed", out, SETTINGS, resume=True)
    assert (out / "model.safetensors").is_file()


def test_threads_are_recorded(tmp_path, small_folder):
    """A reader has to know them to get the same weights."""
    api.train(small_folder, "fixed", tmp_path / "out", SETTINGS)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["training"]["threads"] == torch.get_num_threads()


def test_a_recipe_without_stages(tmp_path, small_folder):
    """Nothing would be trained."""
    with pytest.raises(ConfigError, match="has no stage that trains anything"):
        api.train(
            small_folder, "fixed", tmp_path / "out", [*SETTINGS[:3], "stages=[]", "controls=[]"]
        )
    assert not (tmp_path / "out.run").exists()
