"""Two systems as one: reciprocal rank fusion and weighted scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hf_genret.data.schema import Queries
from hf_genret.errors import ConfigError, DataError
from hf_genret.evaluation.metrics import Judgments, RankedGains, ndcg
from hf_genret.evaluation.run import Run, flatten

Method = Literal["rrf", "weighted"]

GRID = tuple(step / 10 for step in range(11))
K = 60
"""The constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""


def fuse(
    runs: Sequence[Run],
    *,
    method: Method,
    weights: Sequence[float],
    name: str,
    depth: int = 100,
    k: int = K,
) -> Run:
    """Rank what several systems returned together.

    `rrf` sums weight / (k + rank) over the systems that return a document. `weighted` sums the
    weighted scores after min-max normalisation of each query and system: the best document has 1,
    the last one 0, and so has every document that the system did not return. Min-max rather than
    z, because a score then lies in the same range for every query, a weight means the same share
    everywhere, and one outlying score cannot outweigh all of the other system; Bruch et al.
    (TOIS 2023) found the choice to matter little once the weight is tuned. Where a system scores
    all it returns alike, that is 1.

    A system of weight 0 is not there: neither its documents nor its costs count. Documents that
    score the same are in row order.

    Args:
        runs: Runs of the same queries.
        method: `rrf` or `weighted`.
        weights: One a run, none below 0; only their ratios matter.
        name: Name of the fused system.
        depth: Ranks to keep.
        k: Constant of `rrf`.

    Returns:
        A run whose candidates are the union of all candidates and whose bytes and milliseconds
        are sums; what one system does not tell is not known of the sum. It has no buckets.

    Raises:
        ConfigError: When the method is unknown, weights do not fit, or `weighted` lacks scores.
        DataError: When the runs do not belong to the same queries.
    """
    shares = _shares(runs, weights)
    used = [run for run, share in zip(runs, shares, strict=True) if share > 0]
    rows, scores = _Contributions.of(used, method, k).ranking(shares[shares > 0], depth)
    times, sizes = [run.latency_ms for run in used], [run.bytes for run in used]
    return Run(
        name,
        rows,
        scores,
        pools=_union(used),
        latency_ms=None if None in times else sum(time for time in times if time is not None),
        bytes=None if None in sizes else sum(size for size in sizes if size is not None),
        notes=_notes(runs, used, shares, method),
    )


def choose_weight(
    dev_runs: tuple[Run, Run],
    dev_queries: Queries,
    *,
    method: Method,
    grid: Sequence[float] = GRID,
    k: int = K,
) -> float:
    """The mix of two systems with the best nDCG@10 on dev.

    Args:
        dev_runs: Runs of the dev queries.
        dev_queries: The dev split, with judgments.
        method: As in `fuse`.
        grid: Weights of the first run that are tried, 0 to 1; the second one has the rest.
        k: As in `fuse`.

    Returns:
        The weight w of the first run, to be used as `weights=(w, 1 - w)`; of several best ones
        that which is nearest to the even mix, then the first in the grid.

    Raises:
        ConfigError: As `fuse`, or when the grid is empty or leaves 0 to 1.
        DataError: When no dev query has a relevant document, or runs and queries do not fit.
    """
    if not len(grid) or not all(0 <= weight <= 1 for weight in grid):
        raise ConfigError(f"a grid of weights needs values from 0 to 1, found {list(grid)}.")
    for run in dev_runs:
        run.check(len(dev_queries))
    judgments = Judgments(dev_queries.relevant)
    if not judgments.count.any():
        raise DataError("choosing a weight needs dev queries with relevant documents.")
    parts = _Contributions.of(dev_runs, method, k)
    quality: list[tuple[float, float]] = []
    for weight in grid:
        rows, _ = parts.ranking(np.asarray([weight, 1 - weight]), 10)
        value = float(np.nanmean(ndcg(RankedGains.of(rows, judgments, 10), 10)))
        quality.append((value, float(weight)))
    top = max(quality)[0]
    best = [weight for value, weight in quality if top - value < 1e-9]
    return min(best, key=lambda weight: round(abs(weight - 0.5), 9))


