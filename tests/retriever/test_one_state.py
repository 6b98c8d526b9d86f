"""What was opened is what is answered from, whatever becomes of the folder."""

from __future__ import annotations

import json
import os
import shutil
import stat

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from hf_genret import swap
from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.errors import CheckpointError
from hf_genret.modeling import GenRetModel, digest_genret
from hf_genret.retriever import GenRetriever


@pytest.fixture
def two(retriever, corpus, tmp_path):
    """Folders of two checkpoints with the same sizes and other words."""
    retriever.save_pretrained(tmp_path / "one", extra_manifest={"seed": 1})
    texts = [text.replace("owl", "eel") for text in corpus.texts]
    other = Documents([f"x{i}" for i in range(len(corpus))], corpus.titles, texts)
    found = tiny_retriever(other, codebook_sizes=[4, 5], dim=256, seed=1)
    found.save_pretrained(tmp_path / "other", extra_manifest={"seed": 2})
    return tmp_path / "one", tmp_path / "other"


def test_a_later_save_does_not_reach_what_is_open(two):
    """Vectors, documents and card of a retriever that has answered nothing yet."""
    alone = GenRetriever.from_pretrained(two[0], device="cpu")
    right, texts = alone.search("black owl", k=3), list(alone.documents)
    opened = GenRetriever.from_pretrained(two[0], device="cpu")
    GenRetriever.from_pretrained(two[1]).save_pretrained(two[0])
    assert opened.search("black owl", k=3) == right and list(opened.documents) == texts
    assert opened.facts["seed"] == 1


def test_a_folder_that_vanishes_does_not_reach_what_is_open(two, tmp_path):
    """It can even be saved again, card and all."""
    opened = GenRetriever.from_pretrained(two[0], device="cpu")
    card = (two[0] / "README.md").read_text()
    shutil.rmtree(two[0])
    assert len(opened.search("black owl", k=3)) == 3
    opened.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == card


@pytest.mark.parametrize("held", [True, False])
def test_a_save_in_the_middle_of_a_load_gives_one_or_the_other(two, monkeypatch, held):
    """Where a folder can be held still the old one, elsewhere the new one, read once more."""
    if not held:
        monkeypatch.setattr(swap, "_held_still", swap._as_it_is)
    writer = GenRetriever.from_pretrained(two[1], device="cpu")
    from hf_genret import checkpoints

    real, saved = checkpoints.load_tokenizer, []

    def load(*arguments):
        if not saved:
            saved.append(writer.save_pretrained(two[0]))
        return real(*arguments)

    monkeypatch.setattr(checkpoints, "load_tokenizer", load)
    opened = GenRetriever.from_pretrained(two[0], device="cpu")
    first = ("d0", 1) if held else ("x0", 2)
    assert (opened.documents.id_of(0), opened.facts["seed"]) == first
    assert opened.search("black eel" if not held else "black owl", k=1)[0].id[0] == first[0][0]


def test_no_name_of_a_held_folder_is_left(two, tmp_path):
    """Model, tokenizer, errors and saved files name the folder that the user named."""
    opened = GenRetriever.from_pretrained(two[0], device="cpu")
    assert opened.model.config.name_or_path == str(two[0]) == opened.processing_class.name_or_path
    opened.save_pretrained(tmp_path / "again")
    for file in (tmp_path / "again").glob("*.json"):
        assert "/proc/" not in file.read_text(), file
    (two[0] / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=str(two[0])) as error:
        GenRetriever.from_pretrained(two[0])
    assert "/proc/" not in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "vectors.safetensors"])
def test_transformers_alone_refuses_a_mixture(two, file):
    """Every part of another save, though all sizes agree."""
    shutil.copyfile(two[1] / file, two[0] / file)
    with pytest.raises(ValueError, match="of different saves"):
        AutoModel.from_pretrained(two[0])


def test_transformers_alone_reads_again_what_was_replaced(two, monkeypatch):
    """A save between weights and vectors is noticed."""
    writer = GenRetriever.from_pretrained(two[1], device="cpu")
    real, saved = GenRetModel.open_vectors, []

    def open_vectors(model, path):
        if not saved:
            saved.append(writer.save_pretrained(two[0]))
        real(model, path)

    monkeypatch.setattr(GenRetModel, "open_vectors", open_vectors)
    model = GenRetModel.from_pretrained(two[0])
    assert (model.vectors == load_file(two[1] / "vectors.safetensors")["vectors"]).all()
    assert (model.index.paths == writer.model.index.paths).all()


def test_a_checkpoint_of_before_has_no_signature_and_loads(two):
    """What config.json does not say is not checked."""
    config = json.loads((two[0] / "config.json").read_text())
    assert config.pop(digest_genret.KEY).keys() == {"weights", "vectors"}
    (two[0] / "config.json").write_text(json.dumps(config))
    weights = load_file(two[0] / "model.safetensors")
    weights["heads.centres.0"] += 1
    save_file(weights, two[0] / "model.safetensors", metadata={"format": "pt"})
    assert len(AutoModel.from_pretrained(two[0]).index) == 40


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_decides_who_may_read(retriever, tmp_path, umask):
    """Every file and the folder itself, of a retriever and of a model alone."""
    before = os.umask(umask)
    try:
        retriever.save_pretrained(tmp_path / "out")
        retriever.model.save_pretrained(tmp_path / "model")
    finally:
        os.umask(before)
    for folder in (tmp_path / "out", tmp_path / "model"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask
        for file in folder.rglob("*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask, file


def test_evaluation_notices_that_its_folder_was_replaced(two):
    """The controls in it are opened late."""
    opened = GenRetriever.from_pretrained(two[0], device="cpu")
    opened.state.check_stands()
    GenRetriever.from_pretrained(two[1]).save_pretrained(two[0])
    with pytest.raises(CheckpointError, match="was replaced meanwhile"):
        opened.state.check_stands()
