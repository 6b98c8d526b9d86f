"""Typical words of docid prefixes: a statistic of the documents below them, no invented text."""

from __future__ import annotations

from array import array
from collections import Counter
from functools import lru_cache
from itertools import islice
from math import log
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from hf_genret.data.words import words
from hf_genret.documents import DocumentStore, full_text
from hf_genret.explain.nodes import leaves_below
from hf_genret.modeling.index_genret import DocidIndex

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever

READ = 200
"""Words read of each document."""
_KEPT = 20_000  # labels kept


class PrefixWords:
    """The words by which the documents below a prefix differ from the corpus.

    Class-based TF-IDF (Grootendorst, arXiv 2203.05794, section 3.3), with the buckets as classes
    wherever classes are counted, so that one weight of a word holds for prefixes of any length:

        W(t, c) = tf(t, c) / |c| * log(1 + A / f(t))

    tf(t, c) is how often word t stands in the documents below prefix c, where n times in one
    document count as 1 + log n, so that what documents share goes before what one of them repeats;
    |c| is the sum of all words' tf(., c), f(t) that of tf(t, .) over the buckets, and A the mean
    |c| of a bucket. Equal values stand in alphabetical order. A word is a run of two or more
    letters, in lower case, a pair of letters where a script has no spaces between words; the first
    `READ` of title and text are read. A document without any (an item of a catalogue that has only
    an id) has its id as its one word.

    Counts are kept as one sparse matrix of buckets and words, filled a group of documents at a
    time; a prefix is a range of its rows.

    Args:
        index: The ids.
        documents: As many as the index has rows.
    """

    def __init__(self, index: DocidIndex, documents: DocumentStore) -> None:
        self.index, self.documents, self.paths = index, documents, index.paths
        counts, self.vocabulary = _counts(documents)
        leaf = index.leaf_of_path().cpu().numpy()
        rows = index.rows.cpu().numpy()
        shape = (len(index.buckets) - 1, len(documents))
        member = sparse.csr_matrix((np.ones(len(rows), np.float32), (leaf, rows)), shape)
        self.counts = sparse.csr_matrix(member @ counts)  # [leaves, words]
        total = np.asarray(self.counts.sum(0, dtype=np.float64)).ravel()  # [words], 1 or more each
        self.weight = np.log1p(total.sum() / max(shape[0], 1) / total)
        self.of = lru_cache(_KEPT)(self._of)

    def _of(self, level: int, node: int, count: int = 6) -> tuple[str, ...]:
        """The words of a node of `level` (from 0, the root), the most typical first."""
        first, end = leaves_below(self.index, level, node)
        start, stop = self.counts.indptr[first], self.counts.indptr[end]
        word, place = np.unique(self.counts.indices[start:stop], return_inverse=True)
        tf = np.bincount(place, weights=self.counts.data[start:stop])
        value = tf / tf.sum() * self.weight[word]
        bound = np.partition(value, -count)[-count] if len(value) > count else -np.inf
        best = np.flatnonzero(value >= bound)  # ties at the cut are cut after they are sorted
        ranked = sorted(best, key=lambda i: (-value[i], self.vocabulary[word[i]]))
        return tuple(self.vocabulary[word[i]] for i in ranked[:count])


def words_of(retriever: GenRetriever) -> PrefixWords:
    """The words of a retriever's prefixes, counted at first use and again for another index."""
    return retriever.state.prefix_words


def _counts(documents: DocumentStore) -> tuple[sparse.csr_matrix, list[str]]:
    """1 + log of how often each word stands in each document [documents, words], and the words."""
    numbers: dict[str, int] = {}
    places, counts, ends = array("i"), array("f"), array("q", [0])
    for document in tqdm(documents, "Counting words", len(documents), leave=False, delay=2):
        found = list(islice(words(full_text(document), letters_alone=True), READ))
        for word, count in Counter(found or [document["id"]]).items():
            places.append(numbers.setdefault(word, len(numbers)))
            counts.append(1 + log(count))
        ends.append(len(places))
    data = (
        np.asarray(counts, np.float32),
        np.asarray(places, np.int32),
        np.asarray(ends, np.int64),
    )
    return sparse.csr_matrix(data, (len(documents), len(numbers))), list(numbers)
