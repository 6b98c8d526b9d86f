"""Generative retrieval as one HuggingFace checkpoint."""

from __future__ import annotations

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_genret.modeling import GenRetConfig, GenRetModel
    from hf_genret.retriever import GenRetriever, Hit
    from hf_genret.training import GenRetTrainer, GenRetTrainingArguments

from hf_genret.auto_classes import watch as _watch

__version__ = "0.1.0"

__all__ = [
    "GenRetConfig",
    "GenRetModel",
    "GenRetTrainer",
    "GenRetTrainingArguments",
    "GenRetriever",
    "Hit",
    "__version__",
]

# In a source checkout `modeling/` and `training/` stand beside this folder, not inside it.
_here = _Path(__file__).resolve().parent
if (
    not (_here / "modeling").is_dir()
    and (_here.parent / "modeling" / "configuration_genret.py").is_file()
):
    __path__.append(str(_here.parent))

# Imported at first use: torch and transformers cost seconds that `--help` should not.
_HOMES = {
    "GenRetConfig": "hf_genret.modeling",
    "GenRetModel": "hf_genret.modeling",
    "GenRetTrainer": "hf_genret.training",
    "GenRetTrainingArguments": "hf_genret.training",
    "GenRetriever": "hf_genret.retriever",
    "Hit": "hf_genret.retriever",
}

_watch()


def __getattr__(name: str) -> Any:
    """Find an exported class where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_genret' has no attribute {name!r}")
    return getattr(_import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
