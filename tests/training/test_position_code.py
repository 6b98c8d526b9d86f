"""The last code that tells documents of one bucket apart: unique ids, or one clear error."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret import GenRetriever
from hf_genret.errors import ConfigError
from hf_genret.indexing.id_files import write_ids
from hf_genret.training import api
from hf_genret.training.build import build
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.given import give_codes, ids_from_data, positions
from hf_genret.training.recipes import load_recipe
from hf_genret.training.runs import row_codes
from hf_genret.training.workshop import Workshop

STAGE = stages_from([{"name": "s", "objective": "cross_entropy", "train": ["heads"]}])[0]
SMALL = [
    "bag={vocab_size: 300, dim: 16}",
    "model.decoder_dim=16",
    "model.decoder_heads=2",
    "model.decoder_layers=1",
    "queries.pseudo=1",
    "search.beam_weights=[0.0]",
]


def short(recipe: str, *settings: str) -> list[str]:
    """Three steps of every stage."""
    out = [*settings, *SMALL]
    for stage in load_recipe(recipe, settings).stages:
        for name, value in (("max_steps", 3), ("batch_size", 32), ("evaluations", 1)):
            out.append(f"stages.{stage.name}.{name}={value}")
    return out


def counted(codes: list[tuple[int, ...]]) -> list[int]:
    """Each document's number in its bucket, one document after another."""
    seen: Counter[tuple[int, ...]] = Counter()
    out = []
    for code in codes:
        out.append(seen[code])
        seen[code] += 1
    return out


@pytest.fixture
def shop_of(tiny, model_on, pairs_of):
    """A workshop whose last level, of the given size, is the position's."""

    def make(limit: int) -> Workshop:
        model, tokenizer = model_on(tiny, codebook_sizes=[4, 3, limit])
        data = pairs_of(tiny, model, tokenizer)
        data.position_code = True
        return Workshop(model, data, RunState.fresh(60, 3), STAGE, 0)

    return make


def test_positions_are_counted_in_every_bucket(rng):
    """A running number from 0 in the documents' order, whatever the ids."""
    codes = rng.integers(3, size=(50, 2))
    assert positions(codes).tolist() == counted(list(map(tuple, codes.tolist())))
    assert positions(np.zeros((0, 2), dtype=int)).tolist() == []


def test_positions_of_ids_too_long_for_one_number():
    """Ids whose numbers would not fit in 64 bits are told apart all the same."""
    codes = np.full((4, 9), 1999)
    codes[2:, 0] = 1998
    assert positions(codes).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("name", ["kmeans", "random", "rq"])
def test_ids_made_in_training_become_unique(shop_of, name):
    """The codes of the bucket are those without a position, the last one tells it apart."""
    shop = shop_of(60)
    codes = give_codes(shop, name)
    assert codes.dtype == torch.int64 and len(codes.unique(dim=0)) == 60
    assert shop.bucket_sizes == [4, 3] and int(codes[:, :2].max()) < 4
    assert codes[:, 2].tolist() == counted(list(map(tuple, codes[:, :2].tolist())))


def test_a_bucket_that_is_too_large_is_one_error(shop_of):
    """60 documents in 12 equal buckets: five positions are enough, four are not."""
    assert len(give_codes(shop_of(5), "kmeans").unique(dim=0)) == 60
    with pytest.raises(ConfigError, match=r"holds 5 documents and position_code is 4: set") as bad:
        give_codes(shop_of(4), "kmeans")
    assert "position_code=5" in str(bad.value) and "\n" not in str(bad.value)


def test_ids_of_a_file_get_as_many_positions_as_they_need(tmp_path, tiny):
    """The largest bucket's size, whatever the recipe's limit; none where ids are unique."""
    rows = np.arange(60)
    write_ids(tmp_path / "ids.tsv", tiny.documents.ids, (rows % 7)[:, None])
    name = f"file:{tmp_path / 'ids.tsv'}"
    codes, sizes = ids_from_data(name, tiny.documents, position_code=True)
    assert sizes == [7, 9] and codes[:, 0].tolist() == (rows % 7).tolist()
    assert codes[:, 1].tolist() == (rows // 7).tolist()
    codes, sizes = ids_from_data("atomic", tiny.documents, position_code=True)
    assert sizes == [60] and codes.shape == (60, 1)
    assert ids_from_data("kmeans", tiny.documents, position_code=True) is None


def test_the_model_has_a_level_more(tiny):
    """Of the limit's size for ids made in training, of the largest bucket's for others."""

    def sizes(*settings: str) -> tuple[list[int], Any]:
        start = build(load_recipe("fixed", [*SMALL, *settings]), tiny, seed=0)
        return start.model.config.codebook_sizes, start.data

    made, data = sizes("position_code=9", "levels=1", "documents_per_leaf=6")
    assert made == [10, 9] and data.position_code and data.given is None
    found, data = sizes("position_code=9", "ids=none")
    assert found == [1, 60] and not data.position_code and data.given is not None
    assert sizes("levels=1", "documents_per_leaf=6")[0] == [10]


def test_a_trained_checkpoint_has_unique_ids(tmp_path, small_folder):
    """80 documents, 80 ids, through training, saving and loading; no level is called collapsed."""
    settings = ["documents_per_leaf=6", "position_code=30"]
    report = api.train(small_folder, "fixed", tmp_path / "out", short("fixed", *settings))
    model = GenRetriever.from_pretrained(tmp_path / "out", device="cpu").model
    codes = row_codes(model)
    assert model.config.codebook_sizes == [4, 4, 30] and len(np.unique(codes, axis=0)) == 80
    assert codes[:, 2].tolist() == counted(list(map(tuple, codes[:, :2].tolist())))
    assert model.index.num_nodes[-1] == 80 and report["warnings"] == []


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("uri", ["position_code=9"], "recipes that learn given ids.*'uri' takes none"),
        ("fixed", ["position_code=-1"], "position_code is -1; a number from 0 to"),
        ("fixed", ["position_code=many"], "position_code is 'many'; a whole number"),
        ("fixed", ["position_code=9", "new_documents.share=0.1"], "new_documents hides some"),
    ],
)
def test_mistakes_are_one_sentence(recipe, settings, message):
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(recipe, settings)
    assert "\n" not in str(caught.value)
