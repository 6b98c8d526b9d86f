"""Two real processes train one model; what they have to agree on."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import multiprocessing
from torch.nn import functional

from hf_genret import GenRetriever
from hf_genret.training.curriculum import RunState
from hf_genret.training.objectives.base import mean_over_processes
from hf_genret.training.processes import is_main, main_says, together, wait, world_size
from hf_genret.training.train import _without_json

ROOT = Path(__file__).resolve().parents[2]
PATH = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def write_recipe(folder: Path) -> Path:
    """A short recipe in which every part learns in some stage and ids change hands."""
    stages = [
        {"name": "encoder", "objective": "ranker", "train": ["encoder", "adapter", "ranker"]}
        | {"max_steps": 4, "batch_size": 16, "keep_best": "ndcg@10", "evaluations": 2},
        {"name": "level-1", "objective": "uri", "level": 1, "train": ["decoder", "heads"]}
        | {"max_steps": 3, "batch_size": 16, "before": {"clusters": "balanced"}}
        | {"after": {"assign": "greedy"}},
        {"name": "level-2", "objective": "uri", "level": 2, "train": ["decoder", "heads"]}
        | {"max_steps": 3, "batch_size": 16, "options": {"by_parent": True}}
        | {"before": {"clusters": "balanced"}, "after": {"assign": "exact", "reassign": "exact"}},
        {"name": "final", "objective": "cross_entropy", "train": ["decoder", "heads"]}
        | {"max_steps": 4, "batch_size": 16, "learning_rate": 0.01, "keep_best": "recall"},
    ]
    recipe = {
        "description": "A few steps of everything.",
        "bag": {"vocab_size": 400, "dim": 16},
        "model": {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
        | {"query_adapter": True},
        "queries": {"pseudo": 2},
        "controls": ["kmeans"],
        "stages": stages,
    }
    path = folder / "short.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


WATCH = '''
"""Trains through the launcher's module and writes what each process ended with."""
import sys
from safetensors.torch import save_file
from hf_genret.training import genret_trainer
from hf_genret.training.train import main

real = genret_trainer.GenRetTrainer.train

def train(self, *args, **kwargs):
    done = real(self, *args, **kwargs)
    state = {k: v.clone() for k, v in self.model.state_dict().items()}
    state["codes"] = self.run.codes
    name = "control" if len(self.stages) == 1 else "model"
    save_file(state, f"{sys.argv[1]}/{name}-{self.args.process_index}.safetensors")
    return done

genret_trainer.GenRetTrainer.train = train
if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
'''


@pytest.fixture(scope="module")
def launched(tmp_path_factory, small_folder):
    """One launch: its folder, its output and what the processes ended with."""
    folder = tmp_path_factory.mktemp("launch")
    (folder / "watch.py").write_text(WATCH)
    config = ROOT / "training" / "launch" / "cpu_two_processes.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += [str(folder / "watch.py"), str(folder), str(small_folder)]
    command += ["--recipe", str(write_recipe(folder)), "--output", str(folder / "out")]
    command += ["--json", str(folder / "report.json")]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": PATH,
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done


def test_they_train_one_model(launched):
    """Both processes end with the same weights and ids, in the run and in its control."""
    folder, _ = launched
    for name in ("model", "control"):
        ours, theirs = (load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), f"{name}: {key}"


def test_one_of_them_writes(launched):
    """The facts say two, the report is printed once, and nothing is left of the run."""
    folder, done = launched
    facts = json.loads((folder / "out" / "training.json").read_text())
    assert facts["training"]["processes"] == 2
    assert done.stdout.count("Checkpoint:") == 1
    assert json.loads((folder / "report.json").read_text())["training"]["processes"] == 2
    assert not (folder / "out.run").exists()
    assert (folder / "out" / "baselines" / "kmeans.safetensors").is_file()


def test_their_checkpoint_searches(launched, small_folder):
    """What they wrote is whole: it loads with its manifest and finds a document by its title."""
    folder, _ = launched
    retriever = GenRetriever.from_pretrained(folder / "out", device="cpu")
    assert len(retriever.documents) == 80
    title = retriever.documents[5]["title"]
    assert "d5" in [hit.id for hit in retriever.search(title, k=5, num_beams=20)]


# ---- without a launcher -------------------------------------------------------------------


def _in_a_process(rank: int, size: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29631"}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size
    )
    logits = _LOGITS.chunk(size)[rank].clone().requires_grad_()
    mean = mean_over_processes(logits.softmax(-1).mean(0))
    loss = -mean.log().mean()
    loss.backward()
    said = main_says({"from": rank})
    state = RunState.fresh(2, 2)
    state.give_paths(torch.tensor([[[0, 1], [1, rank]], [[rank, 0], [2, 2]]]))
    if rank:
        state.give_codes(state.codes)  # it did not even come to several ids
    state.agree()
    wait()
    assert together() and world_size() == size and is_main() == (rank == 0)
    # DDP divides the sum of gradients by the number of processes.
    assert said == {"from": 0}
    assert state.paths.tolist() == [[[0, 1], [1, 0]], [[0, 0], [2, 2]]]
    assert state.codes.tolist() == [[0, 1], [0, 0]]
    ended = {"mean": mean.detach(), "gradient": logits.grad / size}
    save_file(ended, f"{folder}/{rank}.safetensors")
    torch.distributed.destroy_process_group()


_LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))


def test_the_mean_over_processes_carries_gradients(tmp_path):
    """Value and gradient of the balance term are those of one process with all items.

    And all go on with the main process's words and ids.
    """
    multiprocessing.spawn(_in_a_process, args=(2, str(tmp_path)), nprocs=2)
    whole = _LOGITS.clone().requires_grad_()
    mean = whole.softmax(-1).mean(0)
    (-mean.log().mean()).backward()
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(found["mean"], mean.detach())
        torch.testing.assert_close(found["gradient"], whole.grad.chunk(2)[rank])


def test_one_process_is_its_own_main():
    """Without a group everything is as it is."""
    value = functional.one_hot(torch.tensor(1), 3).float()
    assert mean_over_processes(value) is value
    assert main_says(value) is value
    assert is_main() and not together() and world_size() == 1
    wait()


def test_only_the_main_process_reports():
    """`--json` is taken from the others' arguments in both spellings."""
    words = ["data", "--json", "x.json", "--recipe", "uri", "--json=y.json"]
    assert _without_json(words) == ["data", "--recipe", "uri"]
    assert _without_json(["data"]) == ["data"]


@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed"
)
def test_zero_2(tmp_path, small_folder):
    """The ZeRO-2 file trains in one process on the CPU."""
    config = ROOT / "training" / "launch" / "zero2.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["--num_processes", "1", "--mixed_precision", "no"]
    command += ["-m", "hf_genret.training.train", str(small_folder)]
    command += ["--recipe", str(write_recipe(tmp_path)), "--output", str(tmp_path / "out")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATH}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "manifest.json").is_file()
