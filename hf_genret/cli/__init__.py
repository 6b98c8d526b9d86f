"""The commands of `hf-genret`: one file each, thin; the work is done by the package."""

from __future__ import annotations
