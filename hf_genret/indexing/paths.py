"""Several ids a document: sparse scores of (document, path), and the choice of J paths of each.

The second half of Deep Retrieval's EM (arXiv 2007.07203, section 3.2): paths of the documents are
chosen by coordinate descent on

    sum_y N_y log(sum_j s[y, path_j(y)]) - alpha sum_c f(|c|),  f(n) = n^4 / 4

where s[y, c] is the summed probability of path c over the queries of document y, N_y their number,
and |c| the number of documents at path c. Only paths that some beam has found have a score, so that
nothing of the size N x K^D is held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from hf_genret.errors import ConfigError

_BUFFER = 1 << 22  # scores that are gathered before equal ones are added up
_SWEEPS = 4  # over the paths of one document


def distinct(paths: Tensor) -> Tensor:
    """Where a path [N, J, L] is another than those of its document before it, bool [N, J]."""
    same = (paths[:, :, None] == paths[:, None, :]).all(-1)  # [N, J, J]
    return ~same.tril(-1).any(-1)


def flat_paths(paths: Tensor) -> tuple[Tensor, Tensor]:
    """Paths [N, J, L] as `set_index` takes them: codes [P, L] and rows [P], equal ones once."""
    own = distinct(paths)
    return paths[own], own.nonzero()[:, 0]


def path_numbers(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Each path [..., L] as one number, its codes as digits of mixed radix, int64 [...].

    Raises:
        ConfigError: When there are too many paths for a number of 62 bits.
    """
    if math.prod(sizes) >= 2**62:
        raise ConfigError(f"codebook_sizes {list(sizes)} spell more than 2^62 paths.")
    out = np.zeros(codes.shape[:-1], dtype=np.int64)
    for level, size in enumerate(sizes):
        out = out * size + codes[..., level]
    return out


