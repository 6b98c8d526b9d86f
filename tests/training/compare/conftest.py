"""Comparisons of a few steps on 80 documents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.encoding import pooled_vectors
from hf_genret.indexing import random_codes
from hf_genret.retriever import GenRetriever
from hf_genret.training import api
from hf_genret.training.build import build
from hf_genret.training.compare import compare, write

TINY = [
    "queries.pseudo=1",
    "queries.dev_limit=20",
    "bag.dim=16",
    "model.codebook_sizes=[4,4]",
    "model.decoder_dim=16",
    "model.decoder_heads=2",
    "model.decoder_layers=1",
    "search.beam_weights=[0.0]",
    "stages.encoder.max_steps=2",
    "stages.encoder.evaluations=1",
    "stages.ids.max_steps=1",
    "stages.final.max_steps=2",
    "stages.final.evaluations=1",
    "stages.ranker.max_steps=1",
    "stages.ranker.evaluations=1",
]


def quick_training(data: Any, recipe: Any, output: Path, *, seed: int, **rest: Any) -> None:
    """What `train_on` leaves behind, without a step of training."""
    del rest
    start = build(recipe, data, seed=seed)
    sizes = start.model.config.codebook_sizes
    codes = random_codes(len(data.documents), sizes, seed=seed)
    vectors = pooled_vectors(start.model, start.data.items)
    start.model.set_index(torch.from_numpy(codes.astype(np.int64)), vectors=vectors)
    beside = output.with_name(output.name + ".beside")
    beside.mkdir(parents=True)
    record = {"recipe": recipe.settings, "seconds": 1.0, "warnings": []}
    (beside / "training.json").write_text(json.dumps(record))
    facts = {"seed": seed, "data": {"fingerprint": data.fingerprint}}
    retriever = GenRetriever(start.model, start.tokenizer, data.documents)
    retriever.save_pretrained(output, extra_manifest=facts, beside=beside)
    shutil.rmtree(beside)
    shutil.rmtree(output.with_name(output.name + ".run"), ignore_errors=True)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the checkpoints that are made, in order, as `seed-0/dense`; without training.

    Pictures are left out as well.
    """
    done: list[str] = []

    def noting(data: Any, recipe: Any, output: Path, **rest: Any) -> None:
        done.append(f"{output.parent.name}/{output.name}")
        quick_training(data, recipe, output, **rest)

    monkeypatch.setattr(api, "train_on", noting)
    monkeypatch.setattr(write, "write_plots", lambda report, folder: [])
    return done


@pytest.fixture(scope="session")
def compared(
    small_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A finished comparison with two seeds: its folder, not to be changed, and its report."""
    folder = tmp_path_factory.mktemp("compared") / "out"
    systems = "fixed:kmeans,fixed:random@3x3,dense,bm25,random,fixed:kmeans+bm25"
    systems += ",fixed:index_from=fixed:random@3x3,ids:kmeans"
    return folder, compare(small_folder, systems, 2, output=folder, settings=TINY)


@pytest.fixture
def run(small_folder: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`compare` on 80 documents into a folder of the test, with tiny settings."""

    def call(systems: str, more: tuple[str, ...] = (), **arguments: Any) -> dict[str, Any]:
        arguments.setdefault("output", tmp_path / "out")
        return compare(small_folder, systems, settings=[*TINY, *more], **arguments)

    return call
