"""Parts of a corpus: nested, with one set of answerable test queries."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data import Queries
from hf_genret.errors import DataError
from hf_genret.training.recipes import load_recipe
from hf_genret.training.study.slices import make_slices

SHARES = (0.25, 0.5, 1.0)


@pytest.fixture
def recipe():
    """One pseudo-query a document."""
    return load_recipe("dense", ["queries.pseudo=1"], "text")


@pytest.fixture
def slices(make_data, recipe):
    """Parts of 80 documents."""
    return make_slices(make_data(80, 60), recipe, SHARES, seed=0)


def answers(data, queries):
    """For each query its text and the ids of its documents."""
    return [
        (text, {data.documents.ids[row] for row in gains})
        for text, gains in zip(queries.texts, queries.relevant, strict=True)
    ]


def test_parts_are_nested(slices):
    """Each holds the documents of the one before, in the corpus's order."""
    parts = [slices.at(share) for share in SHARES]
    assert [len(part.documents) for part in parts] == [20, 40, 80]
    ids = [part.documents.ids for part in parts]
    assert set(ids[0]) < set(ids[1]) < set(ids[2])
    for part in parts:
        numbers = [int(name[1:]) for name in part.documents.ids]
        assert numbers == sorted(numbers)
        row = {name: place for place, name in enumerate(slices.whole.documents.ids)}
        texts = [slices.whole.documents.texts[row[name]] for name in part.documents.ids]
        assert part.documents.texts == texts
    assert len({part.fingerprint for part in parts}) == 3


def test_the_test_queries_are_fixed_and_answerable(slices):
    """The same texts with the same documents in every part, and in the smallest already."""
    wanted = answers(slices.whole, slices.fixed)
    assert len(wanted) > 5
    for share in SHARES[:-1]:
        part = slices.at(share)
        assert answers(part, part.split("test")) == wanted
    facts = slices.facts(SHARES)
    assert facts["fixed_queries"] == len(wanted)
    assert facts["fixed_answers"] == len(set.union(*(ids for _, ids in wanted))) <= 16
    assert facts["documents"] == [20, 40, 80]


def test_training_queries_are_those_about_the_part(slices):
    """A subset of the whole's, pseudo-queries included, each with the same document."""
    whole = answers(slices.whole, slices.whole.splits["train"])
    assert len(whole) == 60 + 80
    part = slices.at(0.25)
    inside = set(part.documents.ids)
    for split in ("train", "dev"):
        own = answers(slices.whole, slices.whole.splits[split])
        assert answers(part, part.splits[split]) == [pair for pair in own if pair[1] <= inside]


def test_judgments_outside_a_part_are_left_out_of_training_alone(make_data, recipe):
    """A training query keeps what is inside; a test query needs all of its documents."""
    data = make_data(80, 60)
    inside = make_slices(data, recipe, (0.25, 1.0)).at(0.25).documents.ids
    kept = int(inside[0][1:])
    lost = next(row for row in range(80) if f"d{row}" not in inside)
    data.splits["train"].relevant = [{kept: 1.0, lost: 2.0}] * 30 + [{lost: 1.0}] * 30
    part = make_slices(data, recipe, (0.25, 1.0)).at(0.25)
    assert part.splits["train"].relevant[:30] == [{0: 1.0}] * 30
    own = [name for name in part.splits["train"].ids if name.startswith("train")]
    assert own == data.splits["train"].ids[:30]
    for _, ids in answers(part, part.split("test")):
        assert ids <= set(inside)


def test_a_large_corpus_is_cut(make_data, recipe):
    """To documents that hold all answers of the fixed queries; other test queries stay if theirs
    are in it."""
    data = make_data(80, 60)
    slices = make_slices(data, recipe, SHARES, seed=0, most=40)
    whole = slices.whole
    assert len(whole.documents) == 40 and len(slices.at(0.25).documents) == 10
    known = answers(data, data.splits["test"])
    for pair in answers(whole, whole.split("test")):
        assert pair in known and pair[1] <= set(whole.documents.ids)
    fixed = answers(whole, slices.fixed)
    assert fixed and all(pair in answers(whole, whole.split("test")) for pair in fixed)


def test_the_same_seed_gives_the_same_parts(make_data, recipe):
    """Another one gives others."""
    data = make_data(80, 60)
    first, again, other = (make_slices(data, recipe, SHARES, seed=s) for s in (0, 0, 1))
    assert first.at(0.5).fingerprint == again.at(0.5).fingerprint
    assert set(first.at(0.5).documents.ids) != set(other.at(0.5).documents.ids)


def test_what_cannot_be_cut_is_refused(make_data, recipe):
    """Histories, and a corpus whose smallest part is too small."""
    data = make_data(80, 60)
    with pytest.raises(DataError, match="smallest part has 1 documents"):
        make_slices(data, recipe, (0.01, 1.0))
    histories = [np.array([1, 2])] * 60
    data.splits["test"] = Queries(
        data.splits["test"].ids, data.splits["test"].relevant, histories=histories
    )
    with pytest.raises(DataError, match="needs queries with texts"):
        make_slices(data, recipe, SHARES)
