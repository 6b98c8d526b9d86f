"""Imports go one way: modeling, then hf_genret, then training, then the commands."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAVELS = {"torch", "transformers", "numpy", "safetensors"}


def imported(path):
    """Names of the modules that a file imports, relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def sources(*folders):
    """Python files under top-level folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources("modeling"), ids=name_of)
def test_modeling_needs_only_its_siblings_and_torch(path):
    """What travels with a checkpoint runs where this package is not installed."""
    import sys

    assert path.parent == ROOT / "modeling", "remote code is flat"
    for module in imported(path):
        if module.startswith("."):
            assert module.count(".") == 1 and (ROOT / "modeling" / f"{module[1:]}.py").is_file()
        else:
            assert module.split(".")[0] in TRAVELS | set(sys.stdlib_module_names), module


def test_training_is_imported_by_training_and_commands_alone():
    """Only the lazy names of hf_genret/__init__.py and the commands know training."""
    free = {ROOT / "hf_genret" / "__init__.py", *sources("hf_genret/cli")}
    wrong = [
        name_of(path)
        for path in sources("hf_genret")
        if path not in free
        and any(name.startswith("hf_genret.training") for name in imported(path))
    ]
    assert not wrong


def test_nothing_but_the_commands_imports_the_commands():
    """hf_genret.cli stands last; two files are other ways to call a command."""
    ways = [ROOT / "training" / "train.py", ROOT / "hf_genret" / "__main__.py"]
    wrong = [
        name_of(path)
        for path in sources("hf_genret", "training")
        if path not in [*ways, *sources("hf_genret/cli")]
        and any(name.startswith("hf_genret.cli") for name in imported(path))
    ]
    assert not wrong
