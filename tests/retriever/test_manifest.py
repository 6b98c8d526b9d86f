"""manifest.json lists what a folder consists of and finds what is not as it was."""

from __future__ import annotations

import hashlib
import json

import pytest

from hf_genret import manifest
from hf_genret.errors import CheckpointError
from hf_genret.manifest import check_manifest, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    """Three files, one in a sub-folder, and their manifest."""
    (tmp_path / "sub").mkdir()
    for name in ("a.bin", "sub/b.json", "README.md", "optimizer.pt"):
        (tmp_path / name).write_text(f"content of {name}")
    write_manifest(tmp_path, seed=3, data={"name": "toy"}, extra={"command": "train"})
    return tmp_path


def test_what_it_says(folder):
    """Files with size and checksum, versions, seed, data, further entries."""
    found = json.loads((folder / "manifest.json").read_text())
    assert set(found["files"]) == {"a.bin", "sub/b.json", "README.md", "optimizer.pt"}
    assert found["files"]["a.bin"] == {
        "size": 16,
        "sha256": hashlib.sha256(b"content of a.bin").hexdigest(),
    }
    assert found["seed"] == 3 and found["data"] == {"name": "toy"} and found["command"] == "train"
    assert found["versions"]["hf_genret"] and found["versions"]["torch"]
    assert read_manifest(folder) == found


def test_an_untouched_folder_passes(folder):
    """Also with more files than listed, and with another card, and without training states."""
    check_manifest(folder, full=True)
    (folder / "more.txt").write_text("more")
    (folder / "README.md").write_text("edited on the Hub")
    (folder / "optimizer.pt").unlink()
    check_manifest(folder, full=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), "b.json is missing"),
        (lambda path: path.write_text("short"), "b.json should have 21 bytes, it has 5"),
        (lambda path: path.write_text("x" * 21), "b.json has another checksum"),
    ],
)
def test_the_first_wrong_file_is_named(folder, change, said):
    """With the folder and what to do."""
    change(folder / "sub" / "b.json")
    with pytest.raises(CheckpointError, match=said) as error:
        check_manifest(folder)
    assert str(error.value).startswith(str(folder)) and "remove manifest.json" in str(error.value)


def test_large_files_are_read_only_when_asked(folder, monkeypatch):
    """Their size is compared always, their checksum with full=True."""
    monkeypatch.setattr(manifest, "SMALL", 10)
    (folder / "a.bin").write_text("x" * 16)
    check_manifest(folder)
    with pytest.raises(CheckpointError, match=r"a\.bin has another checksum"):
        check_manifest(folder, full=True)


def test_no_manifest_is_allowed(tmp_path):
    """A folder that transformers alone wrote has none."""
    assert read_manifest(tmp_path) is None
    check_manifest(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"files": {"a": {"size": "x"}}}', '{"files": 3}']
)
def test_what_is_no_manifest(tmp_path, text):
    """One sentence with the path."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json: expected the list of"):
        check_manifest(tmp_path)
