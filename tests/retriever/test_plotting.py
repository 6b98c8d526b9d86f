"""The record of training is drawn; what is missing is said in one sentence."""

from __future__ import annotations

import json
import sys

import pytest

from hf_genret.errors import CheckpointError, ConfigError, MissingExtraError
from hf_genret.retriever import GenRetriever


@pytest.fixture
def recorded(retriever, tmp_path):
    """A checkpoint that knows how two distributions moved."""
    retriever.save_pretrained(tmp_path / "out")
    entries = [
        {
            "name": name,
            "level": level,
            "steps": [0, 100, 200],
            "probabilities": [[0.5, 0.5], [0.7, 0.3], [1, 0]],
        }
        for name in ("query: owl", "item: d3 $x")
        for level in (1, 2)
    ]
    (tmp_path / "out" / "training.json").write_text(json.dumps({"distributions": entries}))
    return GenRetriever.from_pretrained(tmp_path / "out")


def test_a_picture_is_written(recorded, tmp_path):
    """In the format that the name asks for."""
    pytest.importorskip("matplotlib")
    recorded.plot(tmp_path / "moved.png")
    assert (tmp_path / "moved.png").read_bytes().startswith(b"\x89PNG")
    recorded.plot(tmp_path / "moved.svg")
    assert "<svg" in (tmp_path / "moved.svg").read_text()


def test_what_cannot_be_drawn(recorded, retriever, tmp_path, monkeypatch):
    """An unknown format, no record, no matplotlib."""
    with pytest.raises(ConfigError, match=r"expected a name ending in one of \.png"):
        recorded.plot(tmp_path / "moved.xyz")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"hf-genret\[plot\]"):
        recorded.plot(tmp_path / "moved.png")
    (tmp_path / "out" / "training.json").write_text("{}")
    with pytest.raises(CheckpointError, match="out: this checkpoint holds no record"):
        GenRetriever.from_pretrained(tmp_path / "out").plot(tmp_path / "moved.png")
    recorded.index([{"id": "x", "text": "other documents"}])
    with pytest.raises(CheckpointError, match="this checkpoint holds no record"):
        recorded.plot(tmp_path / "moved.png")