@dataclass
class _Contributions:
    """What every run says of every document that any run returned, E pairs in all.

    Attributes:
        query: Query of each pair, [E], ascending.
        row: Its document, [E], ascending inside a query.
        value: Rank or score part of each run, [R, E]; 0 where it does not return the document.
        found: Whether it does, [R, E].
        num_queries: Number of queries.
    """

    query: np.ndarray
    row: np.ndarray
    value: np.ndarray
    found: np.ndarray
    num_queries: int

    @classmethod
    def of(cls, runs: Sequence[Run], method: Method, k: int) -> _Contributions:
        """Look at runs of the same queries.

        Raises:
            ConfigError: When the method is unknown or a run lacks scores that it needs.
            DataError: When the runs have different numbers of queries.
        """
        if method not in ("rrf", "weighted"):
            raise ConfigError(f"Unknown fusion '{method}'; known: rrf, weighted.")
        for run in runs:
            run.check(len(runs[0]))
        flat = [flatten(run.rows) for run in runs]
        span = 1 + max(int(row.max(initial=0)) for _, row in flat)
        keys = [query * span + row for query, row in flat]
        union = np.unique(np.concatenate(keys))  # [E]
        value, found = np.zeros((len(runs), len(union))), np.zeros((len(runs), len(union)), bool)
        for number, (run, key) in enumerate(zip(runs, keys, strict=True)):
            place = np.searchsorted(union, key)
            query = flat[number][0]
            value[number, place] = _rank_part(query, k) if method == "rrf" else _score_part(run)
            found[number, place] = True
        return cls(union // span, union % span, value, found, len(runs[0]))

    def ranking(self, weights: np.ndarray, depth: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Rows and scores of each query, best first; runs of weight 0 add no documents."""
        kept = self.found[weights > 0].any(axis=0)
        query, row = self.query[kept], self.row[kept]
        score = weights @ self.value[:, kept]
        order = np.lexsort((row, -score, query))
        query = query[order]
        start = np.searchsorted(query, np.arange(self.num_queries))
        inside = np.arange(len(query)) - start[query] < depth
        order, query = order[inside], query[inside]
        cuts = np.searchsorted(query, np.arange(1, self.num_queries))
        return np.split(row[order], cuts), np.split(score[order], cuts)


def _rank_part(query: np.ndarray, k: int) -> np.ndarray:
    """1 / (k + rank) of a flat ranking, ranks from 1."""
    rank = np.arange(len(query)) - np.searchsorted(query, query) + 1
    return 1.0 / (k + rank)


def _score_part(run: Run) -> np.ndarray:
    """Scores of a run, flat, brought to 0 to 1 for each query."""
    if run.scores is None:
        raise ConfigError(f"weighted fusion needs scores; run '{run.name}' has none (use rrf).")
    parts = []
    for rows, scores in zip(run.rows, run.scores, strict=True):
        value = np.asarray(scores, dtype=np.float64)
        if len(value) != len(rows):
            raise DataError(
                f"run '{run.name}' has {len(value)} scores for {len(rows)} rows of a query."
            )
        spread = np.ptp(value) if len(value) else 0.0
        parts.append((value - value.min()) / spread if spread > 0 else np.ones(len(value)))
    return np.concatenate(parts) if parts else np.empty(0)


def _shares(runs: Sequence[Run], weights: Sequence[float]) -> np.ndarray:
    """Weights that sum to 1."""
    shares = np.asarray(weights, dtype=np.float64)
    if not len(runs) or shares.shape != (len(runs),):
        raise ConfigError(f"fusion needs a weight for each of {len(runs)} runs, found {weights}.")
    if not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum() > 0:
        raise ConfigError(f"fusion needs weights of 0 or more, not all 0; found {weights}.")
    result: np.ndarray = shares / shares.sum()
    return result


def _union(runs: Sequence[Run]) -> list[np.ndarray] | None:
    """All candidates of each query; None when a run ranked every document."""
    pools = [run.pools for run in runs if run.pools is not None]
    if len(pools) < len(runs):
        return None
    return [np.unique(np.concatenate(together)) for together in zip(*pools, strict=True)]


def _notes(
    runs: Sequence[Run], used: Sequence[Run], shares: np.ndarray, method: Method
) -> list[str]:
    """The recipe of the mix, then what its parts have to say, once each."""
    mix = " + ".join(f"{share:.2g} {run.name}" for run, share in zip(runs, shares, strict=True))
    said = [f"{method}: {mix}", *(note for run in used for note in run.notes)]
    return list(dict.fromkeys(said))
