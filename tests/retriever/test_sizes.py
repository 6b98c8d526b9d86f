"""Sizes in a configuration are compared with the weights before memory is taken."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_genret.errors import CheckpointError
from hf_genret.sizes import check_sizes, check_vectors
from hf_genret.tensor_files import read_tensors


@pytest.fixture
def folder(shop, tmp_path):
    """A checkpoint of three items."""
    shop.model.save_pretrained(tmp_path)
    return tmp_path


def change(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_a_sound_checkpoint_passes(folder, shop):
    """And its configuration is returned."""
    assert check_sizes(folder).num_paths == len(shop.model.index)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"num_paths": 10**12}, r"describes 'index\.paths'"),
        ({"num_paths": 10**12, "num_nodes": [10**11, 10**12]}, "describes 'index"),
        ({"codebook_sizes": [10**9, 2]}, "describes"),
        ({"decoder_dim": 10**7}, "describes 'decoder"),
        ({"decoder_dim": 10**15}, r"config\.json"),
        ({"decoder_layers": 10**9}, "layers without end"),
        ({"decoder_layers": 5000}, "layers without end"),
        ({"vector_dim": 10**12}, "emits vectors of width"),
        ({"item_encoder": {"type": "items", "num_items": 10**11, "dim": 16}}, r"encoder\.items"),
        ({"item_encoder": {"type": "items", "num_items": "many", "dim": 16}}, "no model can be"),
        ({"head_type": "codebook", "indexer": "mlp", "indexer_hidden": 10**9}, "numbers"),
        ({"decoder_dropout": "x"}, "decoder_dropout must be a number"),
        ({"search_beams": None}, "search_beams must be a whole number"),
        ({"num_nodes": [-1, 2]}, "num_nodes must be 0 or above"),
        ({"codebook_sizes": 7}, "codebook_sizes must be a list of whole numbers"),
        ({"normalize": "yes"}, "normalize must be true or false"),
        ({"ranker_scale": float("nan")}, "ranker_scale must be a finite number"),
        ({"query_prompt": 3}, "query_prompt must be text"),
    ],
)
def test_sizes_that_are_none(folder, entries, said):
    """One sentence that names config.json; nothing of that size is made."""
    change(folder, **entries)
    with pytest.raises(CheckpointError, match=said) as raised:
        check_sizes(folder)
    assert "config.json" in str(raised.value)


def test_tensors_of_another_type(folder):
    """Whole numbers where the model has others."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["decoder.norm.weight"] = tensors["decoder.norm.weight"].view(torch.int32)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"'decoder\.norm\.weight' as numbers .* hold whole"):
        check_sizes(folder)


def test_weights_in_several_files(folder):
    """Each header counts; a file that is not there, or elsewhere, is named."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"part-{n % 2}.safetensors" for n, name in enumerate(sorted(tensors))}
    for part in set(places.values()):
        save_file({n: tensors[n] for n in tensors if places[n] == part}, folder / part)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    check_sizes(folder)
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"part-1\.safetensors: expected a safetensors file"):
        check_sizes(folder)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(places, "../x.safetensors")}))
    with pytest.raises(CheckpointError, match="a file of this folder was expected"):
        check_sizes(folder)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"vectors": torch.zeros(2, 8)}, r"the shape \[2, 8\]"),
        ({"other": torch.zeros(3, 8)}, "found none"),
        ({"vectors": torch.zeros(3, 8, dtype=torch.int32)}, "found I32"),
        ({"vectors": torch.zeros(3, 8, dtype=torch.int8)}, "found I8"),
        ({"vectors": torch.zeros(3, 8), "scales": torch.ones(3)}, "with other scales"),
    ],
)
def test_vectors_that_do_not_fit(tmp_path, tensors, said):
    """Rows, width and type are those that a search needs."""
    path = tmp_path / "vectors.safetensors"
    save_file({"vectors": torch.zeros(3, 8, dtype=torch.int8), "scales": torch.ones(3)}, path)
    check_vectors(path, 3, 8)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=said):
        check_vectors(path, 3, 8)


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}x"])
def test_files_that_are_none(tmp_path, content):
    """The file's name and what is wrong."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: the file is truncated or damaged"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("indptr_0", torch.tensor([0.0, 2.5]), "indptr_0 of the id index is not of whole numbers"),
        ("rows", torch.tensor([0, 1, 2]).view(3, 1), "rows of the id index is not"),
        ("codes_1", torch.tensor([True, False, True]), "codes_1 of the id index is not"),
        ("paths", torch.zeros(3, 3, dtype=torch.uint8), "have 3 levels, not 2"),
    ],
)
def test_an_index_of_other_kinds(shop, name, value, said):
    """Pointers of halves would lead out of the memory, so types come first."""
    shop.model.index._buffers[name] = value
    assert said in shop.model.index.check()
