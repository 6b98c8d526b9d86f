"""Clusters, assignment and re-assignment: capacities, likelihoods by hand, brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.data import Queries
from hf_genret.errors import ConfigError
from hf_genret.indexing import cluster_level, node_centroids
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


def test_clusters_of_what_queries_say(shop, seen_by_queries):
    """Documents and their queries are clustered; heads stand at the documents' own vectors."""
    perform(shop, {"clusters": "query_aware"})
    seen = seen_by_queries(shop)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    found, own = (
        cluster_level(vectors, np.zeros(60), 4, seed=0, cosine=True)
        for vectors in (seen, shop.vectors)
    )
    assert shop.state.start_codes[:, 0].tolist() == found.tolist() != own.tolist()
    centres = node_centroids(shop.vectors, found[:, None], [4], 0, normalize=True)
    assert np.allclose(shop.model.heads.centres[0].detach().numpy(), centres, atol=1e-6)


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


def test_all_levels_one_after_another(shop):
    """At level 0: capacity inside each parent of the codes just given, figures of every level."""
    shop.stage = stage(0)
    facts = perform(shop, {"assign": "exact"})
    codes = shop.state.codes.clone()
    assert counts(codes[:, 0], 4) == [15] * 4
    assert counts(codes[:, 0] * 3 + codes[:, 1], 12) == [5] * 12
    assert {"displaced_1", "displaced_2", "ape_1", "ape_2"} <= set(facts) and "level" not in facts
    for level in (1, 2):
        shop.stage = stage(level)
        perform(shop, {"assign": "exact"})
    assert torch.equal(shop.state.codes, codes)


@pytest.mark.parametrize("level", [0, 1])
def test_the_most_probable_code_whatever_the_loads(shop, level):
    """`argmax` knows no capacity."""
    perform(shop, {"ids": "random"})
    shop.stage = stage(level + 1)
    wanted = item_log_probs(shop, level).argmax(1)
    facts = perform(shop, {"assign": "argmax"})
    assert shop.state.codes[:, level].tolist() == wanted.tolist() and facts["displaced"] == 0


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


@pytest.mark.parametrize("levels", [[1, 2], "all"])
def test_reassignment_of_all_levels(shop, levels):
    """Level 1 may move too; everything below is assigned again, in its new parent."""
    perform(shop, {"ids": "random"})
    facts = perform(shop, {"reassign": {"method": "greedy", "levels": levels}})
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


# ---- names --------------------------------------------------------------------------------


def buckets(codes: torch.Tensor) -> set[frozenset[int]]:
    found: dict[tuple[int, ...], set[int]] = {}
    for row, code in enumerate(map(tuple, codes.tolist())):
        found.setdefault(code, set()).add(row)
    return {frozenset(rows) for rows in found.values()}


def changes(before: torch.Tensor, after: torch.Tensor) -> list[dict[int, int]]:
    """Old name -> new name of the last level, by first code."""
    out = []
    for parent in range(4):
        rows = before[:, 0] == parent
        pairs = set(zip(before[rows, 1].tolist(), after[rows, 1].tolist(), strict=True))
        assert len({old for old, _ in pairs}) == len({new for _, new in pairs}) == len(pairs)
        out.append(dict(pairs))
    return out


@pytest.mark.parametrize("way", ["uniform", "by_parent"])
def test_renamed_buckets_stay_what_they_were(shop, way):
    """The same documents together, the first codes as before; the index knows the new names."""
    perform(shop, {"ids": "kmeans"})
    before = shop.state.codes.clone()
    perform(shop, {"rename": way})
    after = shop.state.codes
    assert buckets(after) == buckets(before) and torch.equal(after[:, 0], before[:, 0])
    paths = shop.model.index.paths[shop.model.index.rows.argsort()]
    assert torch.equal(paths.long(), after) and not torch.equal(after, before)


def test_names_change_alike_for_all_parents(shop):
    """`uniform`, the paper's first variant: one permutation."""
    perform(shop, {"ids": "kmeans"})
    before = shop.state.codes.clone()
    perform(shop, {"rename": "uniform"})
    first, *others = changes(before, shop.state.codes)
    assert all(other == first for other in others)


def test_names_change_in_a_way_of_each_parent(shop):
    """`by_parent`, the second: parents have permutations of their own."""
    perform(shop, {"ids": "kmeans"})
    before = shop.state.codes.clone()
    perform(shop, {"rename": "by_parent"})
    assert len({tuple(sorted(names.items())) for names in changes(before, shop.state.codes)}) > 1


def test_cluster_heads_move_with_the_names(shop):
    """Centres of the last level stand where their buckets are."""
    perform(shop, {"ids": "kmeans"})
    perform(shop, {"rename": "by_parent"})
    wanted = node_centroids(shop.vectors, shop.state.codes.numpy(), [4, 3], 1, normalize=True)
    assert np.allclose(shop.model.heads.centres[1].detach().numpy(), wanted, atol=1e-6)


# ---- numbers inside a bucket --------------------------------------------------------------


def test_a_running_number_tells_documents_of_a_bucket_apart(shop_with):
    """In the order of the corpus, from 0 in every bucket; ids are unique."""
    shop = shop_with(codebook_sizes=[4, 3, 10])
    shop.state.codes[:, 0], shop.state.codes[:, 1] = torch.arange(60) % 4, torch.arange(60) % 3
    facts = perform(shop, {"disambiguate": True})
    seen: dict[tuple[int, int], int] = {}
    for first, second, number in shop.state.codes.tolist():
        assert number == seen.get((first, second), 0)
        seen[first, second] = number + 1
    assert len(set(map(tuple, shop.state.codes.tolist()))) == 60
    assert facts["largest_bucket"] == max(seen.values()) == 5 and len(shop.model.index) == 60


def test_numbers_begin_again_where_the_level_ends(shop_with):
    """Modulo the level's size: more documents than numbers share ids evenly."""
    shop = shop_with(codebook_sizes=[2, 4])
    shop.state.codes[:, 0] = (torch.arange(60) >= 10).long()
    facts = perform(shop, {"disambiguate": True})
    assert facts["largest_bucket"] == 50
    for parent, size in ((0, 10), (1, 50)):
        mine = shop.state.codes[shop.state.codes[:, 0] == parent, 1]
        assert mine.tolist() == [number % 4 for number in range(size)]


# ---- what actions share -------------------------------------------------------------------


def test_given_ids_are_the_index_and_the_start(shop):
    """Heads at the ids' clusters at every level."""
    perform(shop, {"ids": "rq"})
    codes = shop.state.codes.numpy()
    for level in (0, 1):
        wanted = node_centroids(shop.vectors, codes, [4, 3], level, normalize=True)
        used = np.unique(codes[:, 0] if level == 0 else codes[:, 0] * 3 + codes[:, 1])
        found = shop.model.heads.centres[level].detach().numpy()
        assert np.allclose(found[used], wanted[used], atol=1e-6)


def test_actions_are_done_in_order(shop):
    """Each sees what the one before did; their facts are gathered."""
    facts = perform(shop, {"ids": "kmeans", "reassign": "exact", "rename": "uniform"})
    assert facts["ids"] == "kmeans" and facts["renamed"] == "uniform" and "leaves_changed" in facts


def test_reassignment_of_a_single_level(shop_with):
    """Ids of one level have no level but the first to move."""
    shop = shop_with(codebook_sizes=[12])
    perform(shop, {"ids": "random"})
    facts = perform(shop, {"reassign": "exact"})
    assert counts(shop.state.codes[:, 0], 12) == [5] * 12 and "displaced_1" in facts
