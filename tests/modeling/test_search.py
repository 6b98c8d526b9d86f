"""search(): the union of the best buckets, ranked exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch


def reference(model, text, leaves, exclude=None, allowed=None):
    """Rows best first per query: the ids of a beam, their documents ranked in NumPy.

    `leaves` is, for each query, a list of (id, log-probability), best first.
    """
    with torch.no_grad():
        queries = model.encode_query(**text).pooler_output.numpy()
    vectors = model.vectors.numpy()
    paths, rows = model.index.paths.tolist(), model.index.rows.tolist()
    out = []
    for query, found in enumerate(leaves):
        best = {}
        for path, log_p in found:
            for own, row in zip(paths, rows, strict=True):
                if tuple(own) == path and row not in best:
                    if exclude is not None and row in exclude[query].tolist():
                        continue
                    if allowed is None or bool(allowed[row]):
                        best[row] = float(log_p)
        weight = model.config.beam_weight
        score = {r: float(queries[query] @ vectors[r]) + weight * p for r, p in best.items()}
        out.append(sorted(score.items(), key=lambda pair: -pair[1]))
    return out


def check(out, wanted, k):
    """Rows, scores and pools of a SearchOutput against the reference."""
    for row, ranked in enumerate(wanted):
        size = min(k, len(ranked))
        assert out.rows[row, :size].tolist() == [r for r, _ in ranked[:size]]
        np.testing.assert_allclose(out.scores[row, :size], [s for _, s in ranked[:size]], atol=1e-4)
        assert (out.rows[row, size:] == -1).all()
        assert (out.scores[row, size:] == -torch.inf).all()
        assert (out.codes[row, size:] == -1).all()
        assert int(out.pool[row]) == len(ranked)
        pool = out.pool_rows[row]
        assert pool[pool >= 0].tolist() == [r for r, _ in ranked]


@pytest.mark.parametrize("width", [1, 3, 50])
@pytest.mark.parametrize("weight", [0.0, 0.3, 10.0])
def test_the_union_is_ranked_exactly(make_indexed, plain_beam, text, width, weight):
    """Documents of the best ids by inner product and weighted log-probability."""
    model = make_indexed(documents=60, beam_weight=weight, codebook_sizes=[3, 2, 3])
    wanted = reference(model, text, plain_beam(model, width, **text))
    check(model.search(**text, k=8, num_beams=width), wanted, 8)


def test_a_beam_over_everything_is_exhaustive_search(make_indexed, text):
    """All leaves visited: the ranking of all documents."""
    model = make_indexed(documents=25)
    out = model.search(**text, k=100, num_beams=100)
    with torch.no_grad():
        scores = model.encode_query(**text).pooler_output @ model.vectors.T
    assert torch.equal(out.rows, scores.argsort(dim=1, descending=True))
    assert out.rows.shape == (3, 25)


def test_each_hit_names_the_id_it_came_by(make_indexed, text):
    """codes are an id of the document, path_scores its beam's."""
    model = make_indexed(documents=40)
    out = model.search(**text, k=10, num_beams=9)
    ids = dict(zip(model.index.rows.tolist(), model.index.paths.tolist(), strict=True))
    for query in range(3):
        for place, row in enumerate(out.rows[query].tolist()):
            if row >= 0:
                code = out.codes[query, place]
                assert code.tolist() == ids[row]
                beam = (out.beam_codes[query] == code).all(1).nonzero()[0, 0]
                assert int(out.beam_leaves[query, beam]) >= 0
    assert (out.path_scores[out.rows >= 0] < 0).all()


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_document_with_several_ids_keeps_its_best(make_model, plain_beam, text, weight):
    """Found by several beams it is ranked once, with the most probable id."""
    model = make_model(beam_weight=weight, codebook_sizes=[4, 3])
    codes = torch.stack([torch.randint(0, 4, (40,)), torch.randint(0, 3, (40,))], 1)
    rows = torch.randint(0, 12, (40,))
    rows[0] = 11
    model.set_index(codes, rows, torch.randn(12, 16))
    wanted = reference(model, text, plain_beam(model, 5, **text))
    check(model.search(**text, k=12, num_beams=5), wanted, 12)


