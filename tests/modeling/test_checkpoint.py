"""Saved, loaded, damaged: the folder that transformers writes and reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModel, GenerationConfig
from transformers.dynamic_module_utils import get_relative_imports

from hf_genret.modeling import GenRetModel

SETTINGS = {"num_beams": 6, "num_return_sequences": 6}


BACKBONE = {
    "model_type": "bert",
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 60,
    "max_position_embeddings": 32,
}
DENSE = [
    {"size": 8, "bias": False, "activation": "GELU"},
    {"size": 16, "bias": True, "activation": "Tanh"},
]
OTHERS = {
    "query_encoder": {"type": "text", "backbone": BACKBONE, "dense": DENSE},
    "decoder_type": "tiger",
    "head_type": "prefix_aware",
    "history_encoder": {"type": "sequence", "dim": 16},
}
"""Decoder and heads of files of their own, and an encoder with dense layers, in one model."""
HISTORY = torch.tensor([[-1, 3, 8], [5, 6, 39], [-1, -1, -1]])


@pytest.fixture
def saved(make_indexed, tmp_path):
    """A model with an index and vectors, and the folder it was saved to."""
    model = make_indexed(documents=40, beam_weight=0.2)
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


def same(model, other, text) -> None:
    """Weights, index, vectors, generation settings and answers are equal, bit for bit."""
    ours, theirs = model.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype and torch.equal(value, theirs[name]), name
    assert torch.equal(model.vectors, other.vectors)
    assert model.generation_config.to_diff_dict() == other.generation_config.to_diff_dict()
    assert torch.equal(model.generate(**text, **SETTINGS), other.generate(**text, **SETTINGS))
    one, two = model.search(**text, k=10), other.search(**text, k=10)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("auto", [False, True])
def test_saved_and_loaded_is_the_same_model(saved, text, auto):
    """Weights, index, vectors, settings and answers come back."""
    model, folder = saved
    same(model, (AutoModel if auto else GenRetModel).from_pretrained(folder).eval(), text)


def test_every_encoder_comes_back(make_indexed, bert, text, tmp_path):
    """Inverse document frequencies, item features and backbones are part of the weights."""
    model = make_indexed(
        query_encoder={"type": "text", "backbone": bert},
        item_encoder={"type": "items", "num_items": 30, "dim": 16, "feature_dim": 4},
        history_encoder={"type": "user", "num_users": 3, "dim": 16},
    )
    model.encoder.items.features.normal_()
    model.save_pretrained(tmp_path)
    same(model, GenRetModel.from_pretrained(tmp_path).eval(), text)
    bag = make_indexed()
    bag.encoder.query.idf.uniform_()
    bag.save_pretrained(tmp_path / "bag")
    same(bag, GenRetModel.from_pretrained(tmp_path / "bag").eval(), text)


def test_other_decoders_and_heads_come_back(make_indexed, text, tmp_path):
    """TIGER's and NCI's, with queries of text and history."""
    model = make_indexed(documents=40, **OTHERS)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    same(model, loaded, {**text, "history": HISTORY})
    assert type(loaded.decoder) is type(model.decoder) and type(loaded.heads) is type(model.heads)


def test_saving_what_was_loaded(saved, text, tmp_path):
    """From one folder to the next, vectors not read before, and onto itself."""
    model, folder = saved
    GenRetModel.from_pretrained(folder).save_pretrained(tmp_path / "again")
    again = GenRetModel.from_pretrained(tmp_path / "again").eval()
    same(model, again, text)
    again.save_pretrained(tmp_path / "again")
    same(model, again, text)
    same(model, GenRetModel.from_pretrained(tmp_path / "again").eval(), text)
    assert {f.name for f in folder.iterdir()} == {f.name for f in (tmp_path / "again").iterdir()}


def test_only_the_main_process_writes(make_indexed, tmp_path):
    """The others write no vectors either."""
    make_indexed().save_pretrained(tmp_path, is_main_process=False)
    assert not (tmp_path / "vectors.safetensors").exists()


def test_ids_assigned_after_loading_are_saved_with_their_sizes(saved, text):
    """A state with other ids, loaded as a resumed training does, is saved and opened again."""
    model, folder = saved
    other = GenRetModel.from_pretrained(folder).eval()
    model.set_index(torch.tensor([[0, 1, 2], [3, 1, 2]]), vectors=torch.randn(2, 16))
    other.load_state_dict(model.state_dict(), strict=False)
    other.set_vectors(model.vectors)
    other.save_pretrained(folder)
    same(model, GenRetModel.from_pretrained(folder).eval(), text)


def test_saved_without_an_index(make_model, tmp_path):
    """A model between training and indexing."""
    make_model().save_pretrained(tmp_path)
    loaded = GenRetModel.from_pretrained(tmp_path)
    assert len(loaded.index) == 0 and loaded.index.check() is None
    with pytest.raises(ValueError, match="no ranker vectors"):
        _ = loaded.vectors


def test_generation_settings_are_kept(saved):
    """What the user stored in generation_config.json is what generate() uses."""
    model, folder = saved
    model.generation_config.num_beams = 3
    model.save_pretrained(folder)
    loaded = GenRetModel.from_pretrained(folder).generation_config
    assert (loaded.num_beams, loaded.max_new_tokens, loaded.length_penalty) == (3, 3, 0.0)
    assert GenerationConfig.from_pretrained(folder).num_beams == 3


def test_bfloat16_leaves_the_index_exact(saved, text):
    """dtype=bfloat16 casts weights, not ids."""
    model, folder = saved
    half = GenRetModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    assert half.encoder.query.embedding.weight.dtype == torch.bfloat16
    for (name, ours), (_, theirs) in zip(
        model.index.named_buffers(), half.index.named_buffers(), strict=True
    ):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), name
    out = half.search(**text, k=5)
    assert (out.rows >= 0).all() and out.scores.isfinite().all()
    assert half.generate(**text).shape == (3, 4)


NESTED = {"dtype": "bfloat16", "deeper": {"dtype": "float16"}}


@pytest.mark.parametrize(
    ("stored", "memory"),
    [
        ({"dtype": "float16"}, "pooled"),
        ({"torch_dtype": "bfloat16"}, "tokens"),
        ({"extra": NESTED}, "pooled"),
    ],
    ids=str,
)
def test_a_backbone_has_the_type_of_its_model(make_indexed, text, tmp_path, stored, memory):
    """Whatever type its settings name: whole, loaded in half, and saved in half."""
    encoder = {"type": "text", "backbone": {**BACKBONE, **stored}, "memory": memory}
    adapters = {"query_adapter": True, "item_adapter": True}
    model = make_indexed(query_encoder=encoder, vector_dim=24, **adapters)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    wanted = model.search(**text, k=5)
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(
        AutoModel.from_pretrained(tmp_path / "model").search(**text, k=5).rows, wanted.rows
    )
    for dtype in ("float16", torch.bfloat16, "auto"):
        half = AutoModel.from_pretrained(tmp_path / "model", dtype=dtype).eval()
        assert len({p.dtype for p in half.parameters()}) == 1
        half.save_pretrained(tmp_path / "half")
        again = AutoModel.from_pretrained(tmp_path / "half").eval()
        assert again.dtype == half.dtype
        assert torch.equal(again.search(**text, k=5).rows, half.search(**text, k=5).rows)
        assert again.generate(**text).shape == (3, 4)


def test_the_code_travels_with_the_weights(saved):
    """Every module that the model imports lies beside it, and auto_map names the classes."""
    folder = saved[1]
    modules = {f.name for f in (Path(__file__).parents[2] / "modeling").glob("*_genret.py")}
    assert modules <= {f.name for f in folder.iterdir()}
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_genret.GenRetModel"
    assert config["auto_map"]["AutoModelForSeq2SeqLM"] == "modeling_genret.GenRetModel"


def test_nothing_else_travels(saved):
    """Of the sources the files of modeling/ alone lie there, each one as it is here."""
    rooms = Path(__file__).parents[2]
    files = {f.name for f in (rooms / "modeling").glob("*_genret.py")}
    assert {f.name for f in saved[1].glob("*.py")} == files
    for name in files:
        assert (saved[1] / name).read_bytes() == (rooms / "modeling" / name).read_bytes()


def test_the_model_names_every_sibling():
    """From a local folder older releases of transformers take only what this file imports."""
    folder = Path(__file__).parents[2] / "modeling"
    named = set(get_relative_imports(folder / "modeling_genret.py")) | {"modeling_genret"}
    assert named == {f.stem for f in folder.glob("*_genret.py")}


REMOTE = """
import sys
sys.modules["hf_genret"] = None  # an import of the package would fail
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

