"""Queries that are documents themselves: what is left out of their results.

Where queries are taken from the corpus (ArguAna, Quora), each finds itself first and says nothing.
BEIR leaves out the document with the query's id. Ids alone would not do: whole numbers name the
queries and the documents of many data sets by accident, so the texts have to be the same, too.
"""

from __future__ import annotations

import numpy as np

from hf_genret.data.schema import Documents, Queries
from hf_genret.data.words import search_words
from hf_genret.evaluation.run import Run

ALIKE = 0.8
"""Share of the words of both that a query and its document have in common, at least."""


def own_documents(queries: Queries, documents: Documents) -> np.ndarray:
    """The document that each query is, where it is one and is not judged relevant for itself.

    A query is a document where their ids are equal and so are nearly all words of its text and of
    the document's title, text, or both.

    Args:
        queries: A split.
        documents: The corpus.

    Returns:
        Rows [Q], int64; -1 for a query that is no document.
    """
    own = np.full(len(queries), -1, dtype=np.int64)
    if queries.texts is None:
        return own
    asked = {name: number for number, name in enumerate(queries.ids)}
    for row, name in enumerate(documents.ids):  # in row order, as streamed texts are read
        number = asked.get(name)
        if number is None or row in queries.relevant[number]:
            continue
        words = set(search_words(queries.texts[number]))
        forms = (documents.titles[row], documents.texts[row], documents.full_text(row))
        if any(_alike(words, set(search_words(form))) for form in forms):
            own[number] = row
    return own


def leave_own_out(run: Run, own: np.ndarray) -> Run:
    """A run without the queries' own documents, in place.

    Args:
        run: Of any system, a rank deeper than is measured where `own` names a document.
        own: What `own_documents` gave.

    Returns:
        The same run; its notes say of how many queries.
    """
    numbers = np.flatnonzero(own >= 0)
    for number in numbers:
        kept = run.rows[number] != own[number]
        if run.scores is not None:
            run.scores[number] = run.scores[number][kept]
        run.rows[number] = run.rows[number][kept]
        if run.pools is not None:
            run.pools[number] = run.pools[number][run.pools[number] != own[number]]
        if run.buckets is not None:
            rests = (bucket[bucket != own[number]] for bucket in run.buckets[number])
            run.buckets[number] = [rest for rest in rests if len(rest)]
    if len(numbers):
        run.notes.append(f"the documents that {len(numbers):,} queries are themselves left out")
    return run


def _alike(query: set[str], document: set[str]) -> bool:
    both = len(query & document)
    return both > 0 and both >= ALIKE * len(query | document)
