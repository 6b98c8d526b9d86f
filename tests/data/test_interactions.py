"""Items and sequences: the leave-one-out split by hand, and faults."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data import load_data
from hf_genret.errors import DataError


def rows(queries):
    return [
        (query, history.tolist(), *gains, int(user))
        for query, history, gains, user in zip(
            queries.ids, queries.histories, queries.relevant, queries.users, strict=True
        )
    ]


def test_split_by_hand(shop):
    """Last item test, the one before dev, the rest train; two items train only."""
    data = load_data(shop)
    assert rows(data.split("train")) == [
        ("ann:1", [0], 1, 0),
        ("ann:2", [0, 1], 2, 0),
        ("cid:1", [1], 0, 2),
    ]
    assert rows(data.split("dev")) == [("ann:3", [0, 1, 2], 3, 0), ("bob:1", [5], 4, 1)]
    assert rows(data.split("test")) == [("ann:4", [0, 1, 2, 3], 4, 0), ("bob:2", [5, 4], 3, 1)]
    assert data.num_users == 3 and data.split("test").texts is None
    assert "Leave-one-out" in data.notes[0]
    assert data.notes[1] == "1 users with fewer than 3 items are in train only."


def test_items(shop):
    """Categories become one string."""
    documents = load_data(shop).documents
    assert documents.ids[0] == "i0" and documents.extra == {
        "categories": [f"A > B{n}" for n in range(6)]
    }


def test_histories_keep_the_newest(shop):
    """max_history cuts from the old end."""
    data = load_data(shop, max_history=2)
    assert rows(data.split("test"))[0] == ("ann:4", [2, 3], 4, 0)


def test_histories_share_memory(shop):
    """Histories are views of one int64 array."""
    histories = load_data(shop).split("test").histories
    assert histories[0].dtype == np.int64
    assert histories[0].base is histories[1].base is not None


FAULTS = {
    "unknown items": ("ann\ti8 i9\n", None, None, "expected users with items, found none"),
    "same user": ("ann\ti0\nann\ti1\n", 3, "user_id", "line 2 has already"),
    "no user": ("\ti0\n", 2, "user_id", "expected an id"),
    "no items": ("ann\t \n", None, None, "expected users with items, found none"),
    "no tab": ("ann i0 i1\n", 2, None, "found 'ann i0 i1'"),
    "no users": ("", None, None, "expected users with items, found none"),
}


@pytest.mark.parametrize("case", FAULTS, ids=str)
def test_faults(shop, write, case):
    """Each fault of the sequences names line and field."""
    content, line, field, message = FAULTS[case]
    write(shop / "sequences.tsv", "user_id\titem_ids\n" + content)
    with pytest.raises(DataError, match=message) as caught:
        load_data(shop)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert "sequences.tsv" in str(caught.value)


def test_missing_item_id(shop, write):
    """An item without an id is an error of the field item_id."""
    write(shop / "items.jsonl", [{"title": "x"}])
    with pytest.raises(DataError, match=r"items\.jsonl, line 1, field 'item_id'"):
        load_data(shop)
