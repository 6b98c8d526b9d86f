"""Measuring retrieval: runs, metrics with intervals, docid quality, baselines and reports.

`report` itself is imported from `hf_genret.evaluation.report`, whose name it shares.
"""

from __future__ import annotations

from pathlib import Path

from hf_genret.errors import ConfigError
from hf_genret.evaluation.baselines import bm25_run, dense_run, random_run
from hf_genret.evaluation.bootstrap import bootstrap_interval, paired_p_value
from hf_genret.evaluation.docids import ape, ape_report, docid_report, theorem1_report
from hf_genret.evaluation.evaluate import evaluate_run, per_query
from hf_genret.evaluation.frequency import frequency_groups, training_counts
from hf_genret.evaluation.fusion import choose_weight, fuse
from hf_genret.evaluation.groups import grouped_metrics, query_groups
from hf_genret.evaluation.health import Finding, Thresholds, as_dicts, check_ids, check_use
from hf_genret.evaluation.interactions import cooccurrence_run, popularity_run
from hf_genret.evaluation.new_documents import content_groups
from hf_genret.evaluation.pools import candidate_recall_at, pool_curve
from hf_genret.evaluation.report import (
    markdown_table,
    scrub_command,
    table,
    versions,
    write_report,
)
from hf_genret.evaluation.run import Run
from hf_genret.evaluation.significance import compare_with

__all__ = [
    "METRICS",
    "Finding",
    "Run",
    "Thresholds",
    "ape",
    "ape_report",
    "as_dicts",
    "bm25_run",
    "bootstrap_interval",
    "candidate_recall_at",
    "check_ids",
    "check_use",
    "choose_weight",
    "compare_with",
    "content_groups",
    "cooccurrence_run",
    "dense_run",
    "docid_report",
    "evaluate_run",
    "frequency_groups",
    "fuse",
    "grouped_metrics",
    "markdown_table",
    "metric_folder",
    "paired_p_value",
    "per_query",
    "pool_curve",
    "popularity_run",
    "query_groups",
    "random_run",
    "scrub_command",
    "table",
    "theorem1_report",
    "training_counts",
    "versions",
    "write_report",
]


METRICS = ("genret_recall", "genret_ndcg", "genret_mrr", "genret_ape", "genret_docid_health")
"""Metrics for the `evaluate` library."""


def metric_folder(name: str) -> Path:
    """The folder of a metric, for `evaluate.load` and for a Space of the same name.

    Args:
        name: One of `METRICS`.

    Raises:
        ConfigError: When there is no such metric.

    Example:
        >>> evaluate.load(str(metric_folder("genret_recall")))
    """
    if name not in METRICS:
        raise ConfigError(f"there is no metric '{name}'; known are {', '.join(METRICS)}.")
    return Path(__file__).resolve().parent / "metric_folders" / name
