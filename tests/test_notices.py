"""Data that was left out is counted, named, and refused in strict mode."""

from __future__ import annotations

import pytest

from hf_genret.errors import DataError, DataWarning
from hf_genret.notices import Notices


def test_cases_of_a_kind_are_counted_and_the_first_is_named():
    notices = Notices()
    for line, name in ((3, "d9"), (7, "d8")):
        notices.add("judgments left out", path="qrels/test.tsv", line=line, example=name)
    notices.add("documents without text", count=4)
    assert notices.messages() == [
        "qrels/test.tsv: 2 judgments left out (the first: 'd9', line 3).",
        "4 documents without text.",
    ]


def test_strict_raises_at_the_first_case():
    with pytest.raises(DataError, match=r"test.tsv: 1 judgments left out \(the first: 'd9'"):
        Notices(strict=True).add("judgments left out", path="test.tsv", example="d9")


def test_every_sentence_is_a_warning():
    notices = Notices()
    notices.add("a", count=2)
    notices.add("b")
    with pytest.warns(DataWarning) as caught:
        assert notices.warn() == ["2 a.", "1 b."]
    assert [str(one.message) for one in caught] == ["2 a.", "1 b."]
