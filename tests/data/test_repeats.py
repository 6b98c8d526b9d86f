"""Targets that stand in their own history are counted and decide what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.repeats import leaves_history_out, repeat_notices, repeated_targets
from hf_genret.data.schema import Queries


def split(repeated, others):
    """So many queries whose target stands in their history, then others."""
    count = repeated + others
    return Queries(
        [f"u{i}" for i in range(count)],
        [{1: 1.0}] * repeated + [{2: 1.0}] * others,
        histories=[np.array([0, 1])] * count,
    )


def test_a_query_counts_where_nothing_else_answers_it():
    """One target outside the history can be found; a query without judgments counts as none."""
    queries = split(1, 1)
    queries.relevant.append({1: 1.0, 3: 1.0})
    queries.relevant.append({})
    queries.histories += [np.array([1])] * 2
    assert repeated_targets(queries) == [0]
    assert repeated_targets(Queries(["q"], [{0: 1.0}], texts=["cat"])) == []


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": split(0, 20)}, True),
        ({"train": split(1, 19), "dev": split(1, 19)}, True),
        ({"train": split(2, 18)}, False),
        ({"train": split(0, 20), "dev": split(2, 18)}, False),
        ({"train": split(0, 20), "test": split(20, 0)}, True),  # what is measured does not decide
        ({}, True),
    ],
)
def test_a_tenth_of_the_targets_decides_and_a_wish_goes_before(splits, expected):
    """Of train or of dev."""
    assert leaves_history_out(splits, None) is expected
    assert leaves_history_out(splits, True) is True
    assert leaves_history_out(splits, False) is False


def test_what_is_said():
    """How many of how many, the first, and what follows from it."""
    splits = {"train": split(0, 3), "test": split(2, 2)}
    (lost,) = repeat_notices(splits, left_out=True, decided=False).messages()
    assert lost.startswith("test: 2 of 4 targets stand in their own history and cannot be found")
    assert lost.endswith("(the first: 'u0').")
    (decided,) = repeat_notices(splits, left_out=False, decided=True).messages()
    assert "search.exclude_history=true" in decided and "cannot" not in decided
