from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hf_genret.errors import ConfigError, DataError
from hf_genret.evaluation.interactions import (
    cooccurrence,
    cooccurrence_run,
    popularity_run,
    training_interactions,
)

BASKETS = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 1, 0]])


def test_baskets_are_users(shop):
    """Histories and targets of a user's training queries are one basket of zeros and ones."""
    assert (training_interactions(shop).toarray() == BASKETS).all()


def test_without_users_every_query_is_a_basket(shop):
    """Four training queries, four baskets."""
    shop.splits["train"] = replace(shop.splits["train"], users=None)
    assert training_interactions(shop).toarray().sum(axis=1).tolist() == [2, 3, 2, 2]


def test_popularity_ranks_by_training_baskets(shop):
    """Counts 3, 2, 1, 1, 0; equal counts in row order; test interactions do not count."""
    run = popularity_run(shop, shop.split("test"), depth=4, exclude_history=False)
    assert [rows.tolist() for rows in run.rows] == [[0, 1, 2, 3]] * 3
    run = popularity_run(shop, shop.split("test"), depth=2, exclude_history=True)
    assert [rows.tolist() for rows in run.rows] == [[3, 4], [2, 3], [1, 2]]
    assert run.notes == ["history excluded"]


def test_cooccurrence_weights_by_hand(shop):
    """Each shared basket adds 1/sqrt(its size); both items' counts to the power 1/4 divide."""
    weights = cooccurrence(training_interactions(shop)).toarray()
    shared = 3**-0.5 + 2**-0.5  # items 0 and 1: baskets of three and of two
    assert weights[0, 1] == pytest.approx(shared / (3 * 2) ** 0.25)
    assert weights[0, 3] == pytest.approx(2**-0.5 / 3**0.25)
    np.testing.assert_allclose(weights, weights.T)
    assert (weights.diagonal() == 0).all()
    assert (weights[4] == 0).all()


def test_cooccurrence_adds_up_the_history(shop):
    """Scores are the weights of the history's items, each older one worth less."""
    run = cooccurrence_run(shop, shop.split("test"), depth=5, exclude_history=True)
    weights = cooccurrence(training_interactions(shop)).toarray()
    expected = weights[1] + 0.7 * weights[0]  # history of user 1: 0, then 1
    assert run.rows[1].tolist() == [2, 3, 4]
    np.testing.assert_allclose(run.scores[1], expected[[2, 3, 4]], atol=1e-5)
    # history of user 2: 3, then 0
    assert run.rows[2].tolist() == [1, 2, 4]
    assert run.bytes > 0


def test_cooccurrence_falls_back_on_popularity(shop):
    """A history without any shared basket gets the popular items."""
    lone = replace(shop.split("test").take([1]), histories=[np.array([4])])
    run = cooccurrence_run(shop, lone, depth=3, exclude_history=True)
    assert run.rows[0].tolist() == [0, 1, 2]


def test_cooccurrence_needs_histories(shop):
    """Queries of texts have no items to start from."""
    with pytest.raises(ConfigError, match="histories"):
        cooccurrence_run(
            shop, replace(shop.split("test"), histories=None), depth=1, exclude_history=False
        )


def test_no_training_queries(shop):
    """Popularity of nothing is an error that names the splits there are."""
    del shop.splits["train"]
    with pytest.raises(DataError, match="no 'train' queries"):
        popularity_run(shop, shop.split("test"), depth=1, exclude_history=True)
