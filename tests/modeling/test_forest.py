"""A search in a forest is a search in each of its trees."""

from __future__ import annotations

import pytest
import torch

from hf_genret.modeling import EncoderOutput, GenRetModel, beam_search

HEADS = ["plain", "cluster"]


def forest_model(make_model, head_type: str = "plain", documents: int = 30) -> GenRetModel:
    """Three trees of 3 x 4 leaves, a random path of every document in each."""
    model = make_model(
        head_type=head_type, forest=True, ids_per_document=3, codebook_sizes=[3, 3, 4]
    )
    tree = torch.arange(3).repeat_interleave(documents)
    codes = [tree, *(torch.randint(0, size, (3 * documents,)) for size in (3, 4))]
    vectors = torch.nn.functional.normalize(torch.randn(documents, 16), dim=-1)
    model.set_index(torch.stack(codes, 1), torch.arange(documents).repeat(3), vectors)
    return model


def tree_of(model: GenRetModel, tree: int) -> torch.Tensor:
    """Codes of one tree."""
    return model.index.paths[model.index.paths[:, 0] == tree].long()


@pytest.mark.parametrize("head_type", HEADS)
@pytest.mark.parametrize("beams", [3, 7, 9, 60])
def test_every_tree_is_a_search_of_its_own(make_model, plain_beam, text, head_type, beams):
    """A third of the beams, rounded up, in an index of one tree after another, in plain Python."""
    model = forest_model(make_model, head_type)
    with torch.no_grad():
        ours = beam_search(model, model.encode_query(**text), beams)
    found = [
        [(tuple(path), score) for path, score, leaf in zip(*rows, strict=True) if leaf >= 0]
        for rows in zip(ours.codes.tolist(), ours.scores.tolist(), ours.leaf.tolist(), strict=True)
    ]
    codes, rows = model.index.paths.long(), model.index.rows.long()
    wanted = [[] for _ in range(3)]
    for tree in range(3):
        model.set_index(tree_of(model, tree))
        for query, beam in enumerate(plain_beam(model, -(-beams // 3), **text)):
            wanted[query] += beam
        model.set_index(codes, rows)
    for query in range(3):
        best = sorted(wanted[query], key=lambda pair: -pair[1])
        assert dict(found[query]).keys() == dict(best).keys()
        scores = torch.tensor([score for _, score in best])
        torch.testing.assert_close(
            torch.tensor([score for _, score in found[query]]), scores, atol=1e-4, rtol=0
        )
        leaves = ours.leaf[query][ours.leaf[query] >= 0]
        assert [
            tuple(model.index.paths[model.index.buckets[leaf]].tolist()) for leaf in leaves
        ] == [path for path, _ in found[query]]


@pytest.mark.parametrize("head_type", HEADS)
def test_trees_are_equally_likely(make_model, every_id, text, head_type):
    """Each tree's paths have a third of the probability, whatever the heads say."""
    model = make_model(head_type=head_type, forest=True, codebook_sizes=[3, 3, 4])
    model.set_index(every_id([3, 3, 4]))
    with torch.no_grad():
        beams = beam_search(model, model.encode_query(**text), 36)
    for tree in range(3):
        mass = (beams.scores.exp() * (beams.codes[..., 0] == tree)).sum(1)
        torch.testing.assert_close(mass, torch.full((3,), 1 / 3), atol=1e-5, rtol=0)


def test_the_loop_and_brute_force(make_model, exhaustive, text):
    """Scores are those of whole paths through forward()."""
    model = forest_model(make_model)
    truth = exhaustive(model, **text)
    with torch.no_grad():
        beams = beam_search(model, model.encode_query(**text), 60)
    for query in range(3):
        found = zip(beams.codes[query].tolist(), beams.scores[query], strict=True)
        alive = [(tuple(path), score) for path, score in found if score > -torch.inf]
        assert len(alive) == len(truth)
        for path, score in alive:
            torch.testing.assert_close(score, truth[path][query], atol=1e-4, rtol=0)


def test_a_filter_is_an_index_without_the_rest(make_model, text):
    """Every tree restricted to some documents, alone and for each query its own."""
    model = forest_model(make_model)
    sets = torch.rand(3, 30, generator=torch.Generator().manual_seed(1)) < 0.3
    several = model.search(**text, k=30, num_beams=6, allowed=sets)
    codes, rows = model.index.paths.long(), model.index.rows.long()
    for query, allowed in enumerate(sets):
        one = {name: value[query : query + 1] for name, value in text.items()}
        alone = model.search(**one, k=30, num_beams=6, allowed=allowed)
        keep = allowed[rows]
        model.set_index(codes[keep], rows[keep])
        rebuilt = model.search(**one, k=30, num_beams=6)
        model.set_index(codes, rows)
        size = int((rebuilt.rows[0] >= 0).sum())
        for other in (alone.rows[0], several.rows[query]):
            assert other[other >= 0].tolist() == rebuilt.rows[0, :size].tolist()
        assert bool(alone.complete[0]) == bool(rebuilt.complete[0]) == bool(several.complete[query])


def test_complete_says_that_no_tree_dropped_a_leaf(make_model, text):
    """As soon as every tree has a beam for each of its leaves."""
    model = forest_model(make_model)
    most = max(len(tree_of(model, tree).unique(dim=0)) for tree in range(3))
    with torch.no_grad():
        encoded = model.encode_query(**text)
        assert beam_search(model, encoded, 3 * most).complete.all()
        assert not beam_search(model, encoded, 3 * most - 3).complete.any()


@pytest.mark.parametrize("head_type", HEADS)
def test_a_search_is_one_graph(make_model, head_type):
    """torch.compile finds nothing in it where it would have to stop."""
    model = forest_model(make_model, head_type)
    states = torch.randn(2, 3, 16)
    found = EncoderOutput(states, states.mean(1), torch.ones(2, 3, dtype=torch.long))
    ours = beam_search(model, found, 6)
    whole = torch.compile(
        lambda encoded: beam_search(model, encoded, 6).scores, fullgraph=True, backend="eager"
    )
    torch.testing.assert_close(whole(found), ours.scores, atol=1e-5, rtol=1e-5)


def test_generate_writes_ids_of_the_forest(make_model, text):
    """One beam over all trees: only paths that exist."""
    model = forest_model(make_model)
    out = model.generate(**text, num_beams=6, num_return_sequences=6)
    codes = out[:, 1:] - torch.tensor(model.config.level_offsets)
    assert (model.index.locate(codes) >= 0).all()


def test_a_forest_needs_a_level_below_the_trees(make_model):
    """One sentence each."""
    with pytest.raises(ValueError, match="two levels or more, first the number of trees"):
        make_model(forest=True, codebook_sizes=[4])
    with pytest.raises(ValueError, match="path_merge must be best, sum or logsumexp, found 'mean'"):
        make_model(path_merge="mean")
    with pytest.raises(ValueError, match="ids_per_document must be at least 1, found 0"):
        make_model(ids_per_document=0)
