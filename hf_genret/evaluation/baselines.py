"""Systems to stand beside a generative retriever: BM25, exhaustive dense search, random."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from hf_genret.data.schema import Documents, Queries
from hf_genret.data.words import is_english, search_words
from hf_genret.errors import ConfigError, MissingExtraError
from hf_genret.evaluation.faiss_search import Engine, load_faiss, rank_by_faiss
from hf_genret.evaluation.ranking import history_note, history_rows, rank_all
from hf_genret.evaluation.run import Run

K1, B = 1.2, 0.75


def bm25_run(documents: Documents, queries: Queries, *, depth: int) -> Run:
    """BM25 (Lucene's variant, k1 1.2, b .75), in English with stopwords and the Snowball stemmer.

    Other languages keep all their words as they are; scripts without spaces between words are
    matched by their letters and pairs of letters, as Lucene does for Chinese and Japanese.

    Args:
        documents: The corpus; titles and texts are searched.
        queries: Queries with texts.
        depth: Ranks to keep; documents without a common term are not returned.

    Raises:
        MissingExtraError: When bm25s or PyStemmer is not installed.
        ConfigError: When the queries have no texts.
    """
    if queries.texts is None:
        raise ConfigError("BM25 needs queries with texts; these have none.")
    index = BM25(documents.full_texts())
    rows: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    began = time.perf_counter()
    for found, values in index.rank(queries.texts, min(depth, len(documents))):
        rows.append(found)
        scores.append(values)
    elapsed = time.perf_counter() - began
    latency = 1000 * elapsed / max(len(queries), 1)
    return Run("bm25", rows, scores, latency_ms=latency, bytes=index.bytes, notes=index.notes)


class BM25:
    """A BM25 index of texts, kept for any number of queries; see `bm25_run` for its settings.

    Args:
        texts: The corpus.

    Raises:
        MissingExtraError: When bm25s or PyStemmer is not installed.
        ConfigError: When no text has a word that is no stopword.
    """

    def __init__(self, texts: list[str]) -> None:
        bm25s, stopwords, stemmer = _bm25_parts()
        english = is_english(texts)
        self.notes = [] if english else ["not in English: no stopwords, no stemmer"]
        self._stopwords = stopwords if english else frozenset()
        self._stemmer: Any = stemmer if english else None
        self._model = bm25s.BM25(method="lucene", k1=K1, b=B)
        corpus = [self._terms(text) for text in texts]
        if not any(corpus):
            raise ConfigError("BM25 needs documents with at least one word that is no stopword.")
        self._model.index(corpus, show_progress=False)

    @property
    def bytes(self) -> int:
        """Bytes of the index."""
        scores = self._model.scores
        return sum(int(scores[part].nbytes) for part in ("data", "indices", "indptr"))

    def rank(
        self, texts: list[str], depth: int, allowed: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows and scores of each query's documents, best first, equal scores in row order.

        Args:
            texts: The queries.
            depth: Ranks to keep; documents without a common term are not returned.
            allowed: [N] bool, the only documents that may be returned; all by default.
        """
        for text in texts:
            yield _bm25_rows(self._model, self._terms(text), depth, allowed)

    def _terms(self, text: str) -> list[str]:
        kept = [word for word in search_words(text) if word not in self._stopwords]
        return kept if self._stemmer is None else list(self._stemmer.stemWords(kept))


def _bm25_parts() -> tuple[Any, frozenset[str], Any]:
    """The library, English stopwords and an English stemmer."""
    try:
        import bm25s
        import Stemmer
        from bm25s.stopwords import STOPWORDS_EN
    except ImportError as error:
        raise MissingExtraError("bm25s and PyStemmer", "baselines", "The BM25 baseline") from error
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s, frozenset(STOPWORDS_EN), Stemmer.Stemmer("english")


def _bm25_rows(
    model: Any, words: list[str], depth: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a score above 0, best first, equal scores in row order."""
    known = [word for word in words if word in model.vocab_dict]
    if not known:  # the library refuses an empty query
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    values = model.get_scores(known)  # [N]
    matching = np.flatnonzero(values > 0 if allowed is None else (values > 0) & allowed)
    if len(matching) > depth:
        # Ties at the cut are kept here and cut after the stable sort.
        bound = np.partition(values[matching], len(matching) - depth)[len(matching) - depth]
        matching = matching[values[matching] >= bound]
    order = np.argsort(-values[matching], kind="stable")[:depth]
    best = matching[order].astype(np.int64)
    return best, values[best]


def dense_run(
    name: str,
    query_vectors: np.ndarray,
    item_vectors: np.ndarray,
    queries: Queries,
    *,
    depth: int,
    exclude_history: bool = False,
    engine: Engine = "auto",
) -> Run:
    """Exhaustive inner product.

    Both engines look at every document and put equal scores in row order. Their scores differ by
    no more than the rounding of float32 sums, so the results do only among documents that this
    does not tell apart.

    Args:
        name: Name of the system (`dense`, `dense_untrained`).
        query_vectors: [Q, D] (a tensor on the CPU works too).
        item_vectors: [N, D].
        queries: The split.
        depth: Ranks to keep.
        exclude_history: Leave out the rows of each query's history.
        engine: `faiss` (IndexFlatIP), `numpy`, or `auto`: FAISS where it is installed and no
            history has to be left out. The notes of the run say which one it was.

    Raises:
        ConfigError: When the shapes do not fit each other or the number of queries, the engine
            is unknown, or FAISS shall leave histories out.
        MissingExtraError: When the engine is `faiss` and it is not installed.
    """
    left = np.asarray(query_vectors, dtype=np.float32)
    right = np.asarray(item_vectors, dtype=np.float32)
    if left.ndim != 2 or right.ndim != 2 or left.shape != (len(queries), right.shape[1]):
        raise ConfigError(
            f"dense search needs query vectors [{len(queries)}, D] and item vectors [N, D]; "
            f"found {list(left.shape)} and {list(right.shape)}."
        )
    faiss = load_faiss(engine, exclude_history)
    if faiss is not None:
        run = rank_by_faiss(faiss, name, left, right, queries, depth=depth)
    else:
        run = rank_all(
            name,
            lambda start, end: left[start:end] @ right.T,
            queries,
            num_documents=len(right),
            depth=depth,
            exclude_history=exclude_history,
        )
        run.notes.append("exhaustive search by NumPy")
    run.bytes = int(right.nbytes)
    return run


def random_run(
    num_documents: int,
    queries: Queries,
    depth: int,
    seed: int,
    *,
    exclude_history: bool = False,
) -> Run:
    """Documents drawn at random without replacement, the floor of every table.

    Args:
        num_documents: Size of the corpus.
        queries: The split.
        depth: Ranks to keep.
        seed: Seed.
        exclude_history: Leave out the rows of each query's history.
    """
    rng = np.random.default_rng(seed)
    excluded = history_rows(queries, exclude_history)
    rows = []
    for query in range(len(queries)):
        left_out = np.empty(0, dtype=np.int64) if excluded is None else excluded[query]
        wanted = min(num_documents, depth + len(left_out))
        drawn = rng.choice(num_documents, wanted, replace=False)
        rows.append(drawn[~np.isin(drawn, left_out)][:depth].astype(np.int64))
    return Run("random", rows, bytes=0, notes=history_note(queries, exclude_history))
