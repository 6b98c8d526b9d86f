"""The Hub: the model card and the upload."""

from __future__ import annotations

from hf_genret.hub.card import GenRetModelCardData, read_report, render_card, write_card
from hf_genret.hub.push import push, push_folder
from hf_genret.hub.space import push_space

__all__ = [
    "GenRetModelCardData",
    "push",
    "push_folder",
    "push_space",
    "read_report",
    "render_card",
    "write_card",
]
