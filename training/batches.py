"""Batches of training pairs; their order is a function of seed, stage and epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hf_genret.data import Queries
from hf_genret.encoding import Batch, ItemSource, QuerySource

Sample = Callable[[np.ndarray, np.ndarray, np.random.Generator], dict[str, np.ndarray]]
_CHUNK = 50  # batches within which pairs are sorted by length


@dataclass
class TrainingData:
    """What every stage reads.

    Attributes:
        items: The corpus.
        train: Training queries.
        dev: Queries that choose weights, beam and early stopping; None when there are none.
        pair_query: Query number of each training pair, int64 [pairs].
        pair_row: Document row of each training pair, int64 [pairs].
        exclude_history: Whether rows of a query's history may not be retrieved for it.
        dev_own: Row of the document that each dev query is, -1 for none (`own_documents`); it may
            not be retrieved for it either.
        given: Ids that the data alone decided, int64 [N, L]; None when the model makes them.
        position_code: Whether the last code is a document's number inside its bucket.
    """

    items: ItemSource
    train: QuerySource
    dev: QuerySource | None
    pair_query: np.ndarray
    pair_row: np.ndarray
    exclude_history: bool = False
    dev_own: np.ndarray | None = None
    given: Tensor | None = None
    position_code: bool = False


class PairBatches(Sampler[list[int]]):
    """Batches of pair numbers: shuffled, then sorted by length within chunks, then shuffled again.

    With groups the pairs of a group stand together: a large group fills batches of its own, what
    is left over shares batches with its neighbours. A batch that is not full comes last.

    Args:
        lengths: Cost of each pair.
        batch_size: Pairs a batch.
        seed: Of the run.
        stage: Number of the stage.
        groups: Group of each pair; none by default.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        stage: int,
        groups: np.ndarray | None = None,
    ) -> None:
        self.lengths, self.batch_size, self.groups = lengths, batch_size, groups
        self.seed, self.stage, self.epoch = seed, stage, 0
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return (len(self.lengths) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.stage, self.epoch])
        order = rng.permutation(len(self.lengths))
        if self.groups is not None:
            order = self._together(order)
        else:
            self._sort_within_chunks(order)
        full, rest = divmod(len(order), self.batch_size)
        starts = self.batch_size * rng.permutation(full)
        for start in starts:
            yield order[start : start + self.batch_size].tolist()
        if rest:  # last, else accelerate would pass over it when it shares batches out
            yield order[-rest:].tolist()

    def _together(self, order: np.ndarray) -> np.ndarray:
        """Whole batches of one group first, then the remainders, group by group."""
        assert self.groups is not None
        order = order[np.argsort(self.groups[order], kind="stable")]
        group = self.groups[order]
        first = np.searchsorted(group, group)  # where each pair's group begins
        last = np.searchsorted(group, group, side="right")
        inside = np.arange(len(order)) - first
        whole = inside < (last - first) // self.batch_size * self.batch_size
        return np.concatenate([order[whole], order[~whole]])

    def _sort_within_chunks(self, order: np.ndarray) -> None:
        for first in range(0, len(order), self.batch_size * _CHUNK):
            chunk = order[first : first + self.batch_size * _CHUNK]
            order[first : first + len(chunk)] = chunk[
                np.argsort(self.lengths[chunk], kind="stable")
            ]


class PairDataset(Dataset[Batch]):
    """Whole batches at once: inputs of the queries, of their documents and of sampled documents.

    Args:
        data: What to read.
        sample: Gives further document rows by name for a batch's query numbers and rows
            (negatives, random items).
        seed: Of the run.
        stage: Number of the stage.
    """

    def __init__(self, data: TrainingData, sample: Sample, seed: int, stage: int) -> None:
        self.data, self.sample = data, sample
        self.seed, self.stage = seed, stage

    def __len__(self) -> int:
        return len(self.data.pair_query)

    def __getitems__(self, numbers: list[int]) -> dict[str, Any]:
        """A batch: `query` and `item` inputs, their numbers, and `sampled` inputs and rows."""
        pairs = np.asarray(numbers, dtype=np.int64)
        queries, rows = self.data.pair_query[pairs], self.data.pair_row[pairs]
        # The draw depends on the pairs alone, so that a resumed run draws the same.
        rng = np.random.default_rng([self.seed, self.stage, len(pairs), *pairs[:4].tolist()])
        sampled = self.sample(queries, rows, rng)
        return {
            "query": self.data.train.batch(queries),
            "item": self.data.items.batch(rows),
            "queries": torch.from_numpy(queries),
            "rows": torch.from_numpy(rows),
            "sampled": {name: self.data.items.batch(more) for name, more in sampled.items()},
            "sampled_rows": {name: torch.from_numpy(more) for name, more in sampled.items()},
        }


def pair_loader(
    data: TrainingData,
    sample: Sample,
    batch_size: int,
    seed: int,
    stage: int,
    groups: np.ndarray | None = None,
) -> DataLoader[Any]:
    """The loader of a stage; `groups` are of document rows."""
    of_pairs = None if groups is None else groups[data.pair_row]
    lengths = data.train.lengths()[data.pair_query] + data.items.lengths()[data.pair_row]
    return DataLoader(
        PairDataset(data, sample, seed, stage),
        batch_sampler=PairBatches(lengths, batch_size, seed, stage, of_pairs),
        collate_fn=_same,
    )


def _same(batch: Any) -> Any:
    """`__getitems__` gives whole batches already."""
    return batch


def interactions(queries: Queries) -> list[dict[int, float]]:
    """What APE is measured on: the items of each user, or the relevant documents of each query."""
    if queries.users is None:
        return queries.relevant
    users: dict[int, dict[int, float]] = {}
    histories = queries.histories or [np.empty(0, dtype=np.int64)] * len(queries)
    for user, gains, history in zip(
        queries.users.tolist(), queries.relevant, histories, strict=True
    ):
        mine = users.setdefault(user, {})
        mine.update(gains)
        mine.update(dict.fromkeys(history.tolist(), 1.0))
    return list(users.values())
