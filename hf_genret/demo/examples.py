"""Example queries out of the documents."""

from __future__ import annotations

from typing import Any

from hf_genret.retriever import GenRetriever

_WORDS = 8
_SPREAD = 7  # documents looked at for each example


def example_queries(retriever: GenRetriever, count: int) -> list[str]:
    """First words of documents spread over the corpus, or ids for a model that reads histories."""
    total = len(retriever.documents)
    rows = [total * i // count for i in range(min(count, total))] if count > 0 else []
    if retriever.model.encoder.query is None:
        return [retriever.documents.id_of(row) for row in rows]
    found = []
    for row in rows:
        near = [retriever.documents[one] for one in range(row, min(row + _SPREAD, total))]
        found.append(max((_first_words(one) for one in near), key=_good))
    return list(dict.fromkeys(filter(None, found)))


def _first_words(document: dict[str, Any]) -> str:
    """The title, or of the text the first line that reads like a sentence."""
    lines = [document["title"] or "", *str(document["text"] or "").splitlines()]
    lines = [" ".join(line.split()) for line in lines if line.strip()]
    spoken = [line for line in lines if len(line.split()) > 2 and line[0].isalnum()]
    return " ".join((spoken or lines or [""])[0].split()[:_WORDS]).rstrip(".,:;")


def _good(text: str) -> int:
    """Words that are nothing but letters: more of them read better."""
    return sum(word.isalpha() for word in text.split())
