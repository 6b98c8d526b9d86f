"""The reported findings of the comparative study (arXiv 2509.22116), one function each.

Its full text is not public; the findings are known from its reviews and digests.
"""

from __future__ import annotations

from hf_genret.training.study.lines import DENSE, GENERATIVE, IDS_ALONE, Line, interval, ratio
from hf_genret.training.study.verdicts import (
    HOLDS,
    METRIC,
    NAMES,
    Findings,
    Statement,
    above,
    all_of,
    below,
    not_measured,
    say,
    within,
)

FLAT = 0.01
"""A change per doubling within one per cent of a line's mean counts as none."""
COMPETITIVE = 0.9
"""Share of dense quality that counts as competitive."""
_DEFAULTS = ("beams", "dim", "negatives", "hardness", "similarity", "decoder", "corpus")
"""Where both defaults are; those of `corpus` have fewer queries."""


def negatives_help(found: Findings) -> Statement:
    """Fig. 1: dense quality rises with the number of negatives."""
    line = found.line("negatives", DENSE)
    slope = None if line is None else interval(line.slope(METRIC))
    if line is None or slope is None:
        verdict, evidence = not_measured("dense cells with several numbers of negatives")
    else:
        verdict = above(slope)
        evidence = (
            f"{NAMES[METRIC]} of dense changes by {say(slope, sign=True)} per doubling of random "
            f"negatives ({_course(line)})."
        )
    text = "Dense quality rises with the number of negatives (slope per doubling above 0)."
    return Statement("negatives", "Fig. 1", text, verdict, evidence)


def hardness_harms(found: Findings) -> Statement:
    """Table 1: dense quality falls as the share of hard negatives rises."""
    line = found.line("hardness", DENSE)
    slope = None if line is None else interval(line.slope(METRIC))
    if line is None or slope is None:
        verdict, evidence = not_measured("dense cells with several shares of hard negatives")
    else:
        first, last = line.fitted[0], line.fitted[-1]
        change = interval(last.values[METRIC] - first.values[METRIC])
        verdict = all_of(below(slope), below(change))
        evidence = (
            f"{NAMES[METRIC]} of dense has slope {say(slope, sign=True)} from no hard negatives to "
            f"hard ones only, and changes by {say(change, sign=True)} from {first.label} to "
            f"{last.label} ({_course(line)})."
        )
    text = (
        "Dense quality falls as the share of hard negatives rises (slope, and the largest share "
        "against the smallest, both below 0)."
    )
    return Statement("hardness", "Table 1", text, verdict, evidence)


def parameters_help_one(found: Findings) -> Statement:
    """Fig. 3: more parameters help generative retrieval, dense stays flat."""
    lines = [found.line("decoder", system) for system in (GENERATIVE, DENSE)]
    shares = [None if line is None else _relative_slope(line, METRIC) for line in lines]
    if shares[0] is None or shares[1] is None:
        verdict, evidence = not_measured("two sizes of generative and of dense models")
    else:
        verdict = all_of(above(shares[0]), within(shares[1], FLAT))
        told = [say({key: 100 * x for key, x in s.items()}, 1, sign=True) for s in shares if s]
        evidence = (
            f"Per doubling of trained parameters {NAMES[METRIC]} changes by {told[0]} % of its "
            f"mean for generative and by {told[1]} % for dense."
        )
    text = (
        "With more parameters generative quality rises and dense quality stays flat (generative "
        f"slope above 0; dense slope within {100 * FLAT:.0f} % of its mean per doubling)."
    )
    return Statement("decoder", "Fig. 3", text, verdict, evidence)


def corpus_harms_both(found: Findings) -> Statement:
    """Fig. 4: both drop as the corpus grows."""
    metric = "hits@1"
    generative, dense = found.same_points("corpus", GENERATIVE, DENSE)
    slopes = [
        None if line is None else interval(line.slope(metric)) for line in (generative, dense)
    ]
    if generative is None or dense is None or None in slopes:
        verdict, evidence = not_measured("two sizes of the corpus for both systems")
    else:
        verdict = all_of(*(below(slope) for slope in slopes))
        evidence = (
            f"{NAMES[metric]} per doubling of documents: generative {say(slopes[0], sign=True)} "
            f"({_course(generative, metric)}), dense {say(slopes[1], sign=True)} "
            f"({_course(dense, metric)})."
        )
    text = "Quality of both drops as the corpus grows (both slopes per doubling below 0)."
    return Statement("corpus_drop", "Fig. 4", text, verdict, evidence)


