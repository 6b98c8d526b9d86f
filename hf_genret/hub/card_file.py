"""The card as a file: what may be replaced, what of an older one stays, whose figures it shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from huggingface_hub import metadata_load

from hf_genret.errors import ConfigError, DataError
from hf_genret.hub.card import MARKER, SYSTEM
from hf_genret.hub.facts import read_json
from hf_genret.same_texts import texts_digest

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever

KEPT = ("language", "license", "license_name", "license_link", "datasets", "base_model")
"""Front matter that people add and that no run knows."""


def check_replaceable(path: Path, *, force: bool = False) -> None:
    """Refuse to replace a card that somebody wrote or changed.

    Raises:
        ConfigError: When the file is there without the line that says it was generated.
    """
    if force or not path.is_file() or MARKER in path.read_text(encoding="utf-8"):
        return
    raise ConfigError(
        f"{path} was not written by this command, or was changed since; --force replaces it."
    )


def kept_fields(path: Path) -> dict[str, Any]:
    """Front matter of an older card that no run knows: `KEPT`.

    Raises:
        DataError: When the front matter is no YAML.
    """
    if not path.is_file():
        return {}
    try:
        known = metadata_load(path) or {}
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"expected YAML between two lines of ---: {reason}", path=path) from error
    return {name: known[name] for name in KEPT if known.get(name)}


def load_report(path: Path, retriever: GenRetriever) -> dict[str, Any]:
    """A report that is to stand in the card of a checkpoint.

    Raises:
        DataError: When it is no report of an evaluation, or one of other documents.
    """
    report = read_json(path)
    data = (report or {}).get("data") or {}
    systems = (report or {}).get("systems") or {}
    if report is None or not isinstance(data, dict) or SYSTEM not in systems:
        raise DataError(
            f"expected a report of `hf-genret evaluate` with the system '{SYSTEM}'.", path=path
        )
    found, expected = data.get("documents"), len(retriever.documents)
    if found != expected:
        message = f"the report is of {found} documents, the checkpoint holds {expected}."
        raise DataError(message, path=path)
    if data.get("texts") not in (None, texts_digest(retriever.documents)):
        raise DataError("the report is of other documents than the checkpoint's.", path=path)
    return report


def card_facts(path: Path) -> dict[str, Any]:
    """What a program wants to know of a written card: its place and its front matter."""
    return {"card": str(path), "metadata": metadata_load(path)}
