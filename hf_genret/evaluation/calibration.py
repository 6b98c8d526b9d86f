"""Whether a score is a probability: normalisers estimated from a sample, and calibration.

A dense retriever is trained with the softmax over a positive and K negatives, and what it would
need to say how probable a document is, is the sum over all N. `drift` measures how far the one is
from the other; `expected_calibration_error` whether the softmax over all documents can be
believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import logsumexp
from scipy.stats import spearmanr

from hf_genret.errors import DataError
from hf_genret.evaluation.bootstrap import bootstrap_means, summarise

Relevant = Sequence[Mapping[int, float]]
"""For each query document row -> gain, as `Queries.relevant`."""

_CELLS = 4_000_000  # float64 cells of scores held at once


def log_z(scores: np.ndarray) -> np.ndarray:
    """log Z = log of the sum of e^score over all documents.

    Args:
        scores: Logits [Q, N]; of log-probabilities Z is 1.

    Returns:
        [Q] float64.
    """
    parts = [logsumexp(part, axis=1) for _, part in _chunks(scores)]
    return np.concatenate(parts) if parts else np.empty(0)


def sampled_log_z(
    scores: np.ndarray, relevant: Relevant, k: int | None, seed: int = 0
) -> np.ndarray:
    """log Z as estimated from a positive and K negatives.

    Z_K = e^s+ + (N - 1)/K * sum over K negatives of e^s-, the negatives drawn uniformly and without
    replacement from the N - 1 other documents: its expectation is Z, and at K = N - 1 it is Z.

    Args:
        scores: Logits [Q, N].
        relevant: The positive of a query is its document of highest gain, of equal ones the first.
        k: K; None, or more than there are, is all N - 1.
        seed: Of the negatives; they are the same for all systems with the same Q, N and K.

    Returns:
        [Q] float64, NaN for queries without a relevant document.

    Raises:
        DataError: When K is below 1 or the judgments do not fit the scores.
    """
    return drift(scores, relevant, k, seed)["log_z_sampled"]


def drift(
    scores: np.ndarray, relevant: Relevant, k: int | None, seed: int = 0
) -> dict[str, np.ndarray]:
    """How far the distribution known from K negatives is from that over all documents.

    p_full(d) = e^s(d) / Z. p_K is what is known of it from the positive and a sample of K
    negatives: these keep their scores, each of the N - 1 - K documents that were not drawn has
    the mean weight w = (1/K) * sum over the sample of e^s of those that were, and the normaliser
    is Z_K of `sampled_log_z`, which makes p_K a distribution over all N documents. Then

        KL(p_full || p_K) = log Z_K - log Z + sum over d not drawn of p_full(d) (s(d) - log w)

    is 0 at K = N - 1. Without a positive among the scores' documents a query has no value.

    Args:
        scores: Logits [Q, N].
        relevant: As for `sampled_log_z`.
        k: K; None, or more than there are, is all N - 1.
        seed: Of the negatives.

    Returns:
        One array [Q] a name: `kl` (nats), `log_z`, `log_z_sampled`, and `gap`, the first minus the
        second of them. NaN where there is no relevant document, but for `log_z`.

    Raises:
        DataError: When K is below 1 or the judgments do not fit the scores.
    """
    queries, documents = _checked(scores, relevant)
    if k is not None and k < 1:
        raise DataError(f"at least 1 negative is needed to estimate a normaliser, found {k}.")
    k = documents - 1 if k is None else min(k, documents - 1)
    rng = np.random.default_rng(seed)
    whole = log_z(scores)
    sampled, kl = np.full(queries, np.nan), np.full(queries, np.nan)
    for query, gains in enumerate(relevant):
        # Drawn for every query, so that a query's sample does not hang on the judgments of others.
        drawn = rng.choice(documents - 1, k, replace=False, shuffle=False)
        if not gains:
            continue
        row = np.asarray(scores[query], dtype=np.float64)
        positive = _positive(gains)
        drawn += drawn >= positive  # past the positive
        total = logsumexp(row[drawn])
        weight = total - np.log(k)  # log w
        sampled[query] = np.logaddexp(row[positive], weight + np.log(documents - 1))
        probability = np.exp(row - whole[query])
        probability[drawn] = probability[positive] = 0.0  # of documents not drawn
        apart = probability > 0
        rest = float((probability[apart] * (row[apart] - weight)).sum())
        kl[query] = max(0.0, sampled[query] - whole[query] + rest)
    return {"kl": kl, "log_z": whole, "log_z_sampled": sampled, "gap": whole - sampled}


def confidence(log_p: np.ndarray, relevant: Relevant) -> tuple[np.ndarray, np.ndarray]:
    """How sure a model is of its first document, and whether it is right.

    Where several documents are equally probable and first (those of a bucket), any of them may
    come first: what counts is the share of them that is relevant.

    Args:
        log_p: Log-probabilities or logits [Q, N].
        relevant: Judgments.

    Returns:
        Probability of the first document and how often it is relevant, two of [Q]; NaN for
        queries without a relevant document.

    Raises:
        DataError: When the judgments do not fit the scores.
    """
    queries, _ = _checked(log_p, relevant)
    sure, right = np.full(queries, np.nan), np.full(queries, np.nan)
    for first, part in _chunks(log_p):
        best = part.max(axis=1)
        probability = np.exp(best - logsumexp(part, axis=1))
        for place, row in enumerate(part):
            gains = relevant[first + place]
            if gains:
                top = np.flatnonzero(row == best[place])
                sure[first + place] = probability[place]
                right[first + place] = np.mean([int(one) in gains for one in top])
    return sure, right


def expected_calibration_error(
    log_p: np.ndarray, relevant: Relevant, bins: int = 15
) -> tuple[float, list[dict[str, float]]]:
    """ECE of the softmax over all documents, by the confidence in the first one.

    Queries are sorted by confidence and cut into bins of equal mass (as many queries in each): with
    thousands of documents most confidences are small, and bins of equal width would be empty.
    ECE = sum over bins of (share of queries) * |share found - mean confidence|. Chance makes it
    positive even for a calibrated model: about 0.4 / sqrt(queries of a bin) at worst.

    Args:
        log_p: Log-probabilities or logits [Q, N].
        relevant: Judgments; queries without any are left out.
        bins: Bins, at most one a query.

    Returns:
        ECE (NaN without queries) and a row a bin: `queries`, mean `confidence`, `accuracy`.

    Raises:
        DataError: When there is no bin or the judgments do not fit the scores.
    """
    if bins < 1:
        raise DataError(f"at least 1 bin is needed, found {bins}.")
    sure, right = _known(*confidence(log_p, relevant))
    if not len(sure):
        return float("nan"), []
    order = np.argsort(sure, kind="stable")
    table = [
        {
            "queries": len(part),
            "confidence": float(sure[part].mean()),
            "accuracy": float(right[part].mean()),
        }
        for part in np.array_split(order, min(bins, len(order)))
    ]
    return float(_ece(sure[None, order], right[None, order], bins)[0]), table


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two values a query; NaN where one of them is constant.

    Args:
        first: [Q]; queries that are NaN in either are left out.
        second: [Q].
    """
    first, second = _known(first, second)
    # A normaliser that is 1 up to rounding has no order.
    if len(first) < 3 or min(np.ptp(first), np.ptp(second)) < 1e-4:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def calibration_report(
    scores: np.ndarray,
    relevant: Relevant,
    k: int | None,
    seed: int = 0,
    *,
    bins: int = 15,
    samples: int = 1000,
) -> dict[str, Any]:
    """Drift and calibration of one system, with 95 % intervals over queries.

    Args:
        scores: Logits or log-probabilities [Q, N].
        relevant: Judgments.
        k: Negatives that training saw beside a positive; None for a model that normalises over
            all documents by itself (a generative one), which needs no estimate: its KL is 0.
        seed: Of the negatives and of the resamples.
        bins: Bins of the ECE.
        samples: Resamples of the queries.

    Returns:
        `kl` and `ece` (`mean`, `low`, `high`; the ECE is recomputed on every resample), `gap`
        (log Z - log Z_K, likewise), `negatives` (K), `log_z_mean`, `log_z_std` (spread over
        queries), `log_z_spread` (the same with its interval) and `log_z_rank_correlation`
        (Spearman's, of log Z and log Z_K; None where log Z is constant).

    Raises:
        DataError: When K is below 1 or the judgments do not fit the scores.
    """
    found = drift(scores, relevant, k, seed)
    sure, right = _known(*confidence(scores, relevant))
    means = summarise({name: found[name] for name in ("kl", "gap")}, samples=samples, seed=seed)
    correlation = rank_correlation(found["log_z"], found["log_z_sampled"])
    normalisers = found["log_z"]
    spread = _spread(normalisers, samples, seed)
    return {
        "kl": means.get("kl"),
        "gap": means.get("gap"),
        "ece": _ece_interval(sure, right, bins, samples, seed),
        "negatives": k,
        "log_z_mean": float(normalisers.mean()) if len(normalisers) else None,
        "log_z_std": None if spread is None else spread["mean"],
        "log_z_spread": spread,
        "log_z_rank_correlation": None if np.isnan(correlation) else correlation,
    }


