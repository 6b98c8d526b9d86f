"""First sentences of documents taken out of them, to serve as queries that find the rest."""

from __future__ import annotations

import re

import numpy as np

from hf_genret.data.schema import Documents, Queries
from hf_genret.errors import ConfigError

#: A shorter query names nothing; a shorter rest can hardly be found.
MIN_QUERY_WORDS = 4
MIN_REST_WORDS = 8

_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)[.!?](?=\s)|\n\s*\n")


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence on one line, and the rest as it is (empty where there is one sentence)."""
    end = _END.search(text)
    if end is None:
        return " ".join(text.split()), ""
    return " ".join(text[: end.end()].split()), text[end.end() :].strip()


def _names_document(sentence: str, title: str) -> bool:
    """Whether a sentence writes out the title, or its last part as a call: no search is needed."""
    last = title.rsplit(".", 1)[-1]
    return (
        title.lower() in sentence.lower()
        or re.search(rf"\b{re.escape(last)}\(", sentence, flags=re.IGNORECASE) is not None
    )


def _flat(text: str) -> str:
    return " ".join(text.lower().split())


def _eligible(documents: Documents) -> dict[int, tuple[str, str]]:
    """Row -> (sentence, rest) of the documents whose first sentence can be a query."""
    corpus = "\n".join(_flat(text) for text in documents.full_texts())
    found = {}
    for row, text in enumerate(documents.texts):
        sentence, rest = first_sentence(text)
        if len(sentence.split()) < MIN_QUERY_WORDS or len(rest.split()) < MIN_REST_WORDS:
            continue
        if _names_document(sentence, documents.titles[row]):
            continue
        # Without its full stop, so that "Return x, or None." finds itself in "Return x, or None".
        if corpus.count(_flat(sentence).rstrip(".!?")) == 1:
            found[row] = (sentence, rest)
    return found


def hold_out_sentences(
    documents: Documents, sizes: dict[str, int], *, seed: int
) -> tuple[Documents, dict[str, Queries]]:
    """Takes the first sentence out of randomly chosen documents and makes it a query.

    Chosen are documents with at least `MIN_REST_WORDS` words left, whose sentence has at least
    `MIN_QUERY_WORDS` words, stands nowhere else in the corpus, and does not write out the title.

    Args:
        documents: The corpus; it stays as it is.
        sizes: Number of queries a split; no document serves two splits.
        seed: Of the choice.

    Returns:
        The corpus without those sentences, and the splits.

    Raises:
        ConfigError: When too few documents qualify.
    """
    eligible = _eligible(documents)
    wanted = sum(sizes.values())
    if wanted > len(eligible):
        raise ConfigError(
            f"{wanted} queries were asked for, but only {len(eligible)} of {len(documents)} "
            "documents have a first sentence that can be held out."
        )
    order = np.random.default_rng(seed).permutation(sorted(eligible)).tolist()
    texts, splits, start = list(documents.texts), {}, 0
    for name, size in sizes.items():
        rows = order[start : start + size]
        start += size
        splits[name] = Queries(
            ids=[f"{name}:{documents.ids[row]}" for row in rows],
            relevant=[{row: 1.0} for row in rows],
            texts=[eligible[row][0] for row in rows],
        )
        for row in rows:
            texts[row] = eligible[row][1]
    held = Documents(list(documents.ids), list(documents.titles), texts, dict(documents.extra))
    return held, splits