def test_excluded_documents_are_left_out(make_indexed, plain_beam, text):
    """Each query leaves out its own rows; -1 is padding."""
    model = make_indexed(documents=60, codebook_sizes=[3, 2, 3])
    first = model.search(**text, k=4, num_beams=6).rows
    exclude = torch.cat([first[:, :2], torch.full((3, 1), -1)], 1)
    exclude[2] = -1
    wanted = reference(model, text, plain_beam(model, 6, **text), exclude)
    out = model.search(**text, k=8, num_beams=6, exclude=exclude)
    check(out, wanted, 8)
    assert out.rows[:2, :2].tolist() == first[:2, 2:4].tolist()
    nothing = model.search(**text, k=8, num_beams=6, exclude=torch.zeros(3, 0, dtype=torch.long))
    assert torch.equal(nothing.rows, model.search(**text, k=8, num_beams=6).rows)


@pytest.mark.parametrize("width", [1, 4, 30])
def test_a_filter_is_a_rebuilt_index(make_indexed, text, width):
    """allowed= gives what an index of the allowed documents alone gives with the same beam."""
    model, small = make_indexed(documents=60), make_indexed(documents=60)
    allowed = torch.rand(60) < 0.3
    kept = allowed[model.index.rows]
    small.set_index(model.index.paths[kept], model.index.rows[kept])
    ours = model.search(**text, k=9, num_beams=width, allowed=allowed)
    theirs = small.search(**text, k=9, num_beams=width)
    for name in ("rows", "scores", "codes", "path_scores", "pool", "beam_codes"):
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("width", [1, 4, 30])
def test_each_query_has_its_own_filter(make_indexed, text, width):
    """Several sets in one batch give what each gives alone; queries may share one."""
    model = make_indexed(documents=60)
    sets = torch.rand(2, 60) < 0.3
    part = torch.tensor([1, 0, 1])
    ours = model.search(**text, k=9, num_beams=width, allowed=sets, part=part)
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in text.items()}
        theirs = model.search(**alone, k=9, num_beams=width, allowed=sets[part[row]])
        found = theirs.rows[0]
        assert torch.equal(ours.rows[row, : len(found)], found)
        assert (ours.rows[row, len(found) :] < 0).all()
        torch.testing.assert_close(ours.scores[row, : len(found)], theirs.scores[0])
    numbered = model.search(**text, k=9, num_beams=width, allowed=sets[part])
    assert torch.equal(numbered.rows, ours.rows)


def test_a_filter_reaches_into_buckets(make_model, text):
    """A bucket with one allowed document gives that document alone."""
    model = make_model()
    model.set_index(torch.zeros(5, 3), vectors=torch.randn(5, 16))
    allowed = torch.tensor([False, False, True, False, False])
    assert model.search(**text, k=5, allowed=allowed).rows.tolist() == [[2]] * 3


def test_fewer_hits_than_asked(make_indexed, text):
    """k above the corpus gives the corpus."""
    out = make_indexed(documents=4).search(**text, k=1000, num_beams=1000)
    assert out.rows.sort(1).values.tolist() == [[0, 1, 2, 3]] * 3


def test_a_search_says_when_it_saw_everything(make_indexed, text):
    """With a filter that leaves few, a beam that held them all is complete."""
    model = make_indexed(documents=60)
    assert not model.search(**text, k=5, num_beams=2).complete.any()
    few = torch.zeros(60, dtype=torch.bool)
    few[[3, 40]] = True
    found = model.search(**text, k=5, num_beams=6, allowed=few)
    assert found.complete.all() and found.rows.shape == (3, 2)


