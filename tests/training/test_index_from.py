"""Another checkpoint's ids under a recipe's decoder: the index swap of URI's Table 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hf_genret import GenRetriever
from hf_genret.data import load_data
from hf_genret.errors import CheckpointError, ConfigError, DataWarning
from hf_genret.manifest import weights_digest
from hf_genret.training import api
from hf_genret.training.build import build
from hf_genret.training.given import ids_from_data, shown_setting
from hf_genret.training.recipes import load_recipe
from hf_genret.training.runs import row_codes

SMALL = [
    "bag={vocab_size: 300, dim: 16}",
    "model.decoder_dim=16",
    "model.decoder_heads=2",
    "model.decoder_layers=1",
    "queries.pseudo=1",
    "search.beam_weights=[0.0]",
    "controls=[]",
]
LEARNERS = ["fixed", "dsi", "nci", "tiger"]


def short(recipe: str, *settings: str) -> list[str]:
    """Three steps of every stage."""
    out = [*settings, *SMALL]
    for stage in load_recipe(recipe, settings).stages:
        for name, value in (("max_steps", 3), ("batch_size", 32), ("evaluations", 1)):
            out.append(f"stages.{stage.name}.{name}={value}")
    return out


@pytest.fixture(scope="module")
def other(tmp_path_factory, small_folder) -> Path:
    """A checkpoint of `uri` on 80 documents."""
    out = tmp_path_factory.mktemp("other") / "uri-ids"
    api.train(small_folder, "uri", out, short("uri"))
    return out


def test_ids_of_other_texts_are_said(small_folder, other):
    """The same document ids with other texts: which, in a warning."""
    documents = load_data(small_folder).documents
    documents.texts = [*documents.texts[:79], "other words"]
    with pytest.warns(DataWarning, match=rf"uri-ids: 1 documents have .* '{documents.ids[79]}'"):
        ids_from_data(f"checkpoint:{other}", documents)


def codes_of(checkpoint: Path) -> np.ndarray:
    return row_codes(GenRetriever.from_pretrained(checkpoint, device="cpu").model)


@pytest.mark.parametrize("recipe", LEARNERS)
def test_ids_are_the_checkpoint_s(tmp_path, small_folder, other, recipe):
    """Code by code, through training and saving; a recipe's position code comes after them."""
    swap = f"index_from={other}"
    report = api.train(small_folder, recipe, tmp_path / "out", short(recipe, swap))
    found, wanted = codes_of(tmp_path / "out"), codes_of(other)
    assert np.array_equal(found[:, : wanted.shape[1]], wanted)
    apart = bool(load_recipe(recipe).position_code)
    assert found.shape[1] == wanted.shape[1] + apart
    assert (len(np.unique(found, axis=0)) == 80) == apart
    largest = np.unique(wanted, axis=0, return_counts=True)[1].max()
    assert report["training"]["codebook_sizes"][wanted.shape[1] :] == [largest] * apart


def test_nothing_shows_where_the_checkpoint_lies(tmp_path, small_folder, other):
    """Reports name it, with the digest of its weights; another one at the place is another run."""
    wish = short("fixed", f"index_from={other}")
    report = api.train(small_folder, "fixed", tmp_path / "out", wish)
    kept = (tmp_path / "out" / "training.json").read_text()
    for text in (json.dumps(report), kept, (tmp_path / "out" / "manifest.json").read_text()):
        assert str(other.parent) not in text
    assert "index_from=uri-ids" in report["command"]
    assert report["recipe"]["index_from"] == f"uri-ids {weights_digest(other)}"


def test_settings_are_shown_without_places(other):
    """Checkpoints, files of ids and encoders; names on the Hub stay."""
    assert shown_setting(f"index_from={other}") == "index_from=uri-ids"
    assert shown_setting("index_from=me/model") == "index_from=me/model"
    assert shown_setting("ids=checkpoint:/a/b") == "ids=checkpoint:b"
    assert shown_setting("encoder=/a/b") == "encoder=ENCODER"
    assert shown_setting("levels=3") == "levels=3"


def test_stages_of_other_ids_are_left_out(other):
    """`em` refines ids of its own; another checkpoint's stay as they are."""
    recipe = load_recipe("fixed", ["ids=em", f"index_from={other}"])
    assert recipe.ids == f"checkpoint:{other}"
    assert "em" not in [stage.name for stage in recipe.stages]


@pytest.mark.parametrize("recipe", ["uri", "genret", "asi++", "dgi", "dense"])
def test_recipes_that_make_their_ids_refuse(recipe):
    """One sentence, before anything is loaded."""
    with pytest.raises(
        ConfigError, match=f"learn given ids.*'{recipe}' takes none".replace("++", r"\+\+")
    ) as bad:
        load_recipe(recipe, ["index_from=out"])
    assert "\n" not in str(bad.value)


def test_a_checkpoint_that_is_not_there_or_of_others(tmp_path, small_folder, text_folder, other):
    """It is named, and so is a document without an id in it."""
    with pytest.raises(CheckpointError, match="nowhere"):
        recipe = load_recipe("fixed", [*SMALL, f"index_from={tmp_path / 'nowhere'}"])
        build(recipe, load_data(small_folder), seed=0)
    with pytest.raises(CheckpointError, match=r"has no id for 120 documents \(d80\)"):
        recipe = load_recipe("fixed", [*SMALL, f"index_from={other}"])
        build(recipe, load_data(text_folder), seed=0)
