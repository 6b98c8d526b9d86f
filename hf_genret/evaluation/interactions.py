"""Baselines of recommendation: what is popular, and what is taken together."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hf_genret.data.schema import Queries, RetrievalData
from hf_genret.errors import ConfigError
from hf_genret.evaluation.ranking import history_note, history_rows, rank_all
from hf_genret.evaluation.run import Run, flatten

# The three settings are measured best on the dev split of Amazon Beauty (leave-one-out).
DECAY = 0.7
"""Weight of a history item relative to the next newer one."""
BASKET_POWER = 0.5
"""A basket of n items adds n to minus this power to each of its pairs: long ones say less."""
ITEM_POWER = 0.25
"""A pair is divided by both items' number of baskets to this power (0.5 would be the cosine)."""


def training_interactions(data: RetrievalData) -> sparse.csr_matrix:
    """Who took what in training.

    Histories and targets of all training queries of a user are one basket; without users every
    training query is a basket of its own.

    Args:
        data: Data with a `train` split.

    Returns:
        Zeros and ones, [baskets, N].

    Raises:
        DataError: When there are no training queries.
    """
    train = data.split("train")
    query, row = train.pairs()
    if train.histories is not None:
        past_query, past_row = flatten(train.histories)
        query, row = np.concatenate([query, past_query]), np.concatenate([row, past_row])
    basket = query if train.users is None else np.asarray(train.users, dtype=np.int64)[query]
    shape = (int(basket.max(initial=-1)) + 1, len(data.documents))
    matrix = sparse.csr_matrix((np.ones(len(row), np.float32), (basket, row)), shape=shape)
    matrix.data[:] = 1.0  # an item counts once a basket
    return matrix


def popularity_run(
    data: RetrievalData, queries: Queries, *, depth: int, exclude_history: bool
) -> Run:
    """The documents of most training baskets, the same for every query.

    Args:
        data: Data with a `train` split.
        queries: The split to answer.
        depth: Ranks to keep.
        exclude_history: Leave out the rows of each query's history.

    Raises:
        DataError: When there are no training queries.
        ConfigError: When histories shall be excluded and the queries have none.
    """
    counts = np.asarray(training_interactions(data).sum(axis=0)).ravel()  # [N]
    order = np.argsort(-counts, kind="stable").astype(np.int64)
    excluded = history_rows(queries, exclude_history)
    rows = []
    for query in range(len(queries)):
        left_out = order[:0] if excluded is None else excluded[query]
        head = order[: depth + len(left_out)]
        rows.append(head[~np.isin(head, left_out)][:depth])
    notes = history_note(queries, exclude_history)
    return Run("popularity", rows, bytes=int(counts.nbytes), notes=notes)


def cooccurrence(interactions: sparse.csr_matrix) -> sparse.csr_matrix:
    """How often two items share a basket, tempered by basket length and popularity.

    Args:
        interactions: Zeros and ones, [baskets, N].

    Returns:
        Weights of item pairs, [N, N], symmetric, with an empty diagonal.
    """
    lengths = np.asarray(interactions.sum(axis=1)).ravel()  # [baskets]
    counts = np.asarray(interactions.sum(axis=0)).ravel()  # [N]
    basket = sparse.diags(np.maximum(lengths, 1.0) ** -BASKET_POWER)
    item = sparse.diags(np.maximum(counts, 1.0) ** -ITEM_POWER)
    together = (item @ (interactions.T @ basket @ interactions) @ item).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    return together.astype(np.float32)


def cooccurrence_run(
    data: RetrievalData, queries: Queries, *, depth: int, exclude_history: bool
) -> Run:
    """Items that share training baskets with the items of the history, newer ones weighing more.

    Args:
        data: Data with a `train` split.
        queries: The split to answer, with histories.
        depth: Ranks to keep; items that share no basket with the history follow by popularity.
        exclude_history: Leave out the rows of each query's history.

    Raises:
        DataError: When there are no training queries.
        ConfigError: When the queries have no histories.
    """
    if queries.histories is None:
        raise ConfigError("the co-occurrence baseline needs queries with histories.")
    interactions = training_interactions(data)
    graph = cooccurrence(interactions)
    counts = np.asarray(interactions.sum(axis=0)).ravel()
    # Below every real score, so that it only orders what the graph does not reach.
    fallback = (1e-6 * counts / max(counts.max(initial=0.0), 1.0)).astype(np.float32)
    weights = _history_weights(queries.histories, len(data.documents))
    run = rank_all(
        "cooccurrence",
        lambda start, end: (weights[start:end] @ graph).toarray() + fallback,
        queries,
        num_documents=len(data.documents),
        depth=depth,
        exclude_history=exclude_history,
    )
    run.bytes = int(graph.data.nbytes + graph.indices.nbytes + graph.indptr.nbytes)
    return run


def _history_weights(histories: list[np.ndarray], num_documents: int) -> sparse.csr_matrix:
    """[Q, N]: the newest item of a history weighs 1, each older one `DECAY` times the next."""
    query, row = flatten(histories)
    lengths = np.bincount(query, minlength=len(histories))
    age = np.cumsum(lengths)[query] - 1 - np.arange(len(query))
    weight = (DECAY ** age.astype(np.float64)).astype(np.float32)
    return sparse.csr_matrix((weight, (query, row)), shape=(len(histories), num_documents))
