"""A checkpoint folder is complete or absent, and says what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_genret.documents import DocumentStore
from hf_genret.errors import CheckpointError, ConfigError, DataError
from hf_genret.retriever import GenRetriever


@pytest.fixture
def folder(retriever, tmp_path):
    """A saved checkpoint."""
    retriever.save_pretrained(tmp_path / "out", extra_manifest={"seed": 3, "data": {"name": "toy"}})
    return tmp_path / "out"


def content(folder):
    """Every file's bytes."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_manifest(folder):
    (folder / "manifest.json").unlink()


def test_round_trip(retriever, folder):
    """The same hits, documents and settings in a fresh object."""
    loaded = GenRetriever.from_pretrained(folder)
    for query in ("black owl", "green hen on the hill"):
        assert loaded.search(query, k=10) == retriever.search(query, k=10)
    assert loaded.documents.ids == retriever.documents.ids
    assert loaded.model.config.beam_weight == 0.05
    assert loaded.facts == {"seed": 3, "data": {"name": "toy"}}
    assert not loaded.model.training


def test_saving_twice_gives_the_same_files(retriever, folder, tmp_path):
    """Nothing of time or place is in a checkpoint."""
    loaded = GenRetriever.from_pretrained(folder)
    for name in ("again", "and_again"):
        loaded.save_pretrained(tmp_path / name)
    assert content(tmp_path / "again") == content(tmp_path / "and_again")
    weights = content(folder)["model.safetensors"]
    assert content(tmp_path / "again")["model.safetensors"] == weights


def test_dtype_and_device(folder):
    """Both reach the model; ids stay integers."""
    loaded = GenRetriever.from_pretrained(folder, dtype=torch.bfloat16, device="cpu")
    assert loaded.model.dtype == torch.bfloat16 and loaded.model.index.paths.dtype == torch.uint8
    assert loaded.search("black owl", k=1)[0].document["text"].startswith("black owl")


def test_documents_and_ids_have_to_agree(retriever, corpus):
    """As many documents as the index has."""
    with pytest.raises(DataError, match="ids for 40 documents, 39 were given"):
        GenRetriever(retriever.model, retriever.processing_class, corpus.take(range(39)))


