from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hf_genret.encoding import QuerySource
from hf_genret.evaluation import posterior
from hf_genret.evaluation.posterior import dense_scores, generative_posterior
from hf_genret.modeling import GenRetConfig, GenRetModel

DIM = 16  # of the models that `make_model` makes
HEADS = {
    "plain": {"head_type": "plain"},
    "cluster": {"head_type": "cluster"},
    "flat": {"head_type": "cluster", "max_head_nodes": 4},
    "codebook": {"head_type": "codebook"},
    "reads codebooks": {"head_type": "codebook", "decoder_inputs": "codebooks"},
    "one level": {"codebook_sizes": [40]},
}


def by_hand(model, tokenizer, queries):
    """P of every document, id after id through forward(): [Q, N] among children, and free."""
    tokens = QuerySource(model, queries, tokenizer).batch(np.arange(len(queries)))
    paths = [tuple(path) for path in model.index.paths.tolist()]
    rows, offsets = model.index.rows.tolist(), model.config.level_offsets
    known = {path[:n] for path in paths for n in range(len(path) + 1)}
    among = np.zeros((len(queries), max(rows) + 1))
    free = np.zeros_like(among)
    for path, row in zip(paths, rows, strict=True):
        inputs = [0, *(code + o for code, o in zip(path[:-1], offsets, strict=False))]
        with torch.no_grad():
            decoder = torch.tensor([inputs]).expand(len(queries), -1)
            logits = model(decoder_input_ids=decoder, **tokens).logits.double()
        p, q = np.ones(len(queries)), np.ones(len(queries))
        for level, size in enumerate(model.config.codebook_sizes):
            block = logits[:, level, offsets[level] : offsets[level] + size].exp().numpy()
            children = [c for c in range(size) if (*path[:level], c) in known]
            p *= block[:, path[level]] / block[:, children].sum(1)
            q *= block[:, path[level]] / block.sum(1)
        among[:, row] += p / paths.count(path)
        free[:, row] += q / paths.count(path)
    return among, free


