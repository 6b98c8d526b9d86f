"""Clusters, assignment and re-assignment: capacities, likelihoods by hand, brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.data import Queries
from hf_genret.errors import ConfigError
from hf_genret.indexing import node_centroids
from hf_genret.training.assignment import query_log_likelihood
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.stage_actions import ACTIONS, perform
from hf_genret.training.workshop import Workshop


@pytest.fixture
def shop(tiny, model_on, pairs_of):
    """A workshop on the tiny corpus, at level 1 of an untrained model with random heads."""
    model, tokenizer = model_on(tiny, decoder_dropout=0.0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    return Workshop(
        model, pairs_of(tiny, model, tokenizer), RunState.fresh(60, 2), stage(1), seed=0
    )


def stage(level: int) -> Any:
    return stages_from([{"name": "s", "objective": "uri", "train": ["heads"], "level": level}])[0]


def counts(codes: torch.Tensor, size: int) -> list[int]:
    return sorted(torch.bincount(codes, minlength=size).tolist())


def item_log_probs(shop: Workshop, level: int) -> np.ndarray:
    """log P(code | item, codes above), one item at a time through forward()."""
    model, out = shop.model.eval(), []
    offsets = model.config.level_offsets
    for row in range(len(shop.state.codes)):
        inputs = shop.data.items.batch(np.asarray([row]))
        with torch.no_grad():
            encoded = model.encode_items(**inputs)
            above = [
                c + o for c, o in zip(shop.state.codes[row, :level].tolist(), offsets, strict=False)
            ]
            logits = model(
                encoder_outputs=encoded, decoder_input_ids=torch.tensor([[0, *above]])
            ).logits[0, -1]
        block = logits[offsets[level] : offsets[level] + shop.sizes[level]]
        out.append(block.double().log_softmax(-1).numpy())
    return np.stack(out)


def query_log_probs(shop: Workshop, level: int) -> np.ndarray:
    """Sum of log P(code | query, codes above of the item), one pair at a time."""
    model, out = shop.model.eval(), np.zeros((len(shop.state.codes), shop.sizes[level]))
    offsets = model.config.level_offsets
    for query, row in zip(shop.data.pair_query, shop.data.pair_row, strict=True):
        inputs = shop.data.train.batch(np.asarray([query]))
        above = [
            c + o for c, o in zip(shop.state.codes[row, :level].tolist(), offsets, strict=False)
        ]
        with torch.no_grad():
            logits = model(**inputs, decoder_input_ids=torch.tensor([[0, *above]])).logits[0, -1]
        block = logits[offsets[level] : offsets[level] + shop.sizes[level]]
        out[row] += block.double().log_softmax(-1).numpy()
    return out


# ---- starting -----------------------------------------------------------------------------


def test_clusters_start_the_level_s_heads(shop):
    """Centres are the means of balanced clusters, which are kept to compare with later."""
    perform(shop, {"clusters": "balanced"})
    start = shop.state.start_codes
    assert counts(start[:, 0], 4) == [15] * 4 and (start[:, 1] == -1).all()
    assert (shop.state.codes == -1).all()
    centres = node_centroids(shop.vectors, start.numpy()[:, :1], [4], 0, normalize=True)
    assert np.allclose(shop.model.heads.centres[0].detach().numpy(), centres, atol=1e-6)
    assert shop.model.heads.residuals[0].weight.abs().sum() == 0


def test_an_untrained_model_repeats_its_clusters(shop):
    """Heads at the clusters' centres: the item side gives each item its own cluster again."""
    perform(shop, {"clusters": "balanced"})
    facts = perform(shop, {"assign": "exact"})
    assert facts["changed_from_start"] < 0.1 and facts["displaced"] < 0.1