def test_a_model_without_index_can_be_saved_and_indexed(folder, tmp_path, corpus):
    """Search says that nothing is indexed; index() makes it work."""
    from hf_genret.modeling import GenRetConfig, GenRetModel

    loaded = GenRetriever.from_pretrained(folder)
    settings = loaded.model.config.to_dict() | {"num_documents": 0, "num_paths": 0}
    settings["num_nodes"] = [0, 0]
    empty = GenRetriever(
        GenRetModel(GenRetConfig.from_dict(settings)), loaded.processing_class, corpus.take([])
    )
    with pytest.raises(DataError, match="nothing is indexed yet"):
        empty.search("owl")
    empty.save_pretrained(tmp_path / "empty")
    again = GenRetriever.from_pretrained(tmp_path / "empty")
    assert again.describe()["documents"] == 0
    again.index(corpus)
    assert len(again.search("owl", k=3)) == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "missing: expected a checkpoint folder, found nothing there"),
        ("file", "file: expected a checkpoint folder, found a file"),
        ("empty", "empty: expected a checkpoint, found no config.json"),
    ],
)
def test_what_is_no_folder(tmp_path, name, said):
    """Nothing, a file, an empty folder."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=said):
        GenRetriever.from_pretrained(tmp_path / name)


def cut(path, keep=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_weight(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["heads.centres.0"]
    save_file(weights, path, metadata={"format": "pt"})


def shorten_vectors(folder):
    save_file({"vectors": torch.zeros(39, 256)}, folder / "vectors.safetensors")


def shorten_documents(folder):
    documents = DocumentStore.load(folder).to_documents()
    DocumentStore.from_documents(documents.take(range(39))).save(folder)


DAMAGE = {
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "not a JSON object"),
    "another model": (lambda f: edit_config(f, model_type="bert"), "expected model_type 'genret'"),
    "weights missing": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "weights truncated": (lambda f: cut(f / "model.safetensors"), "truncated or damaged"),
    "a weight missing": (drop_weight, "missing keys in the weights.*heads.centres.0"),
    "sizes disagree": (lambda f: edit_config(f, vector_dim=64), "width 256, vector_dim is 64"),
    "index disagrees": (lambda f: edit_config(f, num_nodes=[4, 7]), "do not fit"),
    "vectors missing": (
        lambda f: (f / "vectors.safetensors").unlink(),
        "expected vectors.safetens",
    ),
    "vectors truncated": (lambda f: cut(f / "vectors.safetensors"), "truncated or damaged"),
    "vectors too few": (shorten_vectors, r"shape \[39, 256\], \[40, 256\] was expected"),
    "documents missing": (lambda f: (f / "documents.parquet").unlink(), "expected documents.parq"),
    "documents truncated": (lambda f: cut(f / "documents.parquet"), "expected a Parquet file"),
    "documents too few": (shorten_documents, "has 40 documents, the document store 39"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "tokenizer truncated": (lambda f: cut(f / "tokenizer.json"), "the tokenizer cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_sentence_that_names_the_folder(folder, name):
    """Without a manifest, the files themselves tell."""
    damage, said = DAMAGE[name]
    without_manifest(folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=said) as error:
        GenRetriever.from_pretrained(folder)
    text = str(error.value)
    assert str(folder) in text and len(text) < 600
    assert isinstance(error.value.__cause__, Exception) or error.value.__cause__ is None


def test_the_manifest_finds_damage_first(folder):
    """A truncated file is named with both sizes, before anything is loaded."""
    size = (folder / "model.safetensors").stat().st_size
    cut(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"model.safetensors should have {size:,} bytes"):
        GenRetriever.from_pretrained(folder)


def test_a_save_of_transformers_alone_loads(folder):
    """Without manifest.json shapes are still checked."""
    without_manifest(folder)
    assert len(GenRetriever.from_pretrained(folder).search("owl", k=3)) == 3


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "writer",
    [
        "hf_genret.modeling.GenRetModel.save_pretrained",
        "hf_genret.documents.DocumentStore.save",
        "hf_genret.checkpoints.write_manifest",
        "hf_genret.files.os.replace",
    ],
)
def test_a_full_disk_leaves_the_old_checkpoint(retriever, folder, monkeypatch, writer):
    """One sentence; the folder has the bytes it had, nothing lies beside it."""
    before = content(folder)

    def refuse(*_, **__):
        raise FULL

    retriever.index([{"id": "x", "text": "another corpus"}])
    with monkeypatch.context() as patch:
        patch.setattr(writer, refuse)
        with pytest.raises(
            CheckpointError, match=r"could not be saved \(No space left on device\)"
        ):
            retriever.save_pretrained(folder)
    assert content(folder) == before
    assert os.listdir(folder.parent) == ["out"]
    assert len(GenRetriever.from_pretrained(folder).search("owl", k=3)) == 3


def test_other_files_stay_and_stale_ones_go(retriever, tmp_path):
    """Notes and runs are kept; what the manifest lists and figures of the old one are not."""
    extras, folder = tmp_path / "extras", tmp_path / "out"
    (extras / "baselines").mkdir(parents=True)
    (extras / "baselines" / "kmeans.safetensors").write_bytes(b"old")
    (extras / "training.json").write_text("{}")
    retriever.save_pretrained(folder, beside=extras)
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "state.json").write_text("{}")
    (folder / "my-encoder.safetensors").write_bytes(b"mine")
    (folder / "README.md").write_text("figures of the old one")
    (folder / "report.json").write_text('{"systems": {}}')  # as `card --report` writes it
    retriever.index([{"id": "x", "text": "another corpus"}])
    retriever.save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "checkpoint-5" / "state.json").is_file()
    assert (folder / "my-encoder.safetensors").read_bytes() == b"mine"
    for name in ("baselines", "training.json", "report.json"):
        assert not (folder / name).exists()
    assert "Not measured yet" in (folder / "README.md").read_text()
    assert GenRetriever.from_pretrained(folder).search("x")[0].id == "x"


def test_saving_where_it_was_loaded_from_keeps_what_was_measured(folder):
    """Card and baselines speak of this very checkpoint."""
    (folder / "README.md").write_text("my card")
    (folder / "baselines").mkdir()
    loaded = GenRetriever.from_pretrained(folder)
    loaded.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "my card" and (folder / "baselines").is_dir()
    loaded.save_pretrained(folder.parent / "copy")
    assert (folder.parent / "copy" / "README.md").read_text() == "my card"


def test_the_target_may_not_be_a_file_or_the_working_folder(retriever, tmp_path, monkeypatch):
    """One sentence each."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is a file"):
        retriever.save_pretrained(tmp_path / "file")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(CheckpointError, match="the working folder cannot be replaced"):
        retriever.save_pretrained(".")


def test_links_are_made_where_they_can_be_and_copies_elsewhere(retriever, folder, monkeypatch):
    """A disk without hard links still keeps other files."""
    (folder / "notes.txt").write_text("mine")

    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr("hf_genret.outputs.os.link", refuse)
    retriever.save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_moved_folder_still_loads(folder, tmp_path):
    """No path is written into a checkpoint."""
    shutil.move(folder, tmp_path / "elsewhere")
    assert GenRetriever.from_pretrained(tmp_path / "elsewhere").search("owl", k=1)


def test_vectors_in_less_bytes(folder, tmp_path):
    """Kept, published and searched as integers; integers without their scales are refused."""
    retriever = GenRetriever.from_pretrained(folder, device="cpu")
    retriever.compress_vectors("int8")
    retriever.save_pretrained(tmp_path / "small")
    loaded = GenRetriever.from_pretrained(tmp_path / "small", device="cpu")
    assert loaded.describe()["bytes"]["vectors"] == 40 * (256 + 4)
    assert [hit.id for hit in loaded.search("black owl", k=3)] == [
        hit.id for hit in retriever.search("black owl", k=3)
    ]
    with pytest.raises(ConfigError, match="precision of vectors is 'int4'"):
        loaded.compress_vectors("int4")
    path = tmp_path / "small" / "vectors.safetensors"
    save_file({"vectors": load_file(path)["vectors"]}, path)
    (tmp_path / "small" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="integers without their scales"):
        GenRetriever.from_pretrained(tmp_path / "small")
