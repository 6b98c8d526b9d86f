from __future__ import annotations

import copy

import numpy as np
import pytest

from hf_genret.training.study.statements import CHECKS, statements
from hf_genret.training.study.verdicts import (
    CONTRADICTED,
    HOLDS,
    UNKNOWN,
    above,
    all_of,
    apart,
    below,
    say,
    within,
)

IDS = [
    "negatives",
    "hardness",
    "decoder",
    "corpus_drop",
    "corpus",
    "whole_corpus",
    "zero_shot",
    "beams",
    "drift",
    "calibration",
    "comparable",
    "low_rank",
    "high_rank",
    "normalised",
    "leak",
    "heads",
]


def by_id(study):
    """Statements by their names."""
    return {entry["id"]: entry for entry in statements(study.cells, study.values)}


def around(mean, width=0.01):
    return {"mean": mean, "low": mean - width, "high": mean + width}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (around(0.02), (HOLDS, CONTRADICTED, UNKNOWN)),
        (around(-0.02), (CONTRADICTED, HOLDS, UNKNOWN)),
        (around(0.0), (UNKNOWN, UNKNOWN, HOLDS)),
        (around(0.5), (HOLDS, CONTRADICTED, CONTRADICTED)),
        (around(-0.5), (CONTRADICTED, HOLDS, CONTRADICTED)),
        (None, (UNKNOWN, UNKNOWN, UNKNOWN)),
        (around(float("nan")), (UNKNOWN, UNKNOWN, UNKNOWN)),
    ],
)
def test_verdicts_of_an_interval(found, expected):
    """Above 0, below 0, and within .02 of it; nothing where the interval does not say so."""
    assert (above(found), below(found), within(found, 0.02)) == expected


def test_verdicts_of_several_parts():
    """One part that does not hold decides, all are needed to hold."""
    assert all_of(HOLDS, HOLDS) == HOLDS
    assert all_of(HOLDS, UNKNOWN) == UNKNOWN
    assert all_of(UNKNOWN, CONTRADICTED, HOLDS) == CONTRADICTED
    assert apart(around(0.1), around(0.2)) == HOLDS
    assert apart(around(0.2), around(0.1)) == CONTRADICTED
    assert apart(around(0.1), around(0.11)) == UNKNOWN
    assert say(around(0.1), 2, sign=True) == "+0.10 [+0.09, +0.11]"
    assert say(None) == "not known"


def test_every_finding_of_a_study_where_all_hold(full_study):
    """Each has a verdict and a sentence with figures."""
    found = by_id(full_study)
    assert list(found) == IDS
    assert {name for name, entry in found.items() if entry["verdict"] != HOLDS} == set()
    assert all(entry["evidence"].endswith(".") for entry in found.values())
    assert all(any(c.isdigit() for c in entry["evidence"]) for entry in found.values())
    assert all(
        set(entry) == {"id", "source", "text", "verdict", "evidence"} for entry in found.values()
    )


def test_nothing_can_be_told_without_cells():
    """And it is said what is missing."""
    found = statements([], {})
    assert len(found) == len(CHECKS)
    assert {entry["verdict"] for entry in found} == {UNKNOWN}
    assert all(entry["evidence"].startswith("Not measured") for entry in found)


LINES = {
    "negatives": [("negatives", "dense", {1: 0.45, 7: 0.4, 31: 0.36})],
    "hardness": [("hardness", "dense", {0: 0.3, 0.5: 0.35, 1: 0.4})],
    "decoder": [
        ("decoder", "generative", {1e4: 0.4, 1e6: 0.5}),
        ("decoder", "dense", {1e4: 0.3, 1e6: 0.5}),
    ],
    "corpus_drop": [
        ("corpus", "generative", {100: 0.4, 1000: 0.45}),
        ("corpus", "dense", {100: 0.5, 1000: 0.4}),
    ],
    "corpus": [
        ("corpus", "generative", {100: 0.5, 1000: 0.3}),
        ("corpus", "dense", {100: 0.5, 1000: 0.45}),
    ],
    "whole_corpus": [
        ("beams", "generative", {20: 0.5}),
        ("beams", "dense", {20: 0.4}),
    ],
    "zero_shot": [
        ("zero_shot", "generative", {1: 0.2}),
        ("zero_shot", "dense", {1: 0.4}),
    ],
    "beams": [("beams", "generative", {1: 0.5, 10: 0.4, 100: 0.3})],
}


@pytest.mark.parametrize("name", LINES)
def test_the_contrary_is_told_from_noise(make_study, name):
    """Figures that contradict it say so; the same course lost in noise says nothing."""
    for noise, verdict in ((0.02, CONTRADICTED), (60.0, UNKNOWN)):
        study = make_study()
        for factor, system, means in LINES[name]:
            study.line(factor, system, means, noise=noise)
        assert by_id(study)[name]["verdict"] == verdict


def test_dense_has_to_be_flat(make_study):
    """Generative gains, but dense gains a little more than a hundredth: that is not flat."""
    study = make_study().line("decoder", "generative", {1e4: 0.3, 4e4: 0.4}, noise=0.01)
    study.line("decoder", "dense", {1e4: 0.4, 4e4: 0.45}, noise=0.01)
    assert by_id(study)["decoder"]["verdict"] == CONTRADICTED


def test_a_peak_of_hard_negatives_is_no_fall(make_study):
    """A slope below 0 that ends where it began does not hold."""
    study = make_study().line(
        "hardness", "dense", {0: 0.4, 0.25: 0.5, 0.5: 0.45, 0.75: 0.38, 1: 0.4}, noise=0.3
    )
    assert by_id(study)["hardness"]["verdict"] == UNKNOWN


