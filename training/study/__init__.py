"""The study: when generative retrieval beats dense retrieval, on the user's own data."""

from __future__ import annotations

from hf_genret.training.study.plan import Wish
from hf_genret.training.study.runner import list_cells, study

__all__ = ["Wish", "list_cells", "study"]
