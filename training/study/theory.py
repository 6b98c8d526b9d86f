"""What follows from the two ways of scoring (arXiv 2509.22116, theory), held against the cells.

Standard mathematics of sampled softmax, low rank and factorised probabilities. Ranks have no
sampling error; what is unsure of them is only whether queries and codes are many enough to tell.
"""

from __future__ import annotations

from typing import Any

from hf_genret.training.study.lines import DENSE, GENERATIVE, Interval
from hf_genret.training.study.verdicts import (
    CONTRADICTED,
    HOLDS,
    UNKNOWN,
    Findings,
    Statement,
    above,
    apart,
    not_measured,
    say,
)

SPREAD = 0.1
"""Nats of log Z between queries above which their scores are not comparable."""
LEAK = 0.01
"""Leaked probability that counts."""
_ONE = 1e-3
"""|log Z| below which probabilities sum to one, in float32."""


def drift_grows(found: Findings) -> Statement:
    """5.3.1: with K fixed, the sampled normaliser is further off the larger the corpus."""
    text = (
        "With a fixed number of sampled negatives, the dense softmax drifts from that over all "
        "documents as the corpus grows (KL of the largest corpus above that of the smallest)."
    )
    return _grows(found, "drift", "kl", "KL(p_full || p_K) of dense in nats", text)


def calibration_worsens(found: Findings) -> Statement:
    """5.3.1: and its softmax over all documents is worse calibrated."""
    text = (
        "The dense softmax over all documents is worse calibrated the larger the corpus (ECE of "
        "the largest corpus above that of the smallest)."
    )
    return _grows(found, "calibration", "ece", "ECE of dense", text)


def scores_not_comparable(found: Findings) -> Statement:
    """5.3.1: c(q) is free, so that dense scores mean different things for different queries."""
    dense = found.default(DENSE, "calibration", "log_z_spread")
    generative = found.default(GENERATIVE, "calibration", "log_z_std")
    if dense is None:
        verdict, evidence = not_measured("calibration of the dense default")
    else:
        spread = dense.figure("calibration", "log_z_spread")
        rank = dense.figure("calibration", "log_z_rank_correlation")
        verdict = above(spread, SPREAD)
        evidence = f"Standard deviation of log Z over queries: dense {say(spread, 3)} nats"
        if generative is not None:
            evidence += f", generative {generative.figure('calibration', 'log_z_std'):.3f}"
        evidence += "." if rank is None else f"; rank correlation with the sampled one {rank:.3f}."
    text = (
        "Dense scores are not comparable across queries (log Z spreads by more than "
        f"{SPREAD} nats)."
    )
    return Statement("comparable", "Theory, drift", text, verdict, evidence)


def dense_has_low_rank(found: Findings) -> Statement:
    """5.3.2: bilinear scores of d dimensions have rank at most d + 1."""
    spectra = _dense_spectra(found)
    # With fewer queries than d + 1 no matrix has a higher rank.
    able = [s for s in spectra if s["bound"] < min(s["queries"], s["documents"])]
    if not able:
        verdict, evidence = not_measured("dense cell of fewer dimensions than queries")
    else:
        over = any(s["numerical_rank"] > s["bound"] for s in able)
        verdict = CONTRADICTED if over else HOLDS
        told = [f"{s['numerical_rank']} (d = {s['dim']})" for s in able]
        evidence = (
            f"Numerical rank of dense log-probabilities of {able[0]['queries']:,} queries: "
            f"{', '.join(told)}."
        )
    text = "Dense log-probabilities of d dimensions have rank at most d + 1."
    return Statement("low_rank", "Theory, low rank", text, verdict, evidence)


def generative_has_high_rank(found: Findings) -> Statement:
    """5.3.2 and 5.3.4: generative log-probabilities exceed what those dimensions allow."""
    point, dense = found.default(GENERATIVE, "spectrum"), _dense_spectra(found)
    own = None if point is None else point.figure("spectrum")
    if own is None or not dense:
        verdict, evidence = not_measured("spectrum of both systems")
    else:
        most = min(own["queries"], own["documents"])
        able = sorted({s["bound"] for s in [*dense, own] if s["bound"] < most})
        verdict = UNKNOWN
        if able and own["numerical_rank"] > able[-1]:
            verdict = HOLDS
        elif able and own["numerical_rank"] <= able[0]:
            verdict = CONTRADICTED
        effective = max(s["effective_rank"] for s in dense)
        evidence = (
            f"Generative log-probabilities of {own['queries']:,} queries have numerical rank "
            f"{own['numerical_rank']:,} and effective rank {own['effective_rank']:.1f} (dense at "
            f"most {effective:.1f}); bounds d + 1 that so many queries can tell: "
            f"{', '.join(map(str, able)) or 'none'}."
        )
    text = (
        "Generative log-probabilities exceed the rank that a bilinear score allows (numerical rank "
        "above every d + 1 that the queries can tell)."
    )
    return Statement("high_rank", "Theory, low rank", text, verdict, evidence)


