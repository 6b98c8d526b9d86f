"""Synthetic studies: cells and values of queries with known slopes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from hf_genret.evaluation.bootstrap import summarise

QUERIES = 150
METRICS = ("hits@1", "hits@10", "mrr@10", "ndcg@10", "recall@100")


class SyntheticStudy:
    """Cells whose metrics are what is asked for, and nothing else.

    Every query has a difficulty of its own that all cells share, so that paired intervals are
    narrow and others wide.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.cells: list[dict[str, Any]] = []
        self.values: dict[str, dict[str, np.ndarray]] = {}
        self.difficulty = self.rng.normal(0, 0.2, QUERIES)
        self.difficulty -= self.difficulty.mean()

    def add(
        self,
        factor: str,
        label: str,
        system: str,
        mean: float,
        *,
        value: float | None = None,
        noise: float = 0.05,
        seed: int = 0,
        baseline: bool = False,
        **facts: Any,
    ) -> dict[str, Any]:
        """A cell whose metrics have the given mean."""
        slug = f"{factor}-{label}-{system}-s{seed}"
        values = {}
        for name in METRICS:
            own = self.rng.normal(0, noise, QUERIES)
            values[name] = (mean + self.difficulty + own - own.mean()).astype(np.float32)
        cell: dict[str, Any] = {
            "slug": slug,
            "factor": factor,
            "value": value,
            "label": label,
            "system": system,
            "baseline": baseline,
            "recipe": "uri",
            "settings": [],
            "seed": seed,
            "command": "hf-genret train DATA",
            "documents": 14_400,
            "queries": QUERIES,
            "parameters": 300_000,
            "metrics": summarise(values, samples=100),
            "documents_ranked": 500.0,
            "calibration": None,
            "spectrum": None,
            "leaked": None,
            "costs": {
                "training_seconds": 100.0,
                "latency_ms": 1.5,
                "index_bytes": 100_000,
                "vector_bytes": 22_000_000,
                "weight_bytes": 90_000_000,
            },
            **facts,
        }
        self.cells.append(cell)
        self.values[slug] = values
        return cell

    def line(
        self, factor: str, system: str, means: Mapping[float, float], **facts: Any
    ) -> SyntheticStudy:
        """Cells of one system over some values."""
        for value, mean in means.items():
            self.add(factor, f"{value:g}", system, mean, value=float(value), **facts)
        return self


def around(mean: float, width: float = 0.01) -> dict[str, float]:
    """A figure with an interval."""
    return {"mean": mean, "low": mean - width, "high": mean + width}


def calibration(kl: float, ece: float, spread: float, log_z: float = 40.0) -> dict[str, Any]:
    """What a cell says of its calibration; without a spread it normalises by itself."""
    return {
        "kl": around(kl),
        "gap": around(kl / 3),
        "ece": around(ece),
        "negatives": 127 if spread else None,
        "log_z_mean": log_z,
        "log_z_std": spread,
        "log_z_spread": around(spread, 0.02 * spread),
        "log_z_rank_correlation": None if spread == 0 else 0.8,
    }


def spectrum(rank: int, dim: int, *, effective: float | None = None, queries: int = 256) -> Any:
    """What a cell says of its ranks."""
    return {
        "effective_rank": 0.6 * rank if effective is None else effective,
        "numerical_rank": rank,
        "residual": 0.0 if rank <= dim + 1 else 0.1,
        "dim": dim,
        "bound": dim + 1,
        "queries": queries,
        "documents": 14_400,
    }


@pytest.fixture
def make_study():
    """`SyntheticStudy`."""
    return SyntheticStudy


@pytest.fixture
def full_study(whole) -> SyntheticStudy:
    """A study of every factor in which all reported findings hold."""
    return copy.deepcopy(whole)


@pytest.fixture(scope="session")
def whole() -> SyntheticStudy:
    """The same, made once."""
    study = SyntheticStudy()
    for documents, kl in ((1440, 0.2), (3600, 0.35), (7200, 0.5), (14_400, 0.7)):
        doublings = np.log2(documents / 1440)
        for system, start, slope in (("dense", 0.55, -0.03), ("generative", 0.5, -0.012)):
            label, own = f"{documents // 144} %", calibration(kl, 0.02 + kl / 5, 1.4)
            if system == "generative":
                own = calibration(0.0, 0.05, 0.0, log_z=0.0)
            study.add(
                "corpus",
                label,
                system,
                start + slope * doublings,
                value=float(documents),
                baseline=documents == 14_400,
                documents=documents,
                calibration=own,
                spectrum=spectrum(255, 384) if system == "generative" else spectrum(256, 384),
                leaked=around(0.21) if system == "generative" else None,
            )
    for dim in (16, 32, 64, 128):
        study.add(
            "dim",
            str(dim),
            "dense",
            0.3 + 0.04 * np.log2(dim / 16),
            value=float(dim),
            spectrum=spectrum(dim, dim),
        )
    study.add("dim", "full", "dense", 0.45, value=384.0, baseline=True)
    study.line("decoder", "generative", {2e4: 0.36, 8e4: 0.4, 3e5: 0.44, 2.5e6: 0.5})
    study.line("decoder", "dense", {1.5e5: 0.45, 3e5: 0.45, 4.5e5: 0.45}, noise=0.01)
    study.line("negatives", "dense", {1: 0.3, 7: 0.36, 31: 0.41, 127: 0.45})
    study.add("negatives", "in-batch", "dense", 0.46, value=63.0, baseline=True)
    study.line("hardness", "dense", {0: 0.46, 0.25: 0.45, 0.5: 0.42, 0.75: 0.38, 1: 0.33})
    for name, mean in (("dot", 0.42), ("cosine", 0.45), ("bilinear", 0.46), ("low-rank", 0.43)):
        study.add("similarity", name, "dense", mean, baseline=name == "cosine")
    for name, mean in (("atomic", 0.3), ("title", 0.32), ("rq", 0.37), ("learned", 0.42)):
        head = {"numerical_rank": 96, "codes": 14_400, "queries": 256, "dim": 96, "bound": 97}
        own = {**spectrum(200, 384), "head": head if name == "atomic" else None}
        study.add(
            "ids", name, name, mean, baseline=name == "learned", spectrum=own, leaked=around(0.3)
        )
    study.line("beams", "generative", {1: 0.25, 5: 0.37, 20: 0.42, 50: 0.43, 100: 0.435})
    study.add("zero_shot", "another corpus", "dense", 0.3)
    study.add("zero_shot", "another corpus", "generative", 0.295)
    for factor in ("dim", "negatives", "hardness", "similarity"):
        study.add(factor, "reference", "generative", 0.42, baseline=True)
    for factor in ("ids", "beams"):
        study.add(factor, "reference", "dense", 0.45, baseline=True)
    return study
