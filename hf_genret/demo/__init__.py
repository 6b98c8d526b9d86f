"""The demo page, and a retriever small enough to be built when it opens."""

from __future__ import annotations

from hf_genret.demo.app import build_demo, serve
from hf_genret.demo.tiny import tiny_retriever

__all__ = ["build_demo", "serve", "tiny_retriever"]
