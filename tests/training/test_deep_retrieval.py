"""Deep Retrieval: its likelihood by hand, and the M-step on what beams find."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.errors import ConfigError
from hf_genret.indexing import by_model
from hf_genret.indexing.by_model import ids_by_model, likely_paths
from hf_genret.indexing.paths import path_numbers
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.objectives import Context, CrossEntropyObjective, DeepRetrievalObjective
from hf_genret.training.path_assignment import PathSettings, path_scores
from hf_genret.training.stage_actions import perform
from hf_genret.training.workshop import Workshop

STAGE = stages_from([{"name": "s", "objective": "deep_retrieval", "train": ["decoder"]}])[0]


def workshop(tiny, model_on, pairs_of, **changes: Any) -> Workshop:
    settings = {"decoder_type": "mlp", "head_type": "plain", "ids_per_document": 3}
    model, tokenizer = model_on(tiny, **{**settings, "codebook_sizes": [4, 3], **changes})
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in [*model.decoder.parameters(), *model.heads.parameters()]:
            parameter.normal_(std=0.7)
    levels = model.config.num_levels
    data = pairs_of(tiny, model, tokenizer)
    return Workshop(model.eval(), data, RunState.fresh(60, levels), STAGE, seed=0)


@pytest.fixture
def shop(tiny, model_on, pairs_of):
    """Random MLP over 4 x 3 paths, three a document."""
    return workshop(tiny, model_on, pairs_of)


def every_path(model, encoded) -> np.ndarray:
    """P of all 12 paths for each of B, one path at a time through path_logits, [B, 12]."""
    out = []
    for path in itertools.product(range(4), range(3)):
        codes = torch.tensor([path]).expand(len(encoded.pooler_output), -1)
        with torch.no_grad():
            levels = model.path_logits(encoded, codes)
        parts = [level.double().log_softmax(-1)[:, path[i]] for i, level in enumerate(levels)]
        out.append(sum(parts).exp().numpy())
    return np.stack(out, axis=1)


def objective_of(shop, kind=DeepRetrievalObjective, **options):
    relevant = shop.data.train.queries.relevant
    return kind(Context(shop.state.codes, 0, shop.sizes, relevant, shop.state.paths), options)


def test_the_likelihood_by_hand(shop):
    """-log of the summed probability of a document's paths; a path that comes twice is one."""
    paths = torch.randint(0, 3, (60, 3, 2), generator=torch.Generator().manual_seed(1))
    paths[7, 1] = paths[7, 0]
    shop.state.give_paths(paths)
    rows = np.asarray([7, 2, 30])
    batch = {
        "query": shop.data.train.batch(np.arange(3)),
        "item": shop.data.items.batch(rows),
        "rows": torch.from_numpy(rows),
    }
    terms = objective_of(shop, item=0.5)(shop.model, batch)
    sides = {
        "query": (1.0, shop.model.encode_query(**batch["query"])),
        "item": (0.5, shop.model.encode_items(**batch["item"])),
    }
    for name, (weight, encoded) in sides.items():
        p = every_path(shop.model, encoded)
        losses = []
        for place, row in enumerate(rows):
            mine = set(path_numbers(paths[row].numpy(), [4, 3]).tolist())
            losses.append(-np.log(sum(p[place, c] for c in mine)))
        assert terms[name].item() == pytest.approx(weight * np.mean(losses), rel=1e-4)


def test_one_path_is_cross_entropy(shop):
    """The same loss where documents have one id."""
    perform(shop, {"ids": "kmeans"})
    batch = {
        "query": shop.data.train.batch(np.arange(5)),
        "item": shop.data.items.batch(np.arange(5)),
        "rows": torch.arange(5),
    }
    ours = objective_of(shop)(shop.model, batch)
    theirs = objective_of(shop, CrossEntropyObjective)(shop.model, batch)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


