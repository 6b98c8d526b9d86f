"""What a system's scores of all documents say: calibration, spectrum, probability that leaks."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_genret.data import Queries
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.calibration import calibration_report
from hf_genret.evaluation.posterior import dense_scores, generative_posterior
from hf_genret.evaluation.spectrum import spectrum_report
from hf_genret.retriever import GenRetriever

NEGATIVES = 127
"""Sampled documents of the normaliser that is held against the one over all documents."""
_FEW_LEVELS = 3
"""Longer ids are mostly prefixes that one code alone can follow; reading all would take long."""


def probability_facts(
    retriever: GenRetriever, queries: Queries, has_ids: bool, seed: int
) -> dict[str, Any]:
    """Calibration, spectrum and leaked probability of a system on some queries.

    Args:
        retriever: A checkpoint.
        queries: A sample of the test queries.
        has_ids: Whether it searches by ids; else all documents are scored by the ranker.
        seed: Of sampled documents and intervals.

    Returns:
        `calibration`, `spectrum` and `leaked`, the last None without ids, and for ids of many
        levels.
    """
    model, tokenizer = retriever.model, retriever.processing_class
    config, leaked = model.config, None
    width = config.vector_dim
    if has_ids:
        free = config.num_levels <= _FEW_LEVELS
        found = generative_posterior(model, tokenizer, queries, free=free)
        scores = log_p = found.log_p
        if found.leaked is not None:
            leaked = summarise({"leaked": found.leaked}, seed=seed)["leaked"]
    else:
        scores = dense_scores(model, tokenizer, queries)
        log_p = _log_softmax(scores)
        if config.ranker_similarity == "low_rank":
            width = min(config.ranker_rank, width)
    negatives = min(NEGATIVES, config.num_documents - 1)
    return {
        "calibration": calibration_report(scores, queries.relevant, negatives, seed),
        "spectrum": spectrum_report(log_p, width),
        "leaked": leaked,
    }


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    """Of each row [Q, N]."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
