"""Collapse is never silent: ids whose figures pass a threshold, with what to try.

What is compared is what is *possible*: N documents cannot use more than N codes, and a bucket has
to hold N / leaves documents, so a small corpus raises no alarm by being small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hf_genret.evaluation.docids import balance, bucket_report, entropy


@dataclass(frozen=True)
class Thresholds:
    """Where a figure becomes a finding.

    The first three are set so that codes drawn at random never pass them (with as many documents
    as codes these use 63 % of the codes at a balance of .63), and a level that lost half of its
    codes does.

    Attributes:
        share_used: Least share of the codes in use, of those that could be.
        entropy: Least entropy of the codes, relative to even use.
        balance: Least balance of a level: 1 - share of the documents that would have to move.
        displaced: Largest share of documents that did not get their most probable code.
        duplicates: Largest share of documents that share an id without need.
        bucket: Largest share of the corpus in one bucket, beyond what even buckets hold.
        documents: With fewer documents (or counted codes) no figure is looked at.
        bucket_documents: Smaller buckets are never too large.
    """

    share_used: float = 0.5
    entropy: float = 0.7
    balance: float = 0.4
    displaced: float = 0.3
    duplicates: float = 0.5
    bucket: float = 0.1
    documents: int = 10
    bucket_documents: int = 10


DEFAULTS = Thresholds()

_CODES = (
    "start the codes at clusters of the documents, give the balance term more weight, "
    "or assign under capacity"
)


@dataclass(frozen=True)
class Finding:
    """One figure that passed its threshold.

    Attributes:
        figure: `share_used`, `entropy`, `balance`, `displaced`, `duplicates` or `bucket`.
        level: Level of the id from 1; None = the whole id.
        value: What was found.
        threshold: What it was compared with.
        message: A sentence with the figure and what to try.
    """

    figure: str
    level: int | None
    value: float
    threshold: float
    message: str


def as_dicts(findings: Sequence[Finding]) -> list[dict[str, str | int | float | None]]:
    """Findings as reports hold them, in the same order."""
    return [asdict(finding) for finding in findings]


def check_ids(
    codes: np.ndarray,
    sizes: Sequence[int],
    *,
    displaced: Sequence[float] | None = None,
    levels: Sequence[int] | None = None,
    thresholds: Thresholds = DEFAULTS,
) -> list[Finding]:
    """Look at the ids of a corpus.

    Args:
        codes: Docids, [N, L], one a document.
        sizes: Codes of each level, L of them.
        displaced: For each level the share of documents that did not get their most probable
            code, where an assignment reported it.
        levels: Levels whose codes are looked at, from 1; None = all. A level that only tells
            equal ids apart or fills up short ones is uneven by design and should be left out.
        thresholds: Where a figure becomes a finding.

    Returns:
        Findings, level by level, then of whole ids; empty when all is well.

    Raises:
        ValueError: When codes and sizes do not fit each other.
    """
    codes = np.asarray(codes)
    _check_shape(codes, sizes, displaced)
    findings: list[Finding] = []
    for level, size in enumerate(sizes, start=1):
        if levels is None or level in levels:
            counts = np.bincount(codes[:, level - 1], minlength=size)
            findings += check_use(counts, level, thresholds=thresholds)
            findings += _check_balance(counts, level, thresholds)
        if displaced is not None:
            findings += check_displaced(displaced[level - 1], level, thresholds=thresholds)
    return findings + _check_buckets(codes, sizes, thresholds)


def check_use(
    counts: np.ndarray, level: int, *, thresholds: Thresholds = DEFAULTS
) -> list[Finding]:
    """Look at how often each code of a level was taken, also between two logs of a training.

    Args:
        counts: How often each code was the most probable one, or is assigned, [K].
        level: From 1.
        thresholds: Where a figure becomes a finding.

    Returns:
        Findings of `share_used` and `entropy`.
    """
    counts = np.asarray(counts)
    total = int(counts.sum())
    possible = min(len(counts), total)
    if total < thresholds.documents or possible < 2:
        return []
    used = int((counts > 0).sum())
    share, relative = used / possible, entropy(counts) / math.log(possible)
    findings = []
    if share < thresholds.share_used:
        message = (
            f"Level {level} uses {used} of {possible} possible codes ({_percent(share)}, at least "
            f"{_percent(thresholds.share_used)} were expected): {_CODES}."
        )
        findings.append(Finding("share_used", level, share, thresholds.share_used, message))
    if relative < thresholds.entropy:
        message = (
            f"The codes of level {level} have {relative:.2f} of the entropy of even use (at least "
            f"{thresholds.entropy:.2f} was expected): {_CODES}."
        )
        findings.append(Finding("entropy", level, relative, thresholds.entropy, message))
    return findings


def check_displaced(
    displaced: float, level: int, *, thresholds: Thresholds = DEFAULTS
) -> list[Finding]:
    """Look at the share of documents that capacity moved away from their most probable code.

    Args:
        displaced: The share, 0 to 1.
        level: From 1.
        thresholds: Where the share becomes a finding.
    """
    if not displaced > thresholds.displaced:
        return []
    message = (
        f"{_percent(displaced)} of the documents did not get their most probable code of level "
        f"{level} (up to {_percent(thresholds.displaced)} was expected): train the level for "
        "longer, start it at clusters, or give the balance term more weight."
    )
    return [Finding("displaced", level, float(displaced), thresholds.displaced, message)]


def _check_balance(counts: np.ndarray, level: int, thresholds: Thresholds) -> list[Finding]:
    """How evenly documents fill the codes, compared with as many places as they could fill."""
    total = int(counts.sum())
    possible = min(len(counts), total)
    if total < thresholds.documents or possible < 2:
        return []
    value = balance(counts[counts > 0], possible)
    if value >= thresholds.balance:
        return []
    message = (
        f"Level {level} has a balance of {value:.2f} (at least {thresholds.balance:.2f} was "
        f"expected; 1 is even): {_CODES}."
    )
    return [Finding("balance", level, value, thresholds.balance, message)]


def _check_buckets(
    codes: np.ndarray, sizes: Sequence[int], thresholds: Thresholds
) -> list[Finding]:
    """Ids that documents share without need, and one bucket that holds too many."""
    total = len(codes)
    if total < thresholds.documents:
        return []
    report = bucket_report(codes, sizes)
    findings = []
    needless = (min(total, report["leaves"]) - report["used"]) / total
    if needless > thresholds.duplicates:
        message = (
            f"{_percent(needless)} of the documents share an id without need: {total:,} documents "
            f"use {report['used']:,} of {report['leaves']:,} ids (up to "
            f"{_percent(thresholds.duplicates)} was expected): assign the last level under "
            "capacity or by Sinkhorn, or train it for longer."
        )
        findings.append(Finding("duplicates", None, needless, thresholds.duplicates, message))
    largest, even = report["size"]["max"], math.ceil(total / report["leaves"])
    beyond = (largest - even) / total
    if beyond > thresholds.bucket and largest >= thresholds.bucket_documents:
        message = (
            f"One id holds {largest:,} of {total:,} documents, {_percent(beyond)} more than an "
            f"even bucket (up to {_percent(thresholds.bucket)} was expected): assign under "
            "capacity, or use more or larger levels."
        )
        findings.append(Finding("bucket", None, beyond, thresholds.bucket, message))
    return findings


def _check_shape(
    codes: np.ndarray, sizes: Sequence[int], displaced: Sequence[float] | None
) -> None:
    """Refuse ids of other levels, codes out of range and another number of shares."""
    if codes.ndim != 2 or codes.shape[1] != len(sizes):
        raise ValueError(f"codes need shape [N, {len(sizes)}], found {list(codes.shape)}.")
    if len(codes) and (codes.min() < 0 or (codes >= np.asarray(sizes)).any()):
        raise ValueError(f"codes need to lie from 0 to below {list(sizes)}.")
    if displaced is not None and len(displaced) != len(sizes):
        raise ValueError(f"displaced needs {len(sizes)} shares, found {len(displaced)}.")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
