"""Facts are read back as they were written, or a sentence says which file is not."""

from __future__ import annotations

import json

import pytest

from hf_genret.errors import CheckpointError
from hf_genret.sealed import read_object, seal, unseal

FACTS = {"a": [1, 2.5, None], "b": {"c": "x"}, "nan": float("inf")}


@pytest.fixture
def sealed(tmp_path):
    """Facts with a file beside them."""
    (tmp_path / "x.bin").write_bytes(b"12345")
    seal(tmp_path / "facts.json", FACTS, [tmp_path / "x.bin"])
    return tmp_path


def test_what_was_sealed_comes_back(sealed):
    """And nothing else."""
    assert unseal(sealed / "facts.json") == FACTS


def test_another_value_is_noticed(sealed):
    """Even one that reads well."""
    path = sealed / "facts.json"
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(CheckpointError, match=r"facts\.json: the file is damaged"):
        unseal(path)


def test_another_file_beside_is_noticed(sealed):
    """Changed, or gone."""
    (sealed / "x.bin").write_bytes(b"12346")
    with pytest.raises(CheckpointError, match=r"x\.bin: the file is not as it was written"):
        unseal(sealed / "facts.json")
    (sealed / "x.bin").unlink()
    with pytest.raises(CheckpointError, match=r"x\.bin: the file is missing"):
        unseal(sealed / "facts.json")


@pytest.mark.parametrize("text", ["", "[", "[1]", "[" * 100_000, "\xff", '{"a": ' + "9" * 5000])
def test_what_is_no_object(tmp_path, text):
    """Not JSON, too deep, too long a number, a list."""
    path = tmp_path / "x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"x\.json: "):
        read_object(path)


def test_an_object_without_a_seal(tmp_path):
    """Of another version, or made by hand."""
    (tmp_path / "x.json").write_text(json.dumps(FACTS))
    with pytest.raises(CheckpointError, match="damaged, or of another version"):
        unseal(tmp_path / "x.json")