def corpus_harms_dense_more(found: Findings) -> Statement:
    """Fig. 4: generative retrieval degrades more slowly (NQ Hit@1 -3.3 against -6.9)."""
    metric = "hits@1"
    lines = found.same_points("corpus", GENERATIVE, DENSE)
    own, other = (None if line is None else line.slope(metric) for line in lines)
    if own is None or other is None:
        verdict, evidence = not_measured("two sizes of the corpus for both systems")
    else:
        difference, times = interval(other - own), ratio(other, own)
        verdict = below(difference)
        drops = times is not None and below(interval(own)) == HOLDS
        evidence = (
            f"{NAMES[metric]} per doubling of documents, dense less generative on the same "
            f"queries: {say(difference, sign=True)}"
            + (f"; dense loses {say(times, 2)} times as much." if drops else ".")
            + _alone_slope(found, metric)
        )
    text = (
        "Generative quality drops more slowly than dense as the corpus grows (slope of dense less "
        "that of generative below 0; reported: 2 to 3 times slower)."
    )
    return Statement("corpus", "Fig. 4", text, verdict, evidence)


def dense_is_better(found: Findings) -> Statement:
    """MS MARCO: generative retrieval is still clearly below dense."""
    pair = found.pair(_DEFAULTS, GENERATIVE, DENSE)
    if pair is None:
        verdict, evidence = not_measured("generative and dense default on the same queries")
    else:
        differences = {m: interval(pair.first[m] - pair.second[m]) for m in (METRIC, "hits@1")}
        verdict = below(differences[METRIC])
        told = [f"{NAMES[m]} {say(found, sign=True)}" for m, found in differences.items()]
        evidence = (
            f"Generative less dense, defaults, {_count(pair.documents)} documents, same queries: "
            f"{', '.join(told)}." + _alone_level(found)
        )
    text = f"Generative quality is below dense on the whole corpus ({NAMES[METRIC]})."
    return Statement("whole_corpus", "MS MARCO", text, verdict, evidence)


def zero_shot_competes(found: Findings) -> Statement:
    """Section 4.4: zero-shot generative retrieval is competitive."""
    pair = found.pair(("zero_shot",), GENERATIVE, DENSE)
    if pair is None:
        verdict, evidence = not_measured("cells on another corpus")
    else:
        first, second = pair.first[METRIC], pair.second[METRIC]
        verdict = above(interval(first - COMPETITIVE * second))
        share = ratio(first, second)
        evidence = (
            f"On a corpus it was not trained on ({_count(pair.documents)} documents) generative "
            f"has {NAMES[METRIC]} {say(interval(first))}, dense {say(interval(second))}; "
            f"difference {say(interval(first - second), sign=True)}, share {say(share, 2)}."
        )
    text = (
        "Without training on a corpus generative retrieval is competitive (above "
        f"{100 * COMPETITIVE:.0f} % of dense {NAMES[METRIC]})."
    )
    return Statement("zero_shot", "Section 4.4", text, verdict, evidence)


def beams_help(found: Findings) -> Statement:
    """Test-time scaling: more beams help generative retrieval."""
    line = found.line("beams", GENERATIVE)
    slope = None if line is None else interval(line.slope(METRIC))
    if line is None or slope is None:
        verdict, evidence = not_measured("cells with several numbers of beams")
    else:
        first, before, last = line.fitted[0], line.fitted[-2], line.fitted[-1]
        end = interval(last.values[METRIC] - before.values[METRIC])
        ranked = [point.figure("documents_ranked") for point in (first, last)]
        verdict = above(slope)
        evidence = (
            f"{NAMES[METRIC]} changes by {say(slope, sign=True)} per doubling of beams and by "
            f"{say(end, sign=True)} in the last step from {before.label} to {last.label} "
            f"({_course(line)}; documents ranked: {_count(ranked[0])} to {_count(ranked[1])})."
        )
    text = "More beams at test time improve generative quality (slope per doubling above 0)."
    return Statement("beams", "Test-time scaling", text, verdict, evidence)


def _alone_slope(found: Findings, metric: str) -> str:
    """The same of the ids alone: a ranker that orders most of a small corpus hides what they do."""
    alone, dense = found.same_points("corpus", IDS_ALONE, DENSE)
    own, other = (None if line is None else line.slope(metric) for line in (alone, dense))
    if alone is None or own is None or other is None:
        return ""
    return (
        f" Ids alone, without the ranker: {say(interval(own), sign=True)} per doubling "
        f"({_course(alone, metric)}), dense less ids alone {say(interval(other - own), sign=True)}."
    )


def _alone_level(found: Findings) -> str:
    pair = found.pair(("corpus", "beams"), IDS_ALONE, DENSE)
    if pair is None:
        return ""
    own = interval(pair.first[METRIC] - pair.second[METRIC])
    return f" Ids alone, without the ranker, less dense: {NAMES[METRIC]} {say(own, sign=True)}."


def _relative_slope(line: Line, metric: str) -> dict[str, float] | None:
    slope = line.slope(metric)
    return None if slope is None else ratio(slope, line.level(metric))


def _course(line: Line, metric: str = METRIC) -> str:
    """The line's values one after another."""
    told = []
    for point in line.fitted:
        middle = interval(point.values[metric])
        told.append(f"{point.label}: {'-' if middle is None else format(middle['mean'], '.4f')}")
    return ", ".join(told)


def _count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"
