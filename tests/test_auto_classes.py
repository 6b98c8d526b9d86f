"""`import hf_genret` alone lets transformers' Auto classes load a checkpoint."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from hf_genret import auto_classes
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.training.bag import train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
LOAD = """
import sys
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
assert "hf_genret.modeling" not in sys.modules, "nothing was asked for yet"
for auto in (AutoTokenizer, AutoModel, AutoModelForSeq2SeqLM, AutoConfig):
    print(auto.__name__, type(auto.from_pretrained(sys.argv[1])).__module__)
print(type(AutoConfig.for_model("genret")).__module__)
"""
FIRST = """
import hf_genret, sys
assert not {"torch", "transformers"} & set(sys.modules)
import transformers.generation.utils  # which asks for Auto classes while half of it is loaded
"""
ORDERS = {
    "first": FIRST,
    "last": "from transformers import AutoModel, AutoTokenizer\nimport hf_genret",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny model with its tokenizer."""
    folder = tmp_path_factory.mktemp("auto") / "checkpoint"
    tokenizer = train_tokenizer(["open a file", "close a file", "read lines"], vocab_size=60)
    config = GenRetConfig(
        query_encoder={"type": "bag", "vocab_size": len(tokenizer), "dim": 8},
        vector_dim=8,
        codebook_sizes=[2, 2],
        decoder_dim=8,
        decoder_layers=1,
    )
    model = GenRetModel(config)
    model.set_index(torch.tensor([[0, 0], [0, 1], [1, 0]]), vectors=torch.randn(3, 8))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_one_import_is_enough(checkpoint, order):
    """Without trust_remote_code and without a question, whichever is imported first."""
    done = subprocess.run(
        [sys.executable, "-c", order + LOAD, str(checkpoint)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    homes = done.stdout.split()
    assert homes[0] == "AutoTokenizer" and homes[1].startswith("transformers.")
    model, config = "hf_genret.modeling.modeling_genret", "hf_genret.modeling.configuration_genret"
    assert homes[2:] == [
        *("AutoModel", model, "AutoModelForSeq2SeqLM", model, "AutoConfig", config, config)
    ]
    assert "custom code" not in done.stdout + done.stderr
    assert "trust_remote_code" not in done.stdout + done.stderr


def test_one_watcher_however_often():
    """A second call, as a reloaded package makes it, adds none."""
    before = list(sys.meta_path)
    auto_classes.watch()
    assert sys.meta_path == before


def test_other_modules_are_left_to_the_other_finders():
    """It answers for one name alone."""
    watcher = next(f for f in sys.meta_path if type(f).__name__ == "_Watcher")
    assert watcher.find_spec("json") is None
    assert watcher.find_spec("transformers") is None


def test_other_import_hooks_still_come_to_their_turn(monkeypatch):
    """A finder behind it makes the module, with a loader of its own, and nothing calls itself."""

    class Loader:
        def create_module(self, spec):
            return None

        def exec_module(self, module):
            module.AutoConfig = type(
                "AutoConfig",
                (),
                {
                    name: classmethod(lambda cls: "asked")
                    for name in ("from_pretrained", "for_model")
                },
            )

    class Finder:
        def find_spec(self, name, path=None, target=None):
            return importlib.util.spec_from_loader(name, Loader()) if name == "far.auto" else None

    monkeypatch.setattr(auto_classes, "_AUTO_CONFIG", "far.auto")
    watcher = auto_classes._Watcher()
    monkeypatch.setattr(sys, "meta_path", [watcher, Finder()])
    spec = watcher.find_spec("far.auto")
    module = ModuleType("far.auto")
    spec.loader.exec_module(module)
    asked = []
    monkeypatch.setattr(auto_classes.importlib, "import_module", asked.append)
    assert module.AutoConfig.from_pretrained() == module.AutoConfig.for_model() == "asked"
    assert asked == ["hf_genret.modeling"] * 2


def test_a_transformers_that_is_not_installed(monkeypatch):
    """Is no matter of the watcher."""
    watcher = auto_classes._Watcher()
    monkeypatch.setattr(sys, "meta_path", [watcher])
    assert watcher.find_spec(auto_classes._AUTO_CONFIG) is None