@pytest.mark.parametrize("ids", ["kmeans", "rq", "random"])
def test_ids_are_given(shop, ids):
    """All levels at once, the index with them; the same seed gives the same."""
    perform(shop, {"ids": ids})
    codes = shop.state.codes.clone()
    assert codes.min() >= 0 and torch.equal(shop.state.start_codes, codes)
    assert len(shop.model.index) == 60
    perform(shop, {"ids": ids})
    assert torch.equal(shop.state.codes, codes)
    if ids != "rq":
        assert (
            counts(codes[:, 0], 4) == [15] * 4
            and counts(codes[:, 0] * 3 + codes[:, 1], 12) == [5] * 12
        )


# ---- assignment ---------------------------------------------------------------------------


def test_heads_go_to_the_centres_of_present_ids(shop):
    """Whatever gave the ids; without ids it is a sentence."""
    with pytest.raises(ConfigError, match="heads: centres needs ids; give them first"):
        perform(shop, {"heads": "centres"})
    codes = torch.stack([torch.arange(60) % 4, torch.arange(60) % 3], dim=1)
    shop.state.codes[:] = codes
    assert perform(shop, {"heads": "centres"}) == {"heads": "centres"}
    for level in (0, 1):
        expected = node_centroids(shop.vectors, codes.numpy(), [4, 3], level, normalize=True)
        found = shop.model.heads.centres[level].detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("method", ["greedy", "exact", "sinkhorn"])
def test_assignment_keeps_capacities(shop, method):
    """Level 1: 15 items a code; level 2: 5 a leaf, inside each parent."""
    perform(shop, {"assign": method})
    assert counts(shop.state.codes[:, 0], 4) == [15] * 4
    shop.stage = stage(2)
    facts = perform(shop, {"assign": method})
    assert counts(shop.state.codes[:, 0] * 3 + shop.state.codes[:, 1], 12) == [5] * 12
    assert facts["level"] == 2 and facts["codes_used"] == 1.0
    assert facts["code_entropy"] == pytest.approx(1.0)
    assert len(shop.model.index) == 60


def test_uneven_parents_share_evenly(tiny, model_on, pairs_of, make_data):
    """61 items below 4 codes and 3 codes each: floor or ceil at every node."""
    data = make_data(61)
    model, tokenizer = model_on(data)
    shop = Workshop(model, pairs_of(data, model, tokenizer), RunState.fresh(61, 2), stage(1), 0)
    perform(shop, {"assign": "exact"})
    assert counts(shop.state.codes[:, 0], 4) == [15, 15, 15, 16]
    shop.stage = stage(2)
    perform(shop, {"assign": "greedy"})
    assert counts(shop.state.codes[:, 0] * 3 + shop.state.codes[:, 1], 12) == [5] * 11 + [6]


def test_greedy_is_the_paper_s_walk(shop):
    """Most confident item first, each to its most probable code that has a place."""
    log_p = item_log_probs(shop, 0)
    perform(shop, {"assign": "greedy"})
    room, expected = [15] * 4, [0] * 60
    for item in sorted(range(60), key=lambda i: (-log_p[i].max(), i)):
        code = max((c for c in range(4) if room[c]), key=lambda c: log_p[item, c])
        expected[item], room[code] = code, room[code] - 1
    assert shop.state.codes[:, 0].tolist() == expected


def test_many_displaced_items_are_a_finding(shop):
    """Every item wants the same code: three quarters are moved, and that is said."""
    with torch.no_grad():
        shop.model.heads.residuals[0].bias.copy_(100 * shop.model.heads.centres[0][1])
    facts = perform(shop, {"assign": "exact"})
    assert facts["displaced"] == pytest.approx(0.75)
    (finding,) = shop.findings
    assert (finding.figure, finding.level) == ("displaced", 1) and "75 %" in finding.message


def test_few_displaced_items_are_not(shop):
    """Clusters that suit the capacity need no word."""
    perform(shop, {"clusters": "balanced"})
    perform(shop, {"assign": "exact"})
    assert not shop.findings


