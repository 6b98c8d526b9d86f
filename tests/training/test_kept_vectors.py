"""What a frozen encoder says of texts is computed once, and never taken for something else's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_genret.data import Documents, Queries
from hf_genret.encoding import ItemSource, QuerySource, backbone_vectors
from hf_genret.kept_vectors import kept_vectors


@pytest.fixture
def model(tiny, model_on):
    return model_on(tiny)


@pytest.fixture
def runs_of() -> Callable[[Any], list[int]]:
    """Counts how often a model's text encoder runs."""

    def watch(model: Any) -> list[int]:
        calls: list[int] = []
        model.encoder.query.register_forward_hook(lambda *_: calls.append(1))
        return calls

    return watch


def test_the_second_run_reads_the_file(tmp_path, tiny, model, model_on, runs_of):
    """Another process's model with the same weights: the same vectors, the encoder idle."""
    first, tokenizer = model
    found = kept_vectors(first, ItemSource(first, tiny.documents, tokenizer), tmp_path)
    second, tokenizer = model_on(tiny)
    calls = runs_of(second)
    source = ItemSource(second, tiny.documents, tokenizer)
    again = kept_vectors(second, source, tmp_path)
    assert torch.equal(again, found) and not calls
    assert torch.equal(found, backbone_vectors(second, source)) and calls


def test_without_a_folder_nothing_is_kept(tmp_path, tiny, model, runs_of, monkeypatch):
    """Each call computes, and no file appears."""
    monkeypatch.chdir(tmp_path)
    source = ItemSource(model[0], tiny.documents, model[1])
    calls = runs_of(model[0])
    kept_vectors(model[0], source, None)
    kept_vectors(model[0], source, None)
    assert len(calls) == 2 and not list(tmp_path.iterdir())


def test_other_weights_are_another_encoder(tmp_path, tiny, model):
    """One changed number is enough."""
    encoder, tokenizer = model
    source = ItemSource(encoder, tiny.documents, tokenizer)
    before = kept_vectors(encoder, source, tmp_path)
    with torch.no_grad():
        encoder.encoder.query.idf[int(source.tokens.ids[0])] += 1.0
    after = kept_vectors(encoder, source, tmp_path)
    assert not torch.equal(before, after) and len(list(tmp_path.iterdir())) == 2
    assert torch.equal(after, backbone_vectors(encoder, source))


@pytest.mark.parametrize("setting", [{"k1": 3.0}, {"b": 0.1}, {"average_length": 99.0}])
def test_other_settings_are_another_encoder(tmp_path, tiny, model, model_on, setting):
    """The same weights say something else of a text with another saturation."""
    first, tokenizer = model
    source = ItemSource(first, tiny.documents, tokenizer)
    kept_vectors(first, source, tmp_path)
    other, _ = model_on(tiny, query_encoder=first.config.query_encoder | setting)
    found = kept_vectors(other, source, tmp_path)
    assert torch.equal(found, backbone_vectors(other, source))


def test_another_pooling_is_another_encoder(tmp_path, tiny, bert_folder):
    """First token or mean of the same backbone."""
    from hf_genret.training.build import build
    from hf_genret.training.recipes import load_recipe

    for pooling in ("cls", "mean"):
        settings = [f"encoder={bert_folder}", f"text.pooling={pooling}", "queries.pseudo=1"]
        start = build(load_recipe("dense", settings), tiny, seed=0)
        source = start.data.items
        found = kept_vectors(start.model, source, tmp_path)
        assert torch.equal(found, backbone_vectors(start.model, source))


def test_other_texts_are_other_vectors(tmp_path, tiny, model):
    """The same tokens cut at another place are other texts."""
    encoder, tokenizer = model
    pairs = [["fada lilu", "gomi"], ["fada", "lilu gomi"]]
    sources = [
        ItemSource(encoder, Documents(["a", "b"], ["", ""], texts), tokenizer) for texts in pairs
    ]
    assert sources[0].tokens.ids.tolist() == sources[1].tokens.ids.tolist()
    for source in sources:
        found = kept_vectors(encoder, source, tmp_path)
        assert torch.equal(found, backbone_vectors(encoder, source))
    assert len(list(tmp_path.iterdir())) == 2


