"""Whether data and a checkpoint hold the same documents, by their texts and not only their ids.

Title and text are compared together, as they are encoded, whatever the white space. Both sides are
read one after another; no text is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from hf_genret.data.schema import Documents, FullTexts
from hf_genret.documents import DocumentStore, full_text
from hf_genret.errors import DataError


def other_texts(
    store: DocumentStore, documents: Documents, rows: Sequence[int] | None = None
) -> list[str]:
    """Ids of the documents that have another text in a checkpoint.

    Args:
        store: Documents of the checkpoint.
        documents: Those of the data.
        rows: The row of each of them in the checkpoint; their own by default.
    """
    kept: Iterator[dict[str, str]] = iter(store) if rows is None else (store[row] for row in rows)
    return [
        name
        for name, document, text in zip(documents.ids, kept, FullTexts(documents), strict=True)
        if full_text(document).split() != text.split()
    ]


def check_same_texts(store: DocumentStore, documents: Documents, name: str) -> None:
    """Refuse figures of two corpora in one table.

    Args:
        store: Documents of a checkpoint.
        documents: Those of the data, in the same order.
        name: Of the data.

    Raises:
        DataError: Counting the documents that differ and naming the first one.
    """
    if other := other_texts(store, documents):
        raise DataError(
            f"{name}: {len(other):,} of {len(documents):,} documents have another text than in the "
            f"checkpoint, the first is '{other[0]}'; index this corpus first (hf-genret index)."
        )


def texts_digest(store: DocumentStore) -> str:
    """Sixteen hex digits of SHA-256 over ids and texts, equal where `other_texts` finds none."""
    sha = hashlib.sha256()
    for document in store:
        line = "\x1e".join([document["id"], *full_text(document).split()])
        sha.update(f"{line}\x1f".encode("utf-8", "surrogatepass"))
    return sha.hexdigest()[:16]
