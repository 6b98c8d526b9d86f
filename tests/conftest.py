"""What every test stands on: no network, no shared caches, few threads, fixed seeds."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import tempfile

# Read once when huggingface_hub and datasets are imported, so set before anything else.
_HOME = tempfile.mkdtemp(prefix="genret-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(
    HF_HOME=_HOME,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    GRADIO_ANALYTICS_ENABLED="False",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seeds Python, NumPy and torch before each test; the value is the seed."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return 0


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A NumPy generator that starts the same in every test."""
    return np.random.default_rng(seed)


@pytest.fixture
def shop():
    """An untrained retriever of three items that reads histories and no text."""
    from hf_genret.data import Documents
    from hf_genret.modeling import GenRetConfig, GenRetModel
    from hf_genret.retriever import GenRetriever

    config = GenRetConfig(
        item_encoder={"type": "items", "num_items": 3, "dim": 8},
        history_encoder={"type": "sequence", "dim": 8},
        vector_dim=8,
        codebook_sizes=[2, 2],
        decoder_dim=8,
    )
    model = GenRetModel(config)
    model.set_index(torch.tensor([[0, 0], [0, 1], [1, 0]]), vectors=torch.randn(3, 8))
    return GenRetriever(model, None, Documents(["i1", "i2", "i3"], ["a", "b", "c"], [""] * 3))
