"""Data in: documents, queries and judgments from every layout, pseudo-queries, a built-in set."""

from __future__ import annotations

from hf_genret.data.loading import load_data, load_documents
from hf_genret.data.pseudo import pseudo_queries
from hf_genret.data.queries import load_queries
from hf_genret.data.schema import Documents, Queries, RetrievalData
from hf_genret.data.stdlib import stdlib_data

__all__ = [
    "Documents",
    "Queries",
    "RetrievalData",
    "load_data",
    "load_documents",
    "load_queries",
    "pseudo_queries",
    "stdlib_data",
]
