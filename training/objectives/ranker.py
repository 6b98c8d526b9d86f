"""The ranker's objective: inner product under a softmax over the positive and sampled documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetModel
from hf_genret.training.objectives.base import Objective
from hf_genret.training.objectives.gradient_cache import Encode, encode_in_chunks


@dataclass
class RankerOptions:
    """Settings of `RankerObjective`.

    Attributes:
        in_batch: Whether the other positives of the batch are negatives.
        shared: Random documents shared by the whole batch.
        random: Random documents of each query alone (URI: 9).
        hard: Hard negatives of each query, drawn from those that `mine` found before the stage; the
            ratio of hard ones is `hard / (hard + random)`.
        sibling: Documents from a sibling leaf, same parent and another last code (URI: 1).
        everything: Softmax over all items; for catalogues whose vectors are cheap.
        cache_chunk: Texts or histories that are encoded at once, with a gradient cache
            (`gradient_cache.encode_in_chunks`): the batch then needs memory for the vectors of all
            and the activations of one chunk, and each is encoded twice. 0 encodes all at once.
    """

    in_batch: bool = True
    shared: int = 0
    random: int = 0
    hard: int = 0
    sibling: int = 0
    everything: bool = False
    cache_chunk: int = 0


class RankerObjective(Objective):
    """Sampled softmax; documents that are relevant to a query are never its negatives."""

    Options = RankerOptions
    options: RankerOptions

    def __init__(self, context: Any, options: dict[str, Any]) -> None:
        super().__init__(context, options)
        if self.options.cache_chunk < 0:
            raise ConfigError("cache_chunk is a number of texts, or 0 to encode all at once.")
        self._siblings = Siblings(context.codes) if self.options.sibling else None
        self._mined: Tensor | None = None

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the hard negatives that `mine` found."""
        self._mined = state.get("hard")
        if self.options.hard and self._mined is None:
            raise ConfigError(
                "Hard negatives have to be mined first (before: {mine: {depth: 50}})."
            )

    def state(self) -> dict[str, Tensor]:
        """The hard negatives [queries, n]."""
        return {} if self._mined is None else {"hard": self._mined}

    def reads_all(self) -> bool:
        """With the softmax over all items."""
        return self.options.everything

    def sample_for(
        self, queries: np.ndarray, rows: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Shared negatives [S] and own negatives [B * n] of each query."""
        out = {}
        total = self.context.num_items
        if self.options.everything:
            out["shared"] = np.arange(total)
        elif self.options.shared:
            out["shared"] = rng.integers(total, size=self.options.shared)
        own = []
        if self.options.random:
            own.append(rng.integers(total, size=(len(rows), self.options.random)))
        if self._siblings is not None:
            own.append(self._siblings.draw(rows, self.options.sibling, rng))
        if self.options.hard and self._mined is not None:
            found = self._mined[torch.from_numpy(queries)].numpy()  # [B, depth]
            pick = rng.integers(found.shape[1], size=(len(rows), self.options.hard))
            own.append(np.take_along_axis(found, pick, axis=1))
        if own:
            out["own"] = np.concatenate(own, axis=1).reshape(-1)
        return out

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One term, `ranker`: -log softmax of the positive among all candidates (nats)."""
        queries = self._vectors(model.encode_query, batch["query"])  # [B, D]
        rows = batch["rows"]
        positives = self._vectors(model.encode_items, batch["item"])  # [B, D]
        own = model.ranker(queries, positives.unsqueeze(1))  # [B, 1]
        logits = [own]
        if self.options.in_batch:
            logits.append(self._masked(model.ranker(queries, positives), batch, rows[None, :]))
        if "shared" in batch["sampled"]:
            shared = self._vectors(model.encode_items, batch["sampled"]["shared"])
            ids = batch["sampled_rows"]["shared"][None, :]
            logits.append(self._masked(model.ranker(queries, shared), batch, ids))
        if "own" in batch["sampled"]:
            vectors = self._vectors(model.encode_items, batch["sampled"]["own"])
            ids = batch["sampled_rows"]["own"].view(len(rows), -1)
            scores = model.ranker(queries, vectors.view(*ids.shape, -1))
            logits.append(self._masked(scores, batch, ids))
        target = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        return {"ranker": functional.cross_entropy(torch.cat(logits, dim=1), target)}

    def _vectors(self, encode: Encode, inputs: dict[str, Tensor]) -> Tensor:
        """Pooled vectors [B, D], in chunks where the options say so."""
        return encode_in_chunks(encode, inputs, self.options.cache_chunk)

    def _masked(self, logits: Tensor, batch: dict[str, Any], ids: Tensor) -> Tensor:
        """-inf at the positive itself and at other documents relevant to the query."""
        rows = batch["rows"]
        wrong = ids == rows[:, None]
        numbers = batch["queries"].tolist()
        more = [(i, row) for i, n in enumerate(numbers) for row in self._others(n)]
        if more:
            where, other = torch.tensor(more, device=ids.device).T
            same = ids.expand(len(rows), -1)[where] == other[:, None]
            hits = torch.zeros(wrong.shape, device=ids.device).index_add_(0, where, same.float())
            wrong = wrong | (hits > 0)
        return logits.masked_fill(wrong, -torch.inf)

    def _others(self, query: int) -> list[int]:
        relevant = self.context.relevant[query]
        return list(relevant) if len(relevant) > 1 else []


class Siblings:
    """Draws items of the same parent with another last code.

    Args:
        codes: [N, L], complete ids.
    """

    def __init__(self, codes: Tensor) -> None:
        array = codes.cpu().numpy()
        order = np.lexsort(array.T[::-1])
        ordered = array[order]
        self.order = order
        self.place = np.empty(len(order), dtype=np.int64)
        self.place[order] = np.arange(len(order))
        self.parent = _ranges(ordered[:, :-1])  # [N, 2], first and past-last place
        self.leaf = _ranges(ordered)

    def draw(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """[B, count] rows; a random item where a parent has only one leaf."""
        place = self.place[rows]
        start, stop = self.parent[place].T
        first, last = self.leaf[place].T
        others = (stop - start) - (last - first)
        step = (rng.random((len(rows), count)) * np.maximum(others, 1)[:, None]).astype(np.int64)
        chosen = start[:, None] + step
        chosen = np.where(chosen >= first[:, None], chosen + (last - first)[:, None], chosen)
        anything = rng.integers(len(self.order), size=chosen.shape)
        chosen = np.where(others[:, None] > 0, np.minimum(chosen, len(self.order) - 1), anything)
        return self.order[chosen]


def _ranges(ordered: np.ndarray) -> np.ndarray:
    """For each sorted row the range of rows equal to it, [N, 2]."""
    n = len(ordered)
    if ordered.shape[1] == 0:
        return np.tile([0, n], (n, 1))
    new = np.ones(n, dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    starts = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    stops = np.append(starts[1:], n)
    return np.stack([starts[group], stops[group]], axis=1)