def _spread(values: np.ndarray, samples: int, seed: int) -> dict[str, float] | None:
    """Standard deviation over queries and its percentile interval."""
    if not len(values):
        return None
    from_mean = values - values.mean()
    moments = bootstrap_means(np.stack([from_mean, from_mean**2], 1), samples=samples, seed=seed)
    drawn = np.sqrt(np.maximum(moments[:, 1] - moments[:, 0] ** 2, 0.0))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": float(values.std()), "low": float(low), "high": float(high)}


def _ece_interval(
    sure: np.ndarray, right: np.ndarray, bins: int, samples: int, seed: int
) -> dict[str, float] | None:
    """ECE and its percentile interval over resampled queries."""
    if not len(sure):
        return None
    order = np.argsort(sure, kind="stable")
    sure, right = sure[order], right[order]
    pick = np.random.default_rng(seed).integers(0, len(sure), (samples, len(sure)))
    pick.sort(axis=1)  # confidences stay sorted
    low, high = np.percentile(_ece(sure[pick], right[pick], bins), [2.5, 97.5])
    return {
        "mean": float(_ece(sure[None], right[None], bins)[0]),
        "low": float(low),
        "high": float(high),
    }


def _ece(sure: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """ECE of samples [S, n] whose confidences rise: [S]."""
    n = sure.shape[1]
    cuts = [0, *np.cumsum([len(part) for part in np.array_split(np.arange(n), min(bins, n))])]
    gaps = [np.abs((right[:, a:b] - sure[:, a:b]).sum(axis=1)) / n for a, b in pairwise(cuts)]
    total: np.ndarray = np.sum(gaps, axis=0)
    return total


def _checked(scores: np.ndarray, relevant: Relevant) -> tuple[int, int]:
    """Q and N."""
    if scores.ndim != 2 or len(scores) != len(relevant) or scores.shape[1] < 2:
        raise DataError(
            f"scores [{len(relevant)}, documents] of 2 documents or more were expected, "
            f"found {list(scores.shape)}."
        )
    last = max((row for gains in relevant for row in gains), default=0)
    if last >= scores.shape[1]:
        raise DataError(f"row {last} is relevant; scores end at row {scores.shape[1] - 1}.")
    return len(scores), scores.shape[1]


def _positive(gains: Mapping[int, float]) -> int:
    """The document of highest gain, of equal ones the first."""
    return min(gains, key=lambda row: (-gains[row], row))


def _known(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both without what is NaN in either."""
    known = ~(np.isnan(first) | np.isnan(second))
    return first[known], second[known]


def _chunks(scores: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """First query and float64 scores of as many queries as fit in memory."""
    size = max(1, _CELLS // max(scores.shape[1], 1))
    for first in range(0, len(scores), size):
        yield first, scores[first : first + size].astype(np.float64)
