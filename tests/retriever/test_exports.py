"""`import hf_genret` is light, and what it exports is found at first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hf_genret

ROOT = Path(__file__).resolve().parents[2]


def test_import_is_light():
    """Neither torch nor transformers nor gradio is imported."""
    code = (
        "import sys, hf_genret; print(dir(hf_genret)); "
        "assert not {'torch', 'transformers', 'gradio', 'pyarrow'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "'GenRetriever'" in done.stdout


@pytest.mark.parametrize("name", hf_genret.__all__)
def test_everything_exported_is_there(name):
    """Each name of __all__."""
    assert getattr(hf_genret, name) is not None


def test_other_names_are_an_attribute_error():
    """As for any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        hf_genret.nothing  # noqa: B018
