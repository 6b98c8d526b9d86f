"""Queries made from the documents themselves, for training where real ones are few or absent."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from tqdm.auto import tqdm

from hf_genret.data.schema import Documents, Queries
from hf_genret.data.words import first_units, unit_spans, words
from hf_genret.errors import ConfigError

#: What a pseudo-query can be made of.
KINDS = ("title", "sentence", "span", "keywords")

SPAN_WORDS = (4, 12)
KEYWORDS = (3, 6)
#: A sentence is cut here; text without full stops would otherwise be one huge query.
MAX_SENTENCE_WORDS = 48

_SENTENCE_END = re.compile(r"(?<=[.!?؟۔।])\s+|(?<=[。！？])|\n\s*\n")


def sentences(text: str) -> list[str]:
    """The sentences of a text, each on one line; an empty line ends a sentence too."""
    parts = (" ".join(part.split()) for part in _SENTENCE_END.split(text))
    return [part for part in parts if part]


def _terms(text: str) -> list[str]:
    return [word for word in words(text) if not word.isdigit()]


class _Maker:
    """Makes queries of one document; a document frequency table serves all of them."""

    def __init__(self, documents: Documents, kinds: Sequence[str]) -> None:
        self.documents = documents
        self.frequency: Counter[str] = Counter()
        if "keywords" in kinds:
            self._count_documents()
        self.makers: dict[str, Callable[[int, np.random.Generator], str]] = {
            "title": lambda row, _: self.documents.titles[row],
            "sentence": self._sentence,
            "span": self._span,
            "keywords": self._keywords,
        }

    def _count_documents(self) -> None:
        """In how many documents each word stands; counts a document are not kept (memory)."""
        rows = range(len(self.documents))
        for row in tqdm(rows, desc="counting words", delay=2, leave=False):
            self.frequency.update(set(_terms(self.documents.full_text(row))))

    def _body(self, row: int) -> str:
        return self.documents.texts[row] or self.documents.titles[row]

    def _sentence(self, row: int, rng: np.random.Generator) -> str:
        found = sentences(self._body(row))
        # A sentence of one or two words ("Note.") asks nothing, where there is another.
        found = [one for one in found if len(unit_spans(one)) >= 3] or found
        if not found:  # a document with neither title nor text
            return ""
        return first_units(found[rng.integers(len(found))], MAX_SENTENCE_WORDS)

    def _span(self, row: int, rng: np.random.Generator) -> str:
        body = self._body(row)
        spans = unit_spans(body)
        length = int(rng.integers(SPAN_WORDS[0], SPAN_WORDS[1] + 1))
        start = int(rng.integers(max(len(spans) - length, 0) + 1))
        kept = spans[start : start + length]
        return " ".join(body[kept[0][0] : kept[-1][1]].split()) if kept else ""

    def _keywords(self, row: int, rng: np.random.Generator) -> str:
        size = len(self.documents)
        weighted = (
            (-count * math.log(1 + size / self.frequency[term]), term)
            for term, count in Counter(_terms(self.documents.full_text(row))).items()
        )
        best = [term for _, term in sorted(weighted)]
        best = best[: int(rng.integers(KEYWORDS[0], KEYWORDS[1] + 1))]
        return " ".join(best[i] for i in rng.permutation(len(best)))

    def make(self, row: int, kinds: Sequence[str], seed: int) -> list[tuple[str, str]]:
        """Pairs of kind and text, without empty and repeated texts."""
        # A generator a row: the queries of a document do not depend on its neighbours.
        rng = np.random.default_rng([seed, row])
        made: dict[str, str] = {}
        for kind in kinds:
            text = self.makers[kind](row, rng).strip()
            if text:
                made.setdefault(text, kind)
        return [(kind, text) for text, kind in made.items()]


def _check(per_document: int, kinds: Sequence[str], seed: int) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        found = f"'{unknown[0]}'" if unknown else "none"
        raise ConfigError(f"kinds of pseudo-queries are {', '.join(KINDS)}; found {found}.")
    if per_document < 1:
        raise ConfigError(f"per_document has to be 1 or more, found {per_document}.")
    if seed < 0:
        raise ConfigError(f"seed has to be 0 or more, found {seed}.")


def pseudo_queries(
    documents: Documents,
    *,
    per_document: int = 4,
    kinds: Sequence[str] = KINDS,
    seed: int,
) -> Queries:
    """Queries made of each document: its title, a sentence, a span of words, its keywords.

    The kinds take turns until a document has `per_document` queries. Equal texts count once, so
    that a short document, or one without a title, can have fewer. The same arguments give the
    same queries.

    Args:
        documents: The corpus.
        per_document: Queries a document, at most.
        kinds: Which kinds, of `KINDS`.
        seed: Of the random choices.

    Returns:
        Queries with ids `row:kind:n`, each relevant to its own document with gain 1.

    Raises:
        ConfigError: For an unknown kind or a number that cannot work.
    """
    _check(per_document, kinds, seed)
    turns = [kinds[n % len(kinds)] for n in range(per_document)]
    maker = _Maker(documents, kinds)
    queries = Queries(ids=[], relevant=[], texts=[])
    texts: list[str] = []
    for row in tqdm(range(len(documents)), desc="pseudo-queries", delay=2, leave=False):
        for n, (kind, text) in enumerate(maker.make(row, turns, seed)):
            queries.ids.append(f"{row}:{kind}:{n}")
            queries.relevant.append({row: 1.0})
            texts.append(text)
    queries.texts = texts
    return queries