# ---- EM -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1])
def test_the_likelihood_is_summed_over_an_item_s_queries(shop, level):
    """Against one query at a time; items without a query have 0."""
    perform(shop, {"ids": "random"})
    found = query_log_likelihood(shop, level, batch_size=7)
    expected = query_log_probs(shop, level)
    assert np.allclose(found, expected, atol=1e-4)
    without = np.setdiff1d(np.arange(60), shop.data.pair_row)
    assert len(without) and (found[without] == 0).all()


def test_reassignment_is_the_best_of_all(tiny, model_on, pairs_of):
    """Five items below two parents: no other assignment under capacity is more probable."""
    data, rows = tiny, range(5)
    data.documents = data.documents.take(rows)
    wanted = [{0: 1.0}, {1: 1.0}, {1: 1.0}, {2: 1.0}, {4: 1.0, 3: 1.0}, {3: 1.0}]
    texts = [data.documents.titles[next(iter(gains))] for gains in wanted]
    data.splits = {"train": Queries([f"q{i}" for i in range(6)], wanted, texts)}
    model, tokenizer = model_on(data, codebook_sizes=[2, 2], decoder_dropout=0.0)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            if parameter.ndim > 1:
                parameter.normal_()
    shop = Workshop(model, pairs_of(data, model, tokenizer), RunState.fresh(5, 2), stage(2), 0)
    shop.state.codes[:] = torch.tensor([[0, 1], [0, 0], [0, 1], [1, 1], [1, 0]])
    score = query_log_probs(shop, 1) + item_log_probs(shop, 1)
    best = max(
        (
            codes
            for codes in itertools.product(range(2), repeat=5)
            if sum(codes[:3]) in (1, 2) and sum(codes[3:]) == 1
        ),
        key=lambda codes: sum(score[i, code] for i, code in enumerate(codes)),
    )
    facts = perform(shop, {"reassign": "exact"})
    assert tuple(shop.state.codes[:, 1].tolist()) == best
    assert shop.state.codes[:, 0].tolist() == [0, 0, 0, 1, 1]
    changed = np.mean(np.asarray(best) != [1, 0, 1, 1, 0])
    assert facts["leaves_changed"] == pytest.approx(changed)


def test_reassignment_of_all_levels(shop):
    """Level 1 may move too; everything below is assigned again, in its new parent."""
    perform(shop, {"ids": "random"})
    facts = perform(shop, {"reassign": {"method": "greedy", "levels": [1, 2]}})
    assert counts(shop.state.codes[:, 0] * 3 + shop.state.codes[:, 1], 12) == [5] * 12
    assert {"displaced_1", "displaced_2"} <= set(facts) and facts["leaves_changed"] > 0


def test_ids_below_a_moving_level_move_with_it(shop):
    """Level 1 alone would leave leaves of the wrong size."""
    perform(shop, {"ids": "random"})
    with pytest.raises(ConfigError, match=r"levels is \[1\].*all levels down to 2"):
        perform(shop, {"reassign": {"method": "exact", "levels": [1]}})


def test_em_does_not_lower_the_likelihood(shop):
    """The assignment after the M-step is at least as probable as the one before."""
    perform(shop, {"ids": "random"})
    score = query_log_probs(shop, 1) + item_log_probs(shop, 1)
    rows = np.arange(60)
    before = score[rows, shop.state.codes[:, 1]].sum()
    perform(shop, {"reassign": "exact"})
    assert score[rows, shop.state.codes[:, 1]].sum() > before


def test_unknown_actions(shop):
    """One sentence names those that exist."""
    with pytest.raises(ConfigError, match=f"Unknown action 'asign'; known: {', '.join(ACTIONS)}"):
        perform(shop, {"asign": "greedy"})
    with pytest.raises(ConfigError, match="ids: 'means' is unknown; known: kmeans, em, random, rq"):
        perform(shop, {"ids": "means"})
