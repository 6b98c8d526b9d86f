"""`hf-genret push --space`, the Trainer's push, and what their repositories hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import RepoCard

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
retriever.save_pretrained("out")
from pathlib import Path
Path("out/training_args.bin").write_bytes(b"a pickle")
from hf_genret.cli.main import main
assert main(["push", "out", "me/shown", "--private", "--message", "hello", "--space",
             "--json", "facts.json"]) == 0
print("FACTS", Path("facts.json").read_text().replace("\\n", " "))
assert main(["push", "out", "no/such/name"]) == 1
same(GenRetriever.from_pretrained("me/shown"))
"""
ADAPTER = """
import torch
from hf_genret.adapters import Base, merge_lora, save_adapter, take_lora
from hf_genret.cli.main import main
from hf_genret.training.lora import LoraSettings, add_lora

retriever.push_to_hub("me/base")
retriever = GenRetriever.from_pretrained("me/base")
add_lora(retriever.model, LoraSettings(r=2, part="model"))
for name, parameter in retriever.model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(parameter)
lora = take_lora(retriever.model)
merge_lora(retriever.model)
save_adapter("adapter", retriever, lora, Base("checkpoint", "me/base"))
assert main(["push", "adapter", "me/lora"]) == 0
same(GenRetriever.from_pretrained("me/lora"))
error(lambda: GenRetriever.from_pretrained("me/lora", base="me/lora-less"))
"""
TRAINER = """
from hf_genret.data import RetrievalData
from hf_genret.training import GenRetTrainer, GenRetTrainingArguments
from hf_genret.training.build import build
from hf_genret.training.recipes import load_recipe

recipe = load_recipe("fixed", ["bag.dim=8", "bag.vocab_size=100", "controls=[]"])
for stage in recipe.stages:
    stage.max_steps, stage.keep_best = 1, None
start = build(recipe, RetrievalData("toy", "0" * 16, corpus, {}), seed=0)
args = GenRetTrainingArguments("run", hub_model_id="me/trained", report_to=[], use_cpu=True)
trainer = GenRetTrainer(start.model, args, data=start.data, stages=recipe.stages,
                        processing_class=start.tokenizer)
try:
    trainer.push_to_hub()
except Exception as error:
    print("EARLY", error)
trainer.train()
print("URL", trainer.push_to_hub())
retriever = trainer.retriever()
same(GenRetriever.from_pretrained("me/trained"))
"""


@pytest.fixture(scope="module")
def facts(program):
    """What the command wrote as JSON."""
    lines = dict(line.split(" ", 1) for line in program(COMMAND) if line.startswith("FACTS"))
    return json.loads(lines["FACTS"])


def test_the_command_pushes_a_checkpoint(hub, facts):
    """Private, with the message, in one commit; the Trainer's pickle stays here."""
    assert facts["commit"].startswith(f"{hub.url}/me/shown/commit/")
    heads = [head["summary"] for repo, _, head in hub.uploads if repo == "me/shown"]
    assert hub.repos["me/shown"]["private"] and heads == ["hello"]
    assert "model.safetensors" in hub.files("me/shown")
    assert "training_args.bin" not in hub.files("me/shown")


def test_the_space_searches_the_checkpoint(hub, facts):
    """A Gradio Space with the app's own files, told by its variable and front matter."""
    space = hub.repos["spaces/me/shown"]
    assert space["sdk"] == "gradio" and space["private"]
    assert facts["space"] == f"{hub.url}/spaces/me/shown"
    files = hub.files("spaces/me/shown")
    for name in ("app.py", "requirements.txt"):
        assert files[name] == (ROOT / "spaces_app" / name).read_bytes()
    here = RepoCard((ROOT / "spaces_app" / "README.md").read_text())
    card = RepoCard(files["README.md"].decode())
    assert card.text.strip() == here.text.strip()
    assert card.data.to_dict() == {**here.data.to_dict(), "title": "shown", "models": ["me/shown"]}
    variable = {"key": "GENRET_CHECKPOINT", "value": "me/shown"}
    assert hub.variables["spaces/me/shown"] == {"GENRET_CHECKPOINT": variable}
    assert [repo for repo, _, _ in hub.uploads].count("spaces/me/shown") == 1
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]


def test_the_trainer_pushes_a_whole_retriever(hub, program):
    """Index, vectors and documents with the weights, a card of ours; without ids an error."""
    early, url = program(TRAINER)
    assert "train() comes before push_to_hub()" in early
    assert url.startswith(f"URL {hub.url}/me/trained/commit/")
    files = hub.files("me/trained")
    assert {"model.safetensors", "vectors.safetensors", "documents.parquet"} < set(files)
    assert "training_args.bin" not in files and b"Model Card for" not in files["README.md"]
    assert json.loads(files["manifest.json"])["data"]["documents"] == 12


def test_an_adapter_is_pushed_as_it_is(hub, program):
    """Without its base's weights; loaded from there, it stands on the base on the Hub."""
    line = program(ADAPTER)[-1]
    files = hub.files("me/lora")
    assert "model.safetensors" not in files and b"base_model: me/base" in files["README.md"]
    assert len(files["adapter_model.safetensors"]) < len(hub.files("me/base")["model.safetensors"])
    assert line.startswith("ERROR me/lora-less: neither a folder here nor a repository")
