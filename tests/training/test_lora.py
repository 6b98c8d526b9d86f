"""LoRA by recipe: trained, kept as an adapter folder, put on its base again, merged."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from hf_genret import GenRetriever
from hf_genret.adapters import has_lora, is_adapter, load_adapter, merge_lora
from hf_genret.data import load_data
from hf_genret.errors import CheckpointError, ConfigError
from hf_genret.modeling import GenRetModel
from hf_genret.training import api
from hf_genret.training.build import build
from hf_genret.training.recipes import load_recipe

QUERIES = ["title one", "another two", "three"]
SETTINGS = [
    "bag={vocab_size: 200, dim: 16}",
    "model.decoder_dim=32",
    "queries.pseudo=2",
    "search.beam_weights=[0.0]",
    "controls=[]",
]


def short(*settings):
    """The recipe `fixed` in a few steps."""
    names = [stage.name for stage in load_recipe("fixed").stages]
    steps = [f"stages.{name}.max_steps=4" for name in names]
    last = [f"stages.{name}.keep_best=null" for name in names]  # else the start might stay
    return [*SETTINGS, *steps, *last, *settings]


@pytest.fixture(scope="module")
def on_encoder(tmp_path_factory, small_folder, bert_folder):
    """A checkpoint trained with LoRA on a pretrained encoder."""
    out = tmp_path_factory.mktemp("lora") / "out"
    settings = [s for s in short(f"encoder={bert_folder}", "lora.r=4") if not s.startswith("bag")]
    api.train(small_folder, "fixed", out, [*settings, "stages.encoder.learning_rate=0.01"])
    return out


@pytest.fixture(scope="module")
def on_model(tmp_path_factory, small_folder):
    """A checkpoint, and one trained with LoRA on the whole of it."""
    base = tmp_path_factory.mktemp("base") / "base"
    api.train(small_folder, "fixed", base, short())
    out = base.with_name("out")
    settings = [f"start_from={base}", "lora.r=4", "lora.part=model"]
    api.train(small_folder, "fixed", out, short(*settings, "stages.final.learning_rate=0.01"))
    return base, out


def hits(retriever):
    """What a few queries find."""
    return [(hit.id, hit.docid) for found in retriever.search(QUERIES, k=5) for hit in found]


def scores(retriever):
    """With which scores."""
    found = retriever.search(QUERIES, k=5)
    return torch.tensor([[hit.score for hit in one] for one in found])


def test_an_adapter_holds_no_weight_of_its_base(on_encoder, bert_folder):
    """Index, vectors and documents are its own; of the encoder it has low-rank matrices alone."""
    folder = on_encoder / "adapter"
    assert is_adapter(folder) and not is_adapter(on_encoder)
    trained = load_file(folder / "trained.safetensors")
    assert "index.paths" in trained and any(name.startswith("decoder.") for name in trained)
    assert not any(name.startswith("encoder.query.backbone.") for name in trained)
    assert {"vectors.safetensors", "documents.parquet", "tokenizer.json"} <= {
        file.name for file in folder.iterdir()
    }
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4
    matrices = load_file(folder / "adapter_model.safetensors")
    assert any(value.abs().max() > 0 for name, value in matrices.items() if "lora_B" in name)
    start = AutoModel.from_pretrained(bert_folder).state_dict()
    merged = GenRetriever.from_pretrained(on_encoder, device="cpu").model.encoder.query.backbone
    changed = {n for n, value in merged.state_dict().items() if not torch.equal(value, start[n])}
    named = {name.split("backbone.")[1].split(".lora_")[0] + ".weight" for name in matrices}
    assert changed == named


def test_on_its_base_it_finds_what_the_merged_checkpoint_finds(on_encoder):
    """Merged at once, merged later, and not merged."""
    whole = GenRetriever.from_pretrained(on_encoder, device="cpu")
    merged = GenRetriever.from_pretrained(on_encoder / "adapter", device="cpu")
    assert hits(merged) == hits(whole) and torch.equal(scores(merged), scores(whole))
    model = load_adapter(on_encoder / "adapter", device="cpu", merge=False)
    apart = GenRetriever(model, whole.processing_class, whole.documents)
    assert has_lora(model) and hits(apart) == hits(whole)
    assert torch.allclose(scores(apart), scores(whole), atol=1e-5)
    merge_lora(model)
    assert not has_lora(model) and torch.equal(scores(apart), scores(whole))


def test_a_merged_adapter_is_saved_as_a_whole_checkpoint(on_encoder, tmp_path):
    """Which opens without its base."""
    merged = GenRetriever.from_pretrained(on_encoder / "adapter", device="cpu")
    merged.save_pretrained(tmp_path / "whole")
    again = GenRetriever.from_pretrained(tmp_path / "whole", device="cpu")
    assert not is_adapter(tmp_path / "whole")
    assert hits(again) == hits(merged) and torch.equal(scores(again), scores(merged))


def test_another_base_is_an_error(on_encoder, bert_folder, tmp_path):
    """Other weights, another size, or nothing there; the right one in another place is none."""
    adapter = on_encoder / "adapter"
    moved = shutil.copytree(bert_folder, tmp_path / "moved")
    assert hits(GenRetriever.from_pretrained(adapter, base=moved, device="cpu")) == hits(
        GenRetriever.from_pretrained(on_encoder, device="cpu")
    )
    other = AutoModel.from_pretrained(bert_folder)
    with torch.no_grad():
        other.embeddings.word_embeddings.weight[0, 0] += 1e-3
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"other: not the base of the adapter .*trained on"):
        GenRetriever.from_pretrained(adapter, base=tmp_path / "other")
    with pytest.raises(CheckpointError, match="none: the adapter's base, a text encoder, could"):
        GenRetriever.from_pretrained(adapter, base=tmp_path / "none")
    with pytest.raises(ConfigError, match="base= is for adapters"):
        GenRetriever.from_pretrained(on_encoder, base=bert_folder)


def test_a_whole_model_is_adapted(on_model):
    """The decoder's maps move by low-rank matrices alone; on the base again, the same hits."""
    base, out = on_model
    matrices = load_file(out / "adapter" / "adapter_model.safetensors")
    trained = load_file(out / "adapter" / "trained.safetensors")
    before = GenRetriever.from_pretrained(base, device="cpu").model.state_dict()
    whole = GenRetriever.from_pretrained(out, device="cpu")
    after = whole.model.state_dict()
    adapted = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in matrices}
    assert adapted and all(name.startswith("decoder.") for name in adapted)
    ranks = {}
    for name in adapted:
        assert f"{name}.weight" not in trained
        change = after[f"{name}.weight"] - before[f"{name}.weight"]
        ranks[name] = int(torch.linalg.matrix_rank(change, rtol=1e-4))
    assert max(ranks.values()) == 4, ranks
    loaded = GenRetriever.from_pretrained(out / "adapter", device="cpu")
    assert hits(loaded) == hits(whole) and torch.equal(scores(loaded), scores(whole))
    with pytest.raises(CheckpointError, match="not the base of the adapter"):
        GenRetriever.from_pretrained(out / "adapter", base=out)