def test_slopes_are_compared_on_the_same_queries(make_study):
    """Pairing tells a difference that two intervals apart would not."""
    study = make_study()
    shared = study.rng.normal(0, 0.4, len(study.difficulty))
    shared -= shared.mean()
    for system, drop in (("generative", 0.02), ("dense", 0.05)):
        study.line("corpus", system, {100: 0.5, 200: 0.5 - drop}, noise=0.02)
        study.values[f"corpus-200-{system}-s0"]["hits@1"] += shared
    found = by_id(study)
    assert found["corpus"]["verdict"] == HOLDS
    assert found["corpus_drop"]["verdict"] == UNKNOWN


def test_only_sizes_that_both_have_are_compared(make_study):
    """A cell that failed leaves no other range to the other system."""
    study = make_study()
    study.line("corpus", "generative", {100: 0.5, 200: 0.45}, noise=0.01)
    study.line("corpus", "dense", {100: 0.5, 200: 0.4, 9000: 0.9}, noise=0.01)
    assert by_id(study)["corpus"]["verdict"] == HOLDS
    study = make_study().line("corpus", "generative", {100: 0.5}).line("corpus", "dense", {9: 0.5})
    assert by_id(study)["corpus"]["verdict"] == UNKNOWN


def test_ids_alone_are_told_beside_the_system(make_study):
    """Their own slope, and how far they are from dense; the verdict is the system's."""
    study = make_study().line("corpus", "generative", {100: 0.5, 200: 0.4}, noise=0.01)
    study.line("corpus", "dense", {100: 0.5, 200: 0.4}, noise=0.01)
    before = by_id(study)
    study.line("corpus", "ids alone", {100: 0.4, 200: 0.1}, noise=0.01)
    found = by_id(study)
    assert "Ids alone" not in before["corpus"]["evidence"] + before["whole_corpus"]["evidence"]
    assert "without the ranker: -0.3000 [" in found["corpus"]["evidence"]
    assert "dense less ids alone +0.2000 [" in found["corpus"]["evidence"]
    assert "less dense: nDCG@10 -0.3000 [" in found["whole_corpus"]["evidence"]
    assert found["corpus"]["verdict"] == before["corpus"]["verdict"]


def changed(study, factor, change):
    """The study with other facts in the cells of a factor."""
    other = copy.deepcopy(study)
    for cell in other.cells:
        if cell["factor"] == factor:
            change(cell)
    return other


def test_drift_is_read_from_the_ends_of_the_corpus(full_study):
    """Intervals that meet say nothing, a fall says the contrary."""

    def level(cell):
        cell["calibration"].update(kl=around(0.3), ece=around(0.1))

    def fall(cell):
        cell["calibration"].update(kl=around(1e3 / cell["value"]), ece=around(1e3 / cell["value"]))

    for change, verdict in ((level, UNKNOWN), (fall, CONTRADICTED)):
        found = by_id(changed(full_study, "corpus", change))
        assert found["drift"]["verdict"] == verdict
        assert found["calibration"]["verdict"] == verdict


def test_calibration_of_the_defaults(full_study):
    """A small spread, sums other than one, and little leakage contradict."""

    def other(cell):
        cell["calibration"].update(log_z_spread=around(0.05), log_z_mean=-0.2, log_z_std=0.1)
        cell["leaked"] = None if cell["leaked"] is None else around(0.002, 0.001)

    found = by_id(changed(full_study, "corpus", other))
    assert found["comparable"]["verdict"] == CONTRADICTED
    assert found["normalised"]["verdict"] == CONTRADICTED
    # The kinds of ids still have their own.
    study = changed(full_study, "corpus", other)
    assert by_id(study)["leak"]["verdict"] == CONTRADICTED
    assert "rq 0.300" in by_id(study)["leak"]["evidence"]


def test_ranks(full_study):
    """A rank above the bound of dense contradicts; too few queries cannot tell."""

    def change(**facts):
        return lambda cell: cell["spectrum"] and cell["spectrum"].update(facts)

    over = by_id(changed(full_study, "dim", change(numerical_rank=200)))
    assert over["low_rank"]["verdict"] == CONTRADICTED
    few = by_id(changed(full_study, "dim", change(queries=12)))
    assert few["low_rank"]["verdict"] == UNKNOWN
    low = by_id(changed(full_study, "corpus", change(numerical_rank=14)))
    assert low["high_rank"]["verdict"] == CONTRADICTED
    middle = by_id(changed(full_study, "corpus", change(numerical_rank=100)))
    assert middle["high_rank"]["verdict"] == UNKNOWN


def test_heads_of_few_codes_cannot_tell(full_study):
    """A head of fewer codes than its width has a low rank in any case."""

    def change(**facts):
        def update(cell):
            if cell["spectrum"] and cell["spectrum"].get("head"):
                cell["spectrum"]["head"].update(facts)

        return update

    assert by_id(changed(full_study, "ids", change(codes=74)))["heads"]["verdict"] == UNKNOWN
    over = by_id(changed(full_study, "ids", change(numerical_rank=150)))
    assert over["heads"]["verdict"] == CONTRADICTED


def test_intervals_of_values_with_gaps(make_study):
    """Queries without a relevant document do not make a verdict unknown."""
    study = make_study().line("beams", "generative", {1: 0.2, 10: 0.4}, noise=0.01)
    for values in study.values.values():
        values["ndcg@10"][:50] = np.nan
    assert by_id(study)["beams"]["verdict"] == HOLDS