def path_codes(numbers: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Codes of paths by number, int64 [..., L]: the inverse of `path_numbers`."""
    out = np.empty((*numbers.shape, len(sizes)), dtype=np.int64)
    rest = numbers
    for level in reversed(range(len(sizes))):
        rest, out[..., level] = np.divmod(rest, sizes[level])
    return out


@dataclass(frozen=True)
class Candidates:
    """The paths that are known of each document.

    Attributes:
        start: Where each document's paths begin, int64 [N + 1].
        path: Their numbers, int64 [E], each once a document.
        score: s[y, c] of each, float64 [E], above 0.
    """

    start: np.ndarray
    path: np.ndarray
    score: np.ndarray

    def of(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Paths and scores of a document."""
        mine = slice(self.start[row], self.start[row + 1])
        return self.path[mine], self.score[mine]


class PathScores:
    """s[y, c], added up as batches of queries come.

    Args:
        documents: N.
        keep: Paths kept of a document, the best of those that came so far.
    """

    def __init__(self, documents: int, keep: int) -> None:
        self.documents, self.keep = documents, keep
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._size = 0

    def add(self, rows: np.ndarray, paths: np.ndarray, scores: np.ndarray) -> None:
        """Add probabilities [B, S] of paths [B, S] to those of document rows [B]."""
        some = np.repeat(rows, paths.shape[1]), paths.reshape(-1), scores.reshape(-1)
        self._parts.append((some[0], some[1], some[2].astype(np.float64)))
        self._size += paths.size
        if self._size > max(_BUFFER, 2 * self.documents * self.keep):
            self._add_up()

    def candidates(self) -> Candidates:
        """What was added."""
        self._add_up()
        rows, paths, scores = self._parts[0]
        start = np.searchsorted(rows, np.arange(self.documents + 1))
        return Candidates(start, paths, scores)

    def _add_up(self) -> None:
        """Make one part of all, each (document, path) once, of each document the best ones."""
        none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        rows, paths, scores = map(np.concatenate, zip(*self._parts, none, strict=True))
        order = np.lexsort((paths, rows))
        rows, paths, scores = rows[order], paths[order], scores[order]
        new = np.ones(len(rows), dtype=bool)
        new[1:] = (rows[1:] != rows[:-1]) | (paths[1:] != paths[:-1])
        total = np.bincount(np.cumsum(new) - 1, scores)
        rows, paths = rows[new], paths[new]
        best = np.lexsort((-total, rows))
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = np.sort(best[(place < self.keep) & (total[best] > 0)])
        self._parts = [(rows[kept], paths[kept], total[kept])]
        self._size = len(kept)


def choose_paths(
    candidates: Candidates,
    queries: np.ndarray,
    start: np.ndarray,
    *,
    penalty: float,
    rounds: int = 3,
    seed: int = 0,
) -> np.ndarray:
    """J paths of each document by coordinate descent; no step makes the objective worse.

    A document takes paths one after another, each the one that gains most beside those it has, and
    then exchanges single ones. One without candidates stays where it is; with fewer than J it has
    the same path twice, which counts once.

    Args:
        candidates: s[y, c].
        queries: N_y, float [N].
        start: Paths so far by number, int64 [N, J].
        penalty: alpha.
        rounds: Passes over all documents at most, each in an order of its own.
        seed: Of the orders.

    Returns:
        Paths by number, int64 [N, J], rising within a document.
    """
    known, place = np.unique(
        np.concatenate([candidates.path, start.reshape(-1)]), return_inverse=True
    )
    own = place[: len(candidates.path)]
    chosen = np.sort(place[len(own) :].reshape(start.shape), axis=1)
    load = np.bincount(_once(chosen), minlength=len(known))
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        moved = 0
        order = rng.permutation(len(start))
        for row in tqdm(order, "Choosing paths", disable=len(order) < 20_000, leave=False):
            mine = slice(candidates.start[row], candidates.start[row + 1])
            if mine.start == mine.stop:
                continue
            before = np.unique(chosen[row])
            load[before] -= 1
            step = _Document(own[mine], candidates.score[mine], queries[row], load, penalty)
            after = step.choose(start.shape[1])
            if step.value(after) > step.value(before) + 1e-12:
                chosen[row] = np.sort(np.resize(after, start.shape[1]))
                moved += 1
            load[np.unique(chosen[row])] += 1
        if not moved:
            break
    return np.sort(known[chosen], axis=1)


def path_objective(
    chosen: np.ndarray, candidates: Candidates, queries: np.ndarray, penalty: float
) -> float:
    """What `choose_paths` makes large; documents whose paths have no score are left out.

    Args:
        chosen: Paths by number, [N, J].
        candidates: s[y, c].
        queries: N_y, [N].
        penalty: alpha.
    """
    total = 0.0
    for row, mine in enumerate(chosen):
        paths, scores = candidates.of(row)
        score = scores[np.isin(paths, mine)].sum()
        total += queries[row] * math.log(score) if score > 0 else 0.0
    load = np.unique(_once(chosen), return_counts=True)[1]
    return total - penalty * float(_price(load).sum())


def _once(chosen: np.ndarray) -> np.ndarray:
    """All paths of all documents [N, J], a document's equal ones once."""
    ordered = np.sort(chosen, axis=1)
    first = np.ones(ordered.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return ordered[first]


def _price(load: np.ndarray) -> np.ndarray:
    """f(n) = n^4 / 4."""
    return load.astype(np.float64) ** 4 / 4


class _Document:
    """The choice of one document while all others stand still.

    Args:
        path: Its candidates, [C] places in `load`.
        score: s of each, [C].
        queries: N_y.
        load: Documents at each path, without this one.
        penalty: alpha.
    """

    def __init__(
        self,
        path: np.ndarray,
        score: np.ndarray,
        queries: float,
        load: np.ndarray,
        penalty: float,
    ) -> None:
        self.path, self.score, self.queries = path, score, float(queries)
        self.load, self.penalty = load, penalty
        self.cost = self._costs(path)

    def _costs(self, path: np.ndarray) -> np.ndarray:
        load = self.load[path]
        return self.penalty * (_price(load + 1) - _price(load))

    def value(self, paths: np.ndarray) -> float:
        """The objective's part that this document decides, [J] places in `load`."""
        score = self.score[np.isin(self.path, paths)].sum()
        if score <= 0:
            return -np.inf
        return self.queries * math.log(score) - float(self._costs(paths).sum())

    def choose(self, count: int) -> np.ndarray:
        """At most `count` different paths."""
        taken: list[int] = []
        for _ in range(min(count, len(self.path))):
            taken.append(self._best(taken))
        for _ in range(_SWEEPS):
            before = list(taken)
            for place in range(len(taken)):
                taken[place] = self._best(taken[:place] + taken[place + 1 :])
            if taken == before:
                break
        return self.path[taken]

    def _best(self, others: list[int]) -> int:
        """The candidate that gains most beside others."""
        gain = self.queries * np.log(self.score[others].sum() + self.score) - self.cost
        gain[others] = -np.inf
        return int(gain.argmax())
