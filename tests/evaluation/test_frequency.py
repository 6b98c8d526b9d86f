from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.schema import Documents, Queries, RetrievalData
from hf_genret.errors import DataError
from hf_genret.evaluation.frequency import frequency_groups, query_frequency, training_counts


def single(rows):
    return Queries([str(i) for i in range(len(rows))], [{int(row): 1.0} for row in rows])


def test_histories_count_once_a_user(shop):
    """Baskets {0, 1, 2}, {0, 1} and {3, 0}: repeated histories of a user add nothing."""
    assert training_counts(shop).tolist() == [3, 2, 1, 1, 0]


def test_text_queries_count_pairs():
    """Without users and histories every training pair counts."""
    train = Queries(["a", "b", "c"], [{0: 1.0, 1: 1.0}, {0: 2.0}, {0: 1.0}])
    names = ["x", "y", "z"]
    data = RetrievalData("t", "0" * 16, Documents(names, names, names), {"train": train})
    assert training_counts(data).tolist() == [3, 1, 0]


def test_counts_need_training_queries(shop):
    """Without a train split there is nothing to count."""
    del shop.splits["train"]
    with pytest.raises(DataError, match="no 'train' queries"):
        training_counts(shop)


def test_frequency_of_a_query_is_its_lower_median():
    """One very popular document does not move it; an unjudged query has -1."""
    counts = np.array([0, 1, 4, 900])
    queries = Queries(
        list("abcd"), [{3: 1.0, 1: 1.0, 2: 1.0}, {0: 1.0, 3: 1.0}, {}, {1: 0.0, 2: 1.0}]
    )
    assert query_frequency(queries, counts).tolist() == [4, 0, -1, 4]


def test_head_torso_and_tail_by_hand():
    """Of 12 pairs the head makes the first 4 and more, the torso up to 8, the tail the rest."""
    counts = np.array([5, 3, 1, 1, 1, 1, 0])  # before them: 0, 5, 8, 8, 8, 8, 12
    labels, edges = frequency_groups(single(range(7)), counts)
    assert labels.tolist() == ["head", "torso", "tail", "tail", "tail", "tail", "tail"]
    assert edges == {"head": (5, 5), "torso": (3, 3), "tail": (0, 1)}
    assert list(edges) == ["head", "torso", "tail"]


def test_parts_hold_a_third_of_the_training_each():
    """With many documents each part makes about a third of all pairs."""
    counts = (20 * np.random.default_rng(0).lognormal(0, 1.5, 3000)).astype(np.int64)
    labels, edges = frequency_groups(single(range(3000)), counts)
    for part in ("head", "torso", "tail"):
        assert counts[labels == part].sum() / counts.sum() == pytest.approx(1 / 3, abs=0.03)
    assert edges["tail"][1] < edges["torso"][0] <= edges["torso"][1] < edges["head"][0]


def test_equal_frequencies_stay_together():
    """Where all trained documents are alike they are the head, and the others the tail."""
    labels, edges = frequency_groups(single(range(4)), np.array([1, 1, 1, 0]))
    assert labels.tolist() == ["head", "head", "head", "tail"]
    assert edges == {"head": (1, 1), "tail": (0, 0)}


def test_nothing_trained_is_all_tail():
    """No training pair makes no head."""
    labels, _ = frequency_groups(single([0, 1]), np.zeros(2))
    assert labels.tolist() == ["tail", "tail"]


def test_five_buckets_of_equal_numbers():
    """Distinct frequencies split evenly, the most frequent first, edges in the label."""
    counts = np.random.default_rng(0).permutation(np.arange(1, 101) ** 2)
    labels, edges = frequency_groups(single(range(100)), counts, 5)
    assert list(edges) == ["6561-10000", "3721-6400", "1681-3600", "441-1600", "1-400"]
    assert [int((labels == name).sum()) for name in edges] == [20] * 5
    for name, (low, high) in edges.items():
        assert ((counts >= low) & (counts <= high) == (labels == name)).all()


def test_five_buckets_are_of_queries_not_documents():
    """A document that many queries look for fills a bucket."""
    counts = np.array([9, 7, 5, 3, 1])
    labels, edges = frequency_groups(single([0] * 10 + [1, 2, 3, 4] * 10), counts, 5)
    assert list(edges) == ["9", "7", "5", "3", "1"]
    assert (labels[:10] == "9").all()


def test_ties_make_fewer_buckets():
    """A frequency stands in one bucket alone, however many queries have it."""
    counts = np.array([0] * 70 + [1] * 20 + list(range(2, 12)))
    labels, edges = frequency_groups(single(range(100)), counts, 5)
    assert list(edges) == ["2-11", "1", "0"]
    assert (labels[:70] == "0").all()


def test_unjudged_queries_have_no_group():
    """They stay outside both kinds of groups; a split of them alone has none."""
    queries = Queries(["a", "b"], [{}, {0: 1.0}])
    assert frequency_groups(queries, np.array([2]))[0].tolist() == ["unjudged", "head"]
    assert frequency_groups(queries, np.array([2]), 5)[0].tolist() == ["unjudged", "2"]
    for parts in (3, 5):
        labels, edges = frequency_groups(Queries(["a"], [{}]), np.array([2]), parts)
        assert (labels.tolist(), edges) == (["unjudged"], {})


def test_what_does_not_fit_is_refused():
    """A number of parts that is not defined, a row without a count."""
    with pytest.raises(ValueError, match="3 or 5"):
        frequency_groups(single([0]), np.array([1]), 4)
    with pytest.raises(ValueError, match="row 3 is judged; there are counts of 2"):
        frequency_groups(single([3]), np.array([1, 1]))