def generative_sums_to_one(found: Findings) -> Statement:
    """5.3.3: softmaxes over the codes that exist make a distribution over documents."""
    point = found.default(GENERATIVE, "calibration", "log_z_mean")
    if point is None:
        verdict, evidence = not_measured("calibration of the generative default")
    else:
        mean = point.figure("calibration", "log_z_mean")
        spread = point.figure("calibration", "log_z_std")
        verdict = HOLDS if abs(mean) < _ONE and spread < _ONE else CONTRADICTED
        evidence = (
            f"log of the sum over documents: mean {mean:.0e}, standard deviation {spread:.0e} over "
            "queries (a bucket's probability is shared evenly among its documents)."
        )
    text = (
        "Softmaxes over the codes that exist sum to one over documents, without a normaliser "
        f"(|log Z| below {_ONE:g})."
    )
    return Statement("normalised", "Theory, normalisation", text, verdict, evidence)


def free_softmax_leaks(found: Findings) -> Statement:
    """5.3.3: the softmax over all codes puts probability on ids that do not exist."""
    point = found.default(GENERATIVE, "leaked")
    if point is None:
        verdict, evidence = not_measured("leaked probability of the generative default")
    else:
        leaked = point.figure("leaked")
        verdict = above(leaked, LEAK)
        kinds = {p.label: p.figure("leaked", "mean") for p in found.points("ids", ids=True)}
        told = [f"{label} {mean:.3f}" for label, mean in kinds.items() if mean is not None]
        evidence = (
            "Probability that the softmax over all codes puts on ids that do not exist: "
            f"{say(leaked, 3)}" + (f"; by kind of id: {', '.join(told)}." if told else ".")
        )
    text = (
        "A softmax over all codes leaks probability to ids that do not exist (more than "
        f"{100 * LEAK:.0f} %)."
    )
    return Statement("leak", "Theory, normalisation", text, verdict, evidence)


def each_head_has_low_rank(found: Findings) -> Statement:
    """5.3.4: one head is of low rank; the product over levels is what is not."""
    heads = {}
    for point in found.points(ids=True):
        head = point.figure("spectrum", "head")
        # A head of few codes has no higher rank whatever it is.
        if head is not None and head["bound"] < min(head["codes"], head["queries"]):
            told = f"{head['numerical_rank']} of {head['codes']:,} codes (d = {head['dim']})"
            heads[told] = head["numerical_rank"] <= head["bound"]
    if not heads:
        verdict, evidence = not_measured("head with more codes and queries than its width plus one")
    else:
        verdict = HOLDS if all(heads.values()) else CONTRADICTED
        evidence = f"Numerical rank of the first level's log-probabilities: {', '.join(heads)}."
    text = "Each head alone has rank at most its width plus one."
    return Statement("heads", "Theory, low rank", text, verdict, evidence)


def _dense_spectra(found: Findings) -> list[Any]:
    """Spectra of dense cells, one a width."""
    spectra = [point.figure("spectrum") for point in found.points(ids=False)]
    first = {s["dim"]: s for s in reversed(spectra) if s is not None}
    return [first[dim] for dim in sorted(first)]


def _grows(found: Findings, name: str, figure: str, what: str, text: str) -> Statement:
    """Whether a figure of dense is larger on the largest corpus than on the smallest."""
    points = [p for p in found.points("corpus", ids=False) if p.figure("calibration", figure)]
    if len(points) < 2:
        verdict, evidence = not_measured("calibration of dense on two sizes of the corpus")
    else:
        ends: list[Interval] = [p.figure("calibration", figure) for p in (points[0], points[-1])]
        verdict = apart(*ends)
        told = [
            f"{say(p.figure('calibration', figure), 3)} with {p.value or 0:,.0f} documents"
            for p in points
        ]
        negatives = points[0].figure("calibration", "negatives")
        sampled = f" with {negatives} negatives" if figure == "kl" and negatives else ""
        evidence = f"{what}{sampled}: {', '.join(told)}."
    return Statement(name, "Theory, drift", text, verdict, evidence)