def test_peft_reads_the_folder(on_model):
    """Its own loader puts the same matrices at the same maps."""
    base, out = on_model
    theirs = PeftModel.from_pretrained(
        GenRetModel.from_pretrained(base), str(out / "adapter")
    ).state_dict()
    ours = load_adapter(out / "adapter", device="cpu", merge=False).state_dict()
    names = [name for name in ours if "lora_" in name]
    assert names and all(torch.equal(theirs[f"base_model.model.{n}"], ours[n]) for n in names)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["lora.r=2"], "lora.r needs a pretrained text encoder"),
        (["lora.r=2", "lora.part=model"], "name it, start_from=CHECKPOINT"),
        (["lora.r=2", "lora.part=head"], "lora.part is 'head'; encoder or model was expected"),
    ],
)
def test_nothing_to_adapt_is_an_error(small_folder, settings, sentence):
    """A bag of subwords has no linear maps, a fresh decoder nothing to keep."""
    with pytest.raises(ConfigError, match=sentence):
        build(load_recipe("fixed", short(*settings)), load_data(small_folder), seed=0)


def test_a_damaged_adapter_is_an_error(on_encoder, tmp_path):
    """Half a file, with and without the manifest that would have told."""
    folder = shutil.copytree(on_encoder / "adapter", tmp_path / "adapter")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors should have"):
        GenRetriever.from_pretrained(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"adapter_model\.safetensors: the file is truncated or damaged"
    ):
        GenRetriever.from_pretrained(folder)
