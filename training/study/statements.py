"""The findings of the comparative study (arXiv 2509.22116), held against a study one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_genret.training.study import findings, theory
from hf_genret.training.study.lines import Facts, Values
from hf_genret.training.study.verdicts import Check, Findings

CHECKS: tuple[Check, ...] = (
    findings.negatives_help,
    findings.hardness_harms,
    findings.parameters_help_one,
    findings.corpus_harms_both,
    findings.corpus_harms_dense_more,
    findings.dense_is_better,
    findings.zero_shot_competes,
    findings.beams_help,
    theory.drift_grows,
    theory.calibration_worsens,
    theory.scores_not_comparable,
    theory.dense_has_low_rank,
    theory.generative_has_high_rank,
    theory.generative_sums_to_one,
    theory.free_softmax_leaks,
    theory.each_head_has_low_rank,
)
"""In the order of the report."""


def statements(cells: Sequence[Facts], values: Values) -> list[dict[str, Any]]:
    """Every finding with its verdict.

    A verdict is `holds` only where the 95 % interval says so, `does not hold here` only where it
    says the contrary, else `cannot be told`. Intervals are over queries, paired wherever two cells
    are compared; they do not cover how trainings with other seeds would differ.

    Args:
        cells: Cells with their `slug`.
        values: Slug -> metric -> values [Q].

    Returns:
        One entry a finding: `id`, `source`, `text`, `verdict`, `evidence`.

    Raises:
        DataError: When cells of a factor have values for different numbers of queries.
    """
    found = Findings(cells, values)
    return [check(found).as_dict() for check in CHECKS]
