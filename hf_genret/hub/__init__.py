"""The Hub: the model card and the upload."""

from __future__ import annotations

from hf_genret.hub.card import GenRetModelCardData, read_report, render_card, write_card
from hf_genret.hub.push import push

__all__ = ["GenRetModelCardData", "push", "read_report", "render_card", "write_card"]
