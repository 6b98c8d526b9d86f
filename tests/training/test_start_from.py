"""A run that begins with the encoder and ranker of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_genret import GenRetriever
from hf_genret.data import Documents, RetrievalData, load_data
from hf_genret.encoding import pooled_vectors
from hf_genret.errors import CheckpointError
from hf_genret.training import api
from hf_genret.training.build import build
from hf_genret.training.recipes import load_recipe

SMALL = ["bag={vocab_size: 300, dim: 16}", "queries.pseudo=1", "search.beam_weights=[0.0]"]
DECODER = ["model.decoder_dim=16", "model.decoder_heads=2", "model.decoder_layers=1"]


def short(recipe: str, *settings: str, task: str = "text") -> list[str]:
    out = [*settings, *DECODER]
    for stage in load_recipe(recipe, settings, task).stages:
        for name, value in (("max_steps", 4), ("batch_size", 32), ("evaluations", 1)):
            out.append(f"stages.{stage.name}.{name}={value}")
    return out


@pytest.fixture(scope="module")
def dense(tmp_path_factory, small_folder) -> Path:
    """A dense baseline whose encoder, adapter and ranker have all moved."""
    out = tmp_path_factory.mktemp("dense") / "out"
    moves = ["stages.encoder.train=[encoder, adapter, ranker]", "stages.encoder.keep_best=null"]
    api.train(small_folder, "dense", out, [*short("dense", *SMALL), *moves], seed=1)
    return out


@pytest.fixture(scope="module")
def data(small_folder) -> RetrievalData:
    return load_data(small_folder)


def parts_of(model: torch.nn.Module, *parts: str) -> dict[str, torch.Tensor]:
    return {name: v for name, v in model.state_dict().items() if name.startswith(parts)}


def started(data: RetrievalData, checkpoint: Path, *settings: str, seed: int = 1) -> Any:
    wish = [*SMALL, *DECODER, f"start_from={checkpoint}", *settings]
    return build(load_recipe("fixed", wish), data, seed=seed)


def test_encoder_and_ranker_are_the_checkpoint_s(dense, data):
    """Bit for bit, adapters included; decoder and heads are fresh."""
    other = GenRetriever.from_pretrained(dense, device="cpu").model
    model = started(data, dense).model
    taken = parts_of(model, "encoder.", "ranker.")
    assert taken.keys() == parts_of(other, "encoder.", "ranker.").keys() and len(taken) > 3
    for name, value in parts_of(other, "encoder.", "ranker.").items():
        assert torch.equal(taken[name], value), name
    assert model.config.codebook_sizes != other.config.codebook_sizes


def test_it_is_not_what_the_recipe_builds(dense, data):
    """Without the checkpoint encoder and ranker would be others: the training moved them."""
    fresh = build(load_recipe("fixed", [*SMALL, *DECODER]), data, seed=1).model
    taken = started(data, dense).model
    for part in ("encoder.query.", "encoder.query_adapter.", "ranker."):
        pairs = zip(parts_of(fresh, part).values(), parts_of(taken, part).values(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs), part


def test_vectors_are_the_checkpoint_s(dense, data):
    """What it says of documents is what the checkpoint stored."""
    retriever = GenRetriever.from_pretrained(dense, device="cpu")
    start = started(data, dense)
    found = pooled_vectors(start.model, start.data.items)
    torch.testing.assert_close(found, retriever.model.vectors.float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("recipe", "task", "left_out"),
    [("fixed", "text", "encoder"), ("fixed", "sequential", "ranker"), ("uri", "text", "encoder")],
)
def test_first_stages_are_left_out(recipe, task, left_out):
    """Those that the task shares, and no others: their work is in the checkpoint."""
    whole = [stage.name for stage in load_recipe(recipe, (), task).stages]
    rest = [stage.name for stage in load_recipe(recipe, ["start_from=x"], task).stages]
    assert whole[0] == left_out and rest == whole[1:]


def test_a_whole_run_from_a_checkpoint(dense, data, tmp_path, small_folder):
    """It trains ids alone; encoder and ranker of the new checkpoint are still the old ones."""
    settings = [*SMALL, f"start_from={dense}", "stages.ranker.skip=true"]
    report = api.train(small_folder, "fixed", tmp_path / "out", short("fixed", *settings), seed=1)
    assert [stage["stage"] for stage in report["stages"]] == ["ids", "final"]
    found = GenRetriever.from_pretrained(tmp_path / "out", device="cpu").model
    other = GenRetriever.from_pretrained(dense, device="cpu").model
    for name, value in parts_of(other, "encoder.", "ranker.").items():
        assert torch.equal(found.state_dict()[name], value), name
    assert torch.equal(found.vectors, other.vectors)
    training = json.loads((tmp_path / "out" / "training.json").read_text())
    assert training["recipe"]["start_from"] == str(dense)


def test_histories_start_from_a_checkpoint_too(tmp_path, sequence_folder):
    """Items and the sequence encoder; items in another order are others."""
    small = ["items={dim: 16, feature_dim: 8, layers: 1}", "queries.dev_limit=50"]
    dense = tmp_path / "dense"
    api.train(sequence_folder, "dense", dense, short("dense", *small, task="sequential"))
    other = GenRetriever.from_pretrained(dense, device="cpu").model
    wish = [*small, *DECODER, f"start_from={dense}"]
    start = build(load_recipe("fixed", wish, "sequential"), load_data(sequence_folder), seed=3)
    for name, value in parts_of(other, "encoder.", "ranker.").items():
        assert torch.equal(start.model.state_dict()[name], value), name
    shuffled = load_data(sequence_folder)
    shuffled.documents = shuffled.documents.take(range(199, -1, -1))
    with pytest.raises(CheckpointError, match=r"another encoder.*the items"):
        build(load_recipe("fixed", wish, "sequential"), shuffled, seed=3)


# ---- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["bag={vocab_size: 300, dim: 8}"], id="narrower"),
        pytest.param(["bag={vocab_size: 200, dim: 16}"], id="fewer words"),
        pytest.param(["model.query_adapter=false"], id="no adapter"),
        pytest.param(["model.item_adapter=true"], id="another adapter"),
        pytest.param(["model.ranker_similarity=bilinear"], id="another ranker"),
    ],
)
def test_another_encoder_is_refused(dense, data, settings):
    """One sentence names the checkpoint and where they differ."""
    with pytest.raises(CheckpointError, match="another encoder than the recipe's") as caught:
        started(data, dense, *settings)
    assert str(dense) in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_encoder_in_place_of_a_bag_is_refused(dense, data, bert_folder):
    """Another kind altogether."""
    with pytest.raises(CheckpointError, match=r"another encoder than the recipe's; they differ in"):
        started(data, dense, f"encoder={bert_folder}")


def test_the_same_sizes_with_other_words_are_refused(dense, data):
    """Another corpus fills the vocabulary with other subwords: its vectors would mean nothing."""
    documents = data.documents
    turned = [text[::-1] for text in documents.texts]
    other = Documents(documents.ids, [title[::-1] for title in documents.titles], turned)
    data = RetrievalData("turned", "0" * 16, other, data.splits)
    with pytest.raises(CheckpointError, match=r"another encoder.*the tokenizer's words"):
        started(data, dense)


def test_a_place_without_a_checkpoint(data, tmp_path):
    """One sentence, before anything is trained."""
    with pytest.raises(CheckpointError, match="found nothing there"):
        started(data, tmp_path / "nowhere")
