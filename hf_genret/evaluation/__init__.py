"""Measuring retrieval: runs, metrics with intervals, docid quality, baselines and reports."""

from __future__ import annotations

from hf_genret.evaluation.bootstrap import bootstrap_interval, paired_p_value
from hf_genret.evaluation.evaluate import evaluate_run, per_query
from hf_genret.evaluation.report import (
    markdown_table,
    scrub_command,
    table,
    versions,
    write_report,
)
from hf_genret.evaluation.run import Run

__all__ = [
    "Run",
    "bootstrap_interval",
    "evaluate_run",
    "markdown_table",
    "paired_p_value",
    "per_query",
    "scrub_command",
    "table",
    "versions",
    "write_report",
]
