"""Measuring retrieval: runs, metrics with intervals, docid quality, baselines and reports.

`report` itself is imported from `hf_genret.evaluation.report`, whose name it shares.
"""

from __future__ import annotations

from pathlib import Path

from hf_genret.evaluation.baselines import bm25_run, dense_run, random_run
from hf_genret.evaluation.bootstrap import bootstrap_interval, paired_p_value
from hf_genret.evaluation.docids import ape, ape_report, docid_report, theorem1_report
from hf_genret.evaluation.evaluate import evaluate_run, per_query
from hf_genret.evaluation.interactions import cooccurrence_run, popularity_run
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
    "ape",
    "ape_report",
    "bm25_run",
    "bootstrap_interval",
    "cooccurrence_run",
    "dense_run",
    "docid_report",
    "evaluate_run",
    "markdown_table",
    "metric_folder",
    "paired_p_value",
    "per_query",
    "popularity_run",
    "random_run",
    "scrub_command",
    "table",
    "theorem1_report",
    "versions",
    "write_report",
]


def metric_folder() -> Path:
    """The folder that `evaluate.load` reads recall@k, nDCG@k and MRR@k of ranked ids from."""
    return Path(__file__).resolve().parent / "metric_folders" / "genret_retrieval"
