"""Generative retrieval as one HuggingFace checkpoint."""

from __future__ import annotations

from pathlib import Path as _Path

__version__ = "0.1.0"

# In a source checkout `modeling/` and `training/` stand beside this folder, not inside it.
_here = _Path(__file__).resolve().parent
if (
    not (_here / "modeling").is_dir()
    and (_here.parent / "modeling" / "configuration_genret.py").is_file()
):
    __path__.append(str(_here.parent))
