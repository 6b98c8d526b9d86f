"""A Hub on this machine, and programs that talk to it in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the servers, as in a folder of scripts
ROOT = Path(__file__).resolve().parents[2]
START = """
from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.errors import CheckpointError
from hf_genret import GenRetriever

texts = [f"{colour} {animal} on the {place}" for colour in ("red", "blue", "green")
         for animal in ("fox", "owl") for place in ("hill", "roof")]
corpus = Documents([f"d{i}" for i in range(len(texts))], [""] * len(texts), texts)
retriever = tiny_retriever(corpus)

def same(loaded):
    for query in ("red fox", "owl roof", "green hill"):
        one, two = retriever.search(query, k=5), loaded.search(query, k=5)
        assert one == two and len(one) == 5, (one, two)

def error(call):
    try:
        call()
    except CheckpointError as error:
        return print("ERROR", " ".join(str(error).split()))
    raise AssertionError("no error")
"""


@pytest.fixture(scope="module")
def hub():
    """A running Hub, without repositories when the module starts."""
    from fake_hub import FakeHub

    with FakeHub() as server:
        yield server


@pytest.fixture(scope="module")
def program(hub, tmp_path_factory):
    """Runs Python source in a fresh process and gives its lines; all share one cache."""
    folder = tmp_path_factory.mktemp("client")
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_dummy",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "100",  # a busy machine is no lost connection
        "HF_HUB_DOWNLOAD_TIMEOUT": "100",
        "HF_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }

    def run(source, *, start=START, **changes):
        done = subprocess.run(
            [sys.executable, "-c", start + source],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            env={**environment, **changes},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    return run
