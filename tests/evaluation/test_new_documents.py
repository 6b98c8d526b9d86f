from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.schema import Queries
from hf_genret.evaluation.new_documents import content_groups, document_groups

CODES = np.array([[0, 0], [0, 1], [0, 0], [1, 1], [1, 1]])
KNOWN = np.array([True, True, False, False, False])


def test_documents_are_known_have_a_known_id_or_neither():
    """Row 2 shares the id of row 0; rows 3 and 4 share one that no trained document has."""
    assert document_groups(KNOWN, CODES).tolist() == [
        "existing",
        "existing",
        "new_content",
        "new_semantic",
        "new_semantic",
    ]


def test_queries_follow_their_relevant_documents():
    """One kind names the query, several mix it, a gain of 0 does not count."""
    queries = Queries(
        list("abcdef"),
        [{0: 1.0, 1: 1.0}, {2: 1.0}, {3: 1.0, 4: 1.0}, {2: 1.0, 3: 1.0}, {}, {2: 1.0, 0: 0.0}],
    )
    assert content_groups(queries, known_rows=KNOWN, codes=CODES).tolist() == [
        "existing",
        "new_content",
        "new_semantic",
        "mixed",
        "unjudged",
        "new_content",
    ]


def test_lengths_have_to_agree():
    """A flag for every document."""
    with pytest.raises(ValueError, match="known_rows"):
        document_groups(KNOWN[:3], CODES)