folder, out = sys.argv[1:]
torch.set_num_threads(1)
text = load_file(out + "/text.safetensors")
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
assert (config.model_type, config.num_documents) == ("genret", 40), config
for auto in (AutoModel, AutoModelForSeq2SeqLM):
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    hits = model.search(**text, k=10)
    sequences = model.generate(**text, num_beams=6, num_return_sequences=6)
    tensors = {"sequences": sequences, "rows": hits.rows, "scores": hits.scores}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, f"{out}/{auto.__name__}.safetensors")
model.save_pretrained(out + "/again")
"""


@pytest.mark.parametrize("changes", [{}, OTHERS], ids=["usual", "others"])
def test_a_fresh_process_without_the_package(make_indexed, text, tmp_path, changes):
    """trust_remote_code alone: the same ids, hits and scores; saved again, the same model."""
    model, folder = make_indexed(documents=40, beam_weight=0.2, **changes), tmp_path / "model"
    model.save_pretrained(folder)
    text = {**text, "history": HISTORY} if changes else text
    save_file(text, tmp_path / "text.safetensors")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HF_HOME")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", REMOTE, str(folder), str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    hits = model.search(**text, k=10)
    for name in ("AutoModel", "AutoModelForSeq2SeqLM"):
        found = load_file(tmp_path / f"{name}.safetensors")
        assert torch.equal(found["sequences"], model.generate(**text, **SETTINGS))
        assert torch.equal(found["rows"], hits.rows) and torch.equal(found["scores"], hits.scores)
    again = tmp_path / "again"
    assert {f.name for f in folder.iterdir()} == {f.name for f in again.iterdir()}
    same(model, GenRetModel.from_pretrained(again).eval(), text)


# ---- damage ---------------------------------------------------------------------------------


def change_config(folder, **changes) -> None:
    """Rewrite fields of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change) -> None:
    """Rewrite model.safetensors after `change(tensors)`."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["model.safetensors", "vectors.safetensors"])
def test_a_truncated_file_is_an_error(saved, text, name):
    """Half a file is not read as a whole one."""
    path = saved[1] / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Exception, match=r"(?i)header|incomplete|invalid|safetensor"):
        GenRetModel.from_pretrained(saved[1]).search(**text)


@pytest.mark.parametrize(
    "changes",
    [{"num_paths": 12}, {"num_paths": 0}, {"num_nodes": [4, 9, 9]}, {"codebook_sizes": [4, 3, 6]}],
    ids=str,
)
def test_sizes_that_disagree_with_the_tensors_are_an_error(saved, changes):
    """The configuration says one thing, the file another."""
    change_config(saved[1], **changes)
    with pytest.raises((RuntimeError, ValueError), match=r"size|mismatch"):
        GenRetModel.from_pretrained(saved[1])


def test_an_index_of_zeros_is_an_error(saved):
    """Mismatched sizes that the caller ignores still do not give an index of zeros."""
    change_config(saved[1], num_paths=12)
    with pytest.raises(ValueError, match="id index"):
        GenRetModel.from_pretrained(saved[1], ignore_mismatched_sizes=True)


def test_fewer_documents_than_the_index_names_is_an_error(saved):
    """num_documents that is too small for the rows."""
    change_config(saved[1], num_documents=3)
    with pytest.raises(ValueError, match="beyond num_documents"):
        GenRetModel.from_pretrained(saved[1])


def test_a_lost_or_changed_buffer_is_an_error(saved):
    """Tensors that contradict each other name the folder and the level."""
    change_weights(saved[1], lambda tensors: tensors["index.codes_1"].zero_())
    with pytest.raises(ValueError, match=r"model: the paths of the id index"):
        GenRetModel.from_pretrained(saved[1])
    change_weights(saved[1], lambda tensors: tensors.pop("index.indptr_1"))
    with pytest.raises(ValueError, match="level 2 of the id index"):
        GenRetModel.from_pretrained(saved[1])


def test_too_few_vectors_are_an_error(saved, text):
    """Found when they are first read."""
    save_file({"vectors": torch.zeros(3, 16)}, saved[1] / "vectors.safetensors")
    with pytest.raises(ValueError, match=r"has the shape \[3, 16\], \[40, 16\] was expected"):
        GenRetModel.from_pretrained(saved[1]).search(**text)


def test_loading_information_is_passed_on(saved):
    """output_loading_info=True gives the pair that transformers gives; nothing is missing."""
    model, info = GenRetModel.from_pretrained(saved[1], output_loading_info=True)
    assert isinstance(model, GenRetModel)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_integers_stay_integers_on_disk(saved):
    """The index is stored as integers: codes below 256 in a byte, pointers in four."""
    with safe_open(saved[1] / "model.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("index.")]  # noqa: SIM118
        kinds = {name: file.get_tensor(name).dtype for name in names}
    assert kinds["index.paths"] == kinds["index.codes_0"] == torch.uint8
    assert kinds["index.rows"] == kinds["index.buckets"] == kinds["index.indptr_0"] == torch.int32
    assert not any(kind.is_floating_point for kind in kinds.values())
