"""The Space opens with and without a checkpoint."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import yaml

SPACE = Path(__file__).resolve().parents[2] / "spaces_app"


def load(folder):
    """app.py of a folder as a module."""
    spec = importlib.util.spec_from_file_location("space_app", folder / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def space(monkeypatch):
    """spaces_app/app.py, no checkpoint named."""
    monkeypatch.delenv("GENRET_CHECKPOINT", raising=False)
    return load(SPACE)


def test_without_a_checkpoint(space, monkeypatch):
    """A tiny retriever over a part of Python's documentation, which finds it."""
    pytest.importorskip("gradio")
    monkeypatch.setattr(space, "MODULES", ["os", "random", "json"])
    retriever = space.load_retriever()
    assert retriever.search(space.EXAMPLES[0], k=1)[0].id == "os.path.join"
    assert "choice" in retriever.search("choose a random element", k=1)[0].id
    assert {"module", "kind"} <= set(retriever.documents.columns)


def test_with_a_checkpoint(space, retriever, tmp_path, monkeypatch):
    """The folder that the environment names, and its page."""
    gradio = pytest.importorskip("gradio")
    retriever.save_pretrained(tmp_path / "out")
    monkeypatch.setenv("GENRET_CHECKPOINT", str(tmp_path / "out"))
    assert space.load_retriever().documents.ids == retriever.documents.ids
    assert isinstance(space.build(), gradio.Blocks)


def test_the_name_can_stand_beside_it(tmp_path, monkeypatch):
    """checkpoint.txt, as a push fills it in; the environment goes before it."""
    monkeypatch.delenv("GENRET_CHECKPOINT", raising=False)
    shutil.copytree(SPACE, tmp_path / "space")
    (tmp_path / "space" / "checkpoint.txt").write_text("me/my-genret\n", encoding="utf-8")
    space = load(tmp_path / "space")
    assert space.checkpoint_name() == "me/my-genret"
    monkeypatch.setenv("GENRET_CHECKPOINT", "other/one")
    assert space.checkpoint_name() == "other/one"
    (tmp_path / "space" / "checkpoint.txt").unlink()
    monkeypatch.delenv("GENRET_CHECKPOINT")
    assert space.checkpoint_name() == ""


def test_the_front_matter():
    """What the Hub needs to run it; gradio comes from sdk_version."""
    facts = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---")[1])
    version = str(facts["sdk_version"]).split(".")
    assert facts["sdk"] == "gradio" and len(version) == 3 and all(v.isdigit() for v in version)
    assert (SPACE / facts["app_file"]).is_file() and len(facts["short_description"]) <= 60
    pins = (SPACE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"gradio=={facts['sdk_version']}" in pins
    needed = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert not [line for line in needed if line.startswith("gradio")]
    assert (SPACE / "screenshot.png").stat().st_size < 150_000