def test_nothing_left_gives_empty_rows(make_indexed, text):
    """Everything excluded: -1 and -inf, no error."""
    model = make_indexed(documents=3)
    out = model.search(**text, k=5, exclude=torch.arange(3).expand(3, -1))
    assert (out.rows == -1).all() and (out.scores == -torch.inf).all() and (out.pool == 0).all()


def test_a_query_does_not_depend_on_its_batch(make_indexed, text):
    """Alone or beside others: the same hits."""
    model = make_indexed(documents=60)
    together = model.search(**text, k=5)
    for row in range(3):
        alone = model.search(**{name: value[row : row + 1] for name, value in text.items()}, k=5)
        size = alone.rows.shape[1]
        assert torch.equal(alone.rows[0], together.rows[row, :size])
        torch.testing.assert_close(alone.scores[0], together.scores[row, :size])


def test_the_default_beam_is_the_configurations(make_indexed, text):
    """search_beams leaves are visited where more documents than some hundred can be found."""
    model = make_indexed(documents=60, search_beams=7, exhaustive_up_to=59)
    assert model.search(**text).beam_leaves.shape == (3, 7)


def test_of_few_documents_every_leaf_is_visited(make_indexed, text):
    """One leaf in the configuration, yet the best document of all; a number that is given holds."""
    model = make_indexed(documents=60, search_beams=1)
    with torch.no_grad():
        scores = model.encode_query(**text).pooler_output @ model.vectors.T
    assert torch.equal(model.search(**text, k=1).rows[:, 0], scores.argmax(dim=1))
    assert model.search(**text, k=1).beam_leaves.shape[1] == model.index.num_nodes[-1]
    assert model.search(**text, k=1, num_beams=1).beam_leaves.shape == (3, 1)
    model.config.fix_beams(2)
    assert model.search(**text, k=1).beam_leaves.shape == (3, 2)


def test_a_filter_that_leaves_few_documents_is_searched_whole(make_indexed, text):
    """As an index of those documents alone would be."""
    model = make_indexed(documents=60, search_beams=1, exhaustive_up_to=20)
    allowed = torch.arange(60) % 3 == 0
    with torch.no_grad():
        scores = model.encode_query(**text).pooler_output @ model.vectors.T
    wanted = scores.masked_fill(~allowed, -torch.inf).argsort(dim=1, descending=True)
    assert torch.equal(model.search(**text, k=20, allowed=allowed).rows, wanted[:, :20])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be positive, found 0"),
        ({"num_beams": 0}, "num_beams must be positive, found 0"),
        ({"allowed": torch.zeros(30, dtype=torch.bool)}, "allowed set is empty"),
        ({"allowed": torch.ones(2, dtype=torch.bool)}, "found 2"),
        ({"allowed": torch.ones(2, 30, dtype=torch.bool)}, "2 allowed sets need part"),
    ],
)
def test_what_search_refuses(make_indexed, text, arguments, message):
    """One sentence each."""
    with pytest.raises(ValueError, match=message):
        make_indexed().search(**text, **arguments)


def test_an_empty_index_and_missing_vectors_are_errors(make_model, text):
    """Nothing to find, nothing to rank with: one sentence each."""
    model = make_model()
    with pytest.raises(ValueError, match="index is empty"):
        model.search(**text)
    with pytest.raises(ValueError, match="index is empty"):
        model.search(**text, allowed=torch.ones(3, dtype=torch.bool))
    model.set_index(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no ranker vectors"):
        model.search(**text)


def test_the_ranker_scales_inner_products(make_model):
    """Shared items [N, D] and items of each query [B, n, D]."""
    ranker = make_model(ranker_scale=7.0).ranker
    queries, items = torch.randn(2, 16), torch.randn(5, 16)
    wanted = 7 * np.einsum("bd,nd->bn", queries.numpy(), items.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(ranker(queries, items), wanted, rtol=1e-4)
        np.testing.assert_allclose(ranker(queries, items.expand(2, -1, -1)), wanted, rtol=1e-4)