@pytest.mark.parametrize("heads", HEADS)
def test_equal_to_the_product_of_softmaxes(make_model, tokenizer, queries, heads):
    """Every kind of head gives what one id after another gives."""
    model = make_model(**HEADS[heads])
    found = generative_posterior(model, tokenizer, queries)
    among, free = by_hand(model, tokenizer, queries)
    np.testing.assert_allclose(np.exp(found.log_p), among, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(np.exp(found.free_log_p), free, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(found.leaked, 1 - free.sum(1), atol=1e-5)


def test_sums_to_one_and_leaks_what_is_missing(make_model, tokenizer, queries):
    """The ids that exist share everything; without the constraint they share the rest."""
    model = make_model()
    found = generative_posterior(model, tokenizer, queries)
    np.testing.assert_allclose(np.exp(found.log_p.astype(float)).sum(1), 1, atol=1e-5)
    left = 1 - np.exp(found.free_log_p.astype(float)).sum(1)
    np.testing.assert_allclose(found.leaked, left, atol=1e-5)
    assert (found.leaked > 0.05).all()


@pytest.mark.parametrize("sizes", [[4, 3, 5], [8, 8, 8, 8], [40]])
def test_certain_codes_need_no_decoder(make_model, tokenizer, queries, sizes, monkeypatch):
    """Without the free form the same probabilities come from fewer prefixes."""
    model = make_model(codebook_sizes=sizes)
    whole = generative_posterior(model, tokenizer, queries)
    read = []
    states = model.path_states
    monkeypatch.setattr(
        model, "path_states", lambda e, codes: read.append(len(codes)) or states(e, codes)
    )
    alone = generative_posterior(model, tokenizer, queries, free=False)
    np.testing.assert_allclose(alone.log_p, whole.log_p, atol=1e-5)
    assert alone.leaked is None
    assert alone.free_log_p is None
    branching = [(model.index.level(level)[0].diff() > 1).sum() for level in range(len(sizes))]
    assert sum(read) <= len(queries) * int(sum(branching))


def test_nothing_leaks_where_every_id_exists(make_model, tokenizer, queries):
    """A full trie has no room for ids that do not exist."""
    model = make_model(codebook_sizes=[3, 2])
    codes = torch.tensor(list(itertools.product(range(3), range(2))))
    model.set_index(codes, vectors=torch.randn(6, DIM))
    found = generative_posterior(model, tokenizer, queries)
    np.testing.assert_allclose(found.leaked, 0, atol=1e-6)
    np.testing.assert_allclose(found.free_log_p, found.log_p, atol=1e-5)


def test_probabilities_of_several_ids_add(make_model, tokenizer, queries):
    """A document with three ids has the probability of all of them; one without has none."""
    rows = torch.arange(30) % 10
    rows[rows == 4] = 10
    model = make_model(rows=rows)
    found = generative_posterior(model, tokenizer, queries)
    among, free = by_hand(model, tokenizer, queries)
    np.testing.assert_allclose(np.exp(found.log_p), among, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(np.exp(found.free_log_p), free, rtol=2e-4, atol=1e-7)
    assert np.isneginf(found.log_p[:, 4]).all()
    np.testing.assert_allclose(np.exp(found.log_p.astype(float)).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("renormalize", [False, True])
def test_agrees_with_a_beam_that_visits_every_leaf(make_model, tokenizer, queries, renormalize):
    """Path scores of a search are the probabilities of buckets."""
    model = make_model()
    found = generative_posterior(model, tokenizer, queries)
    tokens = QuerySource(model, queries, tokenizer).batch(np.arange(len(queries)))
    hits = model.search(k=30, num_beams=30, renormalize=renormalize, **tokens)
    buckets = (model.index.buckets.diff()[model.index.leaf_of_path()]).numpy()
    of_row = np.zeros(30)
    of_row[model.index.rows.numpy()] = buckets
    log_p = found.log_p if renormalize else found.free_log_p
    expected = np.take_along_axis(log_p + np.log(of_row), hits.rows.numpy(), 1)
    assert bool(hits.complete.all())
    assert (hits.rows >= 0).all()
    np.testing.assert_allclose(hits.path_scores.numpy(), expected, atol=1e-4)


def test_same_answer_in_any_chunks(make_model, tokenizer, queries, monkeypatch):
    """Memory limits and batches do not show in the figures."""
    model = make_model()
    whole = generative_posterior(model, tokenizer, queries)
    monkeypatch.setattr(posterior, "_CELLS", 4 * DIM * 3 * 2 * 3)  # three prefixes at once
    parts = generative_posterior(model, tokenizer, queries, batch_size=2)
    np.testing.assert_allclose(parts.log_p, whole.log_p, atol=1e-5)
    np.testing.assert_allclose(parts.leaked, whole.leaked, atol=1e-5)
    np.testing.assert_allclose(parts.free_log_p, whole.free_log_p, atol=1e-5)
    exact = dense_scores(model, tokenizer, queries)
    # Products of another number of rows are added up in another order on some processors.
    pairs = dense_scores(model, tokenizer, queries, batch_size=2)
    np.testing.assert_allclose(pairs, exact, atol=1e-5)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "bilinear", "low_rank"])
def test_dense_scores_are_those_of_the_ranker(make_model, tokenizer, queries, similarity):
    """Scale times similarity, each query and document alone."""
    model = make_model(ranker_similarity=similarity, ranker_scale=7.0)
    found = dense_scores(model, tokenizer, queries)
    tokens = QuerySource(model, queries, tokenizer).batch(np.arange(len(queries)))
    with torch.no_grad():
        vectors = model.encode_query(**tokens).pooler_output
    kind = model.ranker.similarity.requires_grad_(False)
    for q, row in itertools.product(range(len(queries)), (0, 7, 29)):
        left, right = vectors[q].double(), model.vectors[row].double()
        if similarity == "cosine":
            left, right = left / left.norm(), right / right.norm()
        elif similarity == "bilinear":
            left = left + left @ kind.change.double()
        elif similarity == "low_rank":
            left = left @ kind.left.double() @ kind.right.double().T
        assert found[q, row] == pytest.approx(7 * float(left @ right), rel=1e-4, abs=1e-4)


def test_an_empty_index_is_refused(make_model, tokenizer, queries):
    """One sentence instead of an empty matrix."""
    model = GenRetModel(
        GenRetConfig(query_encoder={"type": "bag", "vocab_size": 20, "dim": DIM}, vector_dim=DIM)
    )
    with pytest.raises(ValueError, match="index is empty"):
        generative_posterior(model, tokenizer, queries)