def test_queries_and_documents_of_one_text_share_a_file(tmp_path, tiny, model, runs_of):
    """The encoder is the same, so what it says of a text is."""
    encoder, tokenizer = model
    texts = tiny.documents.full_texts()
    queries = Queries([str(i) for i in range(60)], [{}] * 60, texts)
    of_items = kept_vectors(encoder, ItemSource(encoder, tiny.documents, tokenizer), tmp_path)
    calls = runs_of(encoder)
    of_queries = kept_vectors(encoder, QuerySource(encoder, queries, tokenizer), tmp_path)
    assert torch.equal(of_items, of_queries) and not calls


def test_a_part_of_a_corpus_takes_its_rows(tmp_path, tiny, model, runs_of):
    """In any order and with repeats; only what no file holds is encoded, and joins the folder."""
    encoder, tokenizer = model
    whole = kept_vectors(encoder, ItemSource(encoder, tiny.documents, tokenizer), tmp_path)
    rows = [7, 3, 3, 41]
    calls = runs_of(encoder)
    part = ItemSource(encoder, tiny.documents.take(rows), tokenizer)
    assert torch.equal(kept_vectors(encoder, part, tmp_path), whole[rows]) and not calls
    texts = [*part.documents.full_texts(), "gomi fada"]
    more = QuerySource(encoder, Queries(list("abcde"), [{}] * 5, texts), tokenizer)
    found = kept_vectors(encoder, more, tmp_path)
    assert len(calls) == 1 and len(list(tmp_path.iterdir())) == 2
    assert torch.allclose(found, backbone_vectors(encoder, more), atol=1e-6)
    kept_vectors(encoder, more, tmp_path)
    assert len(calls) == 2  # the line above that computed everything, and nothing since


def test_nothing_half_written_is_read(tmp_path, tiny, model, monkeypatch):
    """A writer that dies leaves no file under a name that is read."""
    from hf_genret import kept_vectors as room

    encoder, tokenizer = model
    source = ItemSource(encoder, tiny.documents, tokenizer)

    def die(tensors: Any, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(room, "save_file", die)
        with pytest.raises(OSError, match="No space left"):
            kept_vectors(encoder, source, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    assert torch.equal(kept_vectors(encoder, source, tmp_path), backbone_vectors(encoder, source))


def test_two_writers_at_once(tmp_path, tiny, model, monkeypatch):
    """Another process that finishes the same file meanwhile is no error."""
    from hf_genret import kept_vectors as room

    encoder, tokenizer = model
    source = ItemSource(encoder, tiny.documents, tokenizer)
    real = room.save_file

    def save(tensors: Any, path: Path, **about: Any) -> None:
        monkeypatch.setattr(room, "save_file", real)
        real(tensors, path, **about)
        kept_vectors(encoder, source, tmp_path)  # the other one begins now and is faster

    monkeypatch.setattr(room, "save_file", save)
    found = kept_vectors(encoder, source, tmp_path)
    assert torch.equal(found, backbone_vectors(encoder, source))
    assert len(list(tmp_path.iterdir())) == 1


FROZEN: dict[str, Any] = {
    "name": "frozen",
    "objective": "ranker",
    "train": ["adapter"],
    "batch_size": 16,
    "max_steps": 2,
}


def test_a_second_training_runs_no_encoder(tmp_path, trainer_at, runs_of):
    """Documents, training and dev queries come from the folder; the weights are bit-equal."""
    first = trainer_at(tmp_path / "a", [FROZEN], encodings=tmp_path / "kept")
    first.train()
    assert len(list((tmp_path / "kept").iterdir())) == 3
    second = trainer_at(tmp_path / "b", [FROZEN], encodings=tmp_path / "kept")
    calls = runs_of(second.model)
    second.train()
    assert not calls
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name


def test_a_learning_encoder_keeps_nothing(tmp_path, trainer_at):
    """Its vectors would be old after a step."""
    stage = FROZEN | {"train": ["encoder"]}
    trainer_at(tmp_path / "a", [stage], encodings=tmp_path / "kept").train()
    assert not (tmp_path / "kept").exists()
