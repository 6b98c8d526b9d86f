"""recommend() answers histories of ids."""

from __future__ import annotations

import pytest
import torch

from hf_genret.errors import ConfigError, DataError


def test_recommend_leaves_out_the_history(shop):
    """Never an item of the history, unless that is asked for."""
    history = ["d3", "d9", "d0"]
    hits = shop.recommend(history, k=40)
    assert {hit.id for hit in hits} == {f"d{i}" for i in range(40)} - set(history)
    assert len(shop.recommend(history, k=40, exclude_history=False)) == 40


def test_hits_are_those_of_brute_force(shop):
    """The order of <history, item> where ids do not count."""
    rows = torch.tensor([[3, 9, 0]])
    with torch.no_grad():
        vector = shop.model.encode_query(history=rows).pooler_output[0]
    order = (shop.model.vectors @ vector).argsort(descending=True).tolist()
    expected = [f"d{row}" for row in order if row not in (3, 9, 0)]
    assert [hit.id for hit in shop.recommend(["d3", "d9", "d0"], k=40)] == expected


def test_several_histories(shop):
    """One list of hits a history, as if asked alone; the oldest items beyond the limit are cut."""
    histories = [["d3"], [f"d{i}" for i in range(12)], ["d7", "d7"]]
    together = shop.recommend(histories, k=5)
    alone = [shop.recommend(history, k=5) for history in histories]
    assert [[hit.id for hit in hits] for hits in together] == [[h.id for h in one] for one in alone]


def test_only_restricts_recommendations(shop):
    """The same filter as in search."""
    hits = shop.recommend(["d3"], k=10, only=["d3", "d5", "d6"])
    assert {hit.id for hit in hits} == {"d5", "d6"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"history": ["d1", "nope"]}, "no document with the id 'nope'"),
        ({"history": []}, "a history is empty"),
        ({"history": [["d1"], []]}, "a history is empty"),
        ({"history": "d1"}, "a history is a list of ids, found a text"),
        ({"history": ["d1"], "user": [1, 2]}, "expected 1 user numbers from 0"),
        ({"history": ["d1"], "user": -1}, "expected 1 user numbers from 0"),
        ({"history": ["d1"], "k": 0}, "k must be positive"),
    ],
)
def test_wrong_arguments_are_one_sentence(shop, arguments, said):
    """A DataError that says what was found."""
    with pytest.raises(DataError, match=said):
        shop.recommend(**arguments)


def test_each_kind_of_model_says_what_it_reads(shop, retriever):
    """Text for one that reads histories, a history for one that reads text."""
    with pytest.raises(DataError, match="reads histories, not text; use recommend"):
        shop.search("owl")
    with pytest.raises(DataError, match="reads text, not histories; use search"):
        retriever.recommend(["d1"])


def test_a_catalogue_cannot_be_exchanged(shop, corpus):
    """Items with embeddings of their own are known by row."""
    with pytest.raises(ConfigError, match="it can index no other documents"):
        shop.index(corpus)


def test_save_and_load(shop, tmp_path):
    """Without a tokenizer, the same recommendations."""
    shop.save_pretrained(tmp_path / "out")
    loaded = type(shop).from_pretrained(tmp_path / "out")
    assert loaded.processing_class is None
    assert loaded.recommend(["d3", "d4"], k=9) == shop.recommend(["d3", "d4"], k=9)


def test_a_history_that_a_model_cannot_read_is_refused(retriever):
    """A model of text alone does not leave a history unread."""
    with pytest.raises(DataError, match="reads text, not histories"):
        retriever.search("owl", history=["d1"])
    with pytest.raises(DataError, match="reads text, not histories"):
        retriever.explain("owl", "d1", history=["d1"])
