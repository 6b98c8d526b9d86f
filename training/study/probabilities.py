"""What a system's scores of all documents say: calibration, spectrum, probability that leaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_genret.data import Queries
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.calibration import calibration_report
from hf_genret.evaluation.posterior import dense_scores, generative_posterior
from hf_genret.evaluation.spectrum import head_report, spectrum_report
from hf_genret.retriever import GenRetriever
from hf_genret.training.compare.measure import has_ids
from hf_genret.training.objectives.ranker import RankerOptions
from hf_genret.training.runs import row_codes

_FEW_LEVELS = 3
"""Longer ids are mostly prefixes that one code alone can follow; reading all would take long."""


def probability_facts(
    retriever: GenRetriever, record: Mapping[str, Any], queries: Queries, seed: int
) -> dict[str, Any]:
    """Calibration, spectrum and leaked probability of a system on some queries.

    Args:
        retriever: A checkpoint.
        record: Of its training.
        queries: A sample of the test queries.
        seed: Of sampled documents and intervals.

    Returns:
        `calibration`, `spectrum` (with `head` for ids) and `leaked`, the last None without ids,
        and for ids of many levels.
    """
    if has_ids(dict(record)):
        return _generative(retriever, queries, seed)
    model, config = retriever.model, retriever.model.config
    scores = dense_scores(model, retriever.processing_class, queries)
    width = config.vector_dim
    if config.ranker_similarity == "low_rank":
        width = min(config.ranker_rank, width)
    return {
        "calibration": calibration_report(scores, queries.relevant, negatives_of(record), seed),
        "spectrum": spectrum_report(scores, width),
        "leaked": None,
    }


def negatives_of(record: Mapping[str, Any]) -> int:
    """Negatives that a query of dense training saw beside its positive."""
    stages = [stage for stage in record["recipe"]["stages"] if not stage.get("skip")]
    last = [stage for stage in stages if stage["objective"] == "ranker"][-1]
    options = RankerOptions(**(last.get("options") or {}))
    own = options.shared + options.random + options.hard + options.sibling
    return own + options.in_batch * (last.get("batch_size", 256) - 1)


def _generative(retriever: GenRetriever, queries: Queries, seed: int) -> dict[str, Any]:
    """Of a distribution over ids, which needs no sampled normaliser."""
    model, config, leaked = retriever.model, retriever.model.config, None
    free = config.num_levels <= _FEW_LEVELS
    found = generative_posterior(model, retriever.processing_class, queries, free=free)
    if found.leaked is not None:
        leaked = summarise({"leaked": found.leaked}, seed=seed)["leaked"]
    head = config.decoder_dim if config.head_type == "plain" else config.vector_dim
    return {
        "calibration": calibration_report(found.log_p, queries.relevant, None, seed),
        "spectrum": {
            **spectrum_report(found.log_p, config.vector_dim),
            "head": head_report(found.log_p, row_codes(model)[:, 0], head),
        },
        "leaked": leaked,
    }