@pytest.mark.parametrize("decoder", ["mlp", "transformer"])
def test_likely_paths_are_the_best_of_all(tiny, model_on, pairs_of, decoder):
    """A beam as wide as a level finds them exactly; no index is needed."""
    shop = workshop(tiny, model_on, pairs_of, decoder_type=decoder)
    encoded = shop.model.encode_items(**shop.data.items.batch(np.arange(4)))
    codes, log_p = likely_paths(shop.model, encoded, 5)
    wanted = every_path(shop.model, encoded)
    order = np.argsort(-wanted, axis=1)[:, :5]
    assert np.array_equal(path_numbers(codes, [4, 3]), order)
    np.testing.assert_allclose(np.exp(log_p), np.take_along_axis(wanted, order, 1), rtol=1e-4)
    assert likely_paths(shop.model, encoded, 99)[0].shape == (4, 12, 2)


@pytest.mark.parametrize("item", [0.0, 1.0])
def test_scores_are_sums_over_training_queries(shop, item):
    """s[y, c] and N_y with a beam that misses nothing, against a loop over pairs."""
    found, queries = path_scores(shop, PathSettings(beams=12, item=item, keep=12))
    data = shop.data
    p = every_path(
        shop.model, shop.model.encode_query(**data.train.batch(np.arange(len(data.train))))
    )
    wanted, count = np.zeros((60, 12)), np.zeros(60)
    for query, row in zip(data.pair_query, data.pair_row, strict=True):
        wanted[row] += p[query]
        count[row] += 1
    if item:
        own = shop.model.encode_items(**data.items.batch(np.arange(60)))
        wanted += every_path(shop.model, own)
        count += 1
    assert np.array_equal(queries, count)
    for row in range(60):
        paths, scores = found.of(row)
        known = np.flatnonzero(wanted[row])
        assert paths.tolist() == known.tolist()
        np.testing.assert_allclose(scores, wanted[row][known], rtol=1e-4)


def test_the_m_step_raises_its_objective(shop):
    """Paths move to what queries say; the index has them; the price keeps paths from filling."""
    largest = []
    for penalty in (0.0, 0.01):
        perform(shop, {"ids": "random_paths"})
        facts = perform(shop, {"paths": {"penalty": penalty, "beams": 12, "rounds": 5}})
        assert facts["objective"] > facts["objective_before"] and facts["paths_moved"] > 0.5
        assert len(shop.model.index) > 160 and facts["largest_path"] <= 60
        assert shop.state.paths.shape == (60, 3, 2)
        largest.append(facts["largest_path"])
    assert largest[1] < largest[0]


def test_without_training_queries_nothing_moves_as_published(shop):
    """`item: 0`: only documents that some training query names get other paths."""
    perform(shop, {"ids": "random_paths"})
    before = shop.state.paths.clone()
    perform(shop, {"paths": {"item": 0.0}})
    asked = np.unique(shop.data.pair_row)
    moved = (shop.state.paths != before).flatten(1).any(1).nonzero()[:, 0].tolist()
    assert moved and set(moved) <= set(asked.tolist()) and len(asked) < 60


def test_one_path_can_be_chosen_as_well(tiny, model_on, pairs_of):
    """J = 1: codes and no paths."""
    shop = workshop(tiny, model_on, pairs_of, ids_per_document=1)
    perform(shop, {"ids": "random_paths"})
    perform(shop, {"paths": {}})
    assert shop.state.paths is None and len(shop.model.index) == 60


def test_the_setting_is_checked_for_stages_that_read_it():
    """An unknown objective option is one sentence."""
    context = Context(torch.zeros(2, 2, dtype=torch.long), 0, [2, 2], [])
    with pytest.raises(ConfigError, match="DeepRetrievalObjective knows no setting itm"):
        DeepRetrievalObjective(context, {"itm": 1.0})


def test_new_documents_take_their_own_likely_paths(shop, monkeypatch):
    """Where full paths cost nothing the three best of each; no index is needed."""
    monkeypatch.setattr(by_model, "PENALTY", 0.0)
    codes, rows = ids_by_model(shop.model, shop.data.items)
    own = every_path(shop.model, shop.model.encode_items(**shop.data.items.batch(np.arange(60))))
    assert torch.bincount(rows).tolist() == [3] * 60
    taken = path_numbers(codes.numpy(), [4, 3]).reshape(60, 3)
    assert np.array_equal(np.sort(taken, 1), np.sort(np.argsort(-own, axis=1)[:, :3], 1))
