"""How well documents are found that training never saw (ASI++, arXiv 2405.14280, Table 3)."""

from __future__ import annotations

import numpy as np

from hf_genret.data.schema import Queries
from hf_genret.evaluation.docids import leaf_of_row
from hf_genret.evaluation.groups import agreed_labels
from hf_genret.evaluation.metrics import Judgments

CONTENT_GROUPS = ("existing", "new_content", "new_semantic", "mixed")


def document_groups(known_rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """What is new about each document: nothing, its content, or its id as well.

    Args:
        known_rows: Whether the document was there in training, [N] bool.
        codes: Docids, [N, L], one a document.

    Returns:
        [N] strings: `existing`; `new_content`, a new document with an id that a document of the
        training has; `new_semantic`, a new document with an id of its own.

    Raises:
        ValueError: When the two have different lengths.
    """
    known = np.asarray(known_rows, dtype=bool)
    if known.shape != codes.shape[:1]:
        raise ValueError(f"known_rows has shape {known.shape}; codes are {codes.shape}.")
    leaf = leaf_of_row(codes)
    taken = np.bincount(leaf, known) > 0  # [leaves]
    return np.where(known, "existing", np.where(taken[leaf], "new_content", "new_semantic"))


def content_groups(queries: Queries, *, known_rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Groups of queries by what is new about their relevant documents.

    Args:
        queries: The split, with judgments.
        known_rows: Whether a document was there in training, [N] bool.
        codes: Docids, [N, L], one a document.

    Returns:
        [Q] strings: `existing`, `new_content`, `new_semantic` (see `document_groups`), `mixed`
        (relevant documents of several kinds) or `unjudged` (none).

    Raises:
        ValueError: When `known_rows` and `codes` have different lengths.
    """
    judgments = Judgments(queries.relevant)
    return agreed_labels(judgments, document_groups(known_rows, codes)[judgments.row])
