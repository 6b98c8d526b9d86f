"""What a checkpoint knows of itself, as a card tells it: method, data, schedule, health of ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_genret.errors import CheckpointError
from hf_genret.evaluation.health import check_ids
from hf_genret.manifest import TRAINING_FILE
from hf_genret.sealed import read_object

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object of a file, None where there is none that can be read."""
    try:
        return read_object(path)
    except CheckpointError:
        return None


def training_record(retriever: GenRetriever) -> dict[str, Any]:
    """What training wrote down of a checkpoint; empty for a corpus it was not trained on."""
    return retriever.state.record(TRAINING_FILE)


def training_facts(retriever: GenRetriever) -> dict[str, Any]:
    """How a checkpoint came about; what nobody wrote down is None or empty.

    Returns:
        `method`, `description`, `encoder`, `base_model` (a name of the Hub), `command`, `seed`,
        `seconds`, `data` (name, fingerprint, documents, notes), `queries` (that training saw),
        `schedule` (one row a stage) and `parameters`.
    """
    record, manifest = training_record(retriever), retriever.facts
    settings = record.get("recipe") or {}
    encoder = settings.get("encoder")
    return {
        "method": record.get("method"),
        "description": settings.get("description"),
        "encoder": Path(encoder).name if encoder else None,  # never a path of this machine
        "base_model": encoder if encoder and _is_hub_name(encoder) else None,
        "command": manifest.get("command"),
        "seed": manifest.get("seed"),
        "seconds": record.get("seconds"),
        "data": {"name": None, "fingerprint": None, "notes": [], **(manifest.get("data") or {})},
        "queries": (record.get("training") or {}).get("queries"),
        "schedule": schedule(record.get("schedule") or (), record.get("stages") or ()),
        "parameters": sum(weight.numel() for weight in retriever.model.parameters()),
    }


def _is_hub_name(name: str) -> bool:
    return _HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def schedule(
    planned: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The stages that ran: `name`, `objective`, `parts`, `steps`, `batch`, `rate`.

    Args:
        planned: Facts of all stages of the recipe.
        stages: The log, one entry a stage that ran.
    """
    known = {stage["name"]: stage for stage in planned}
    rows = []
    for stage in stages:
        facts = known.get(stage["stage"], {})
        level = f", level {facts['level']}" if facts.get("level") else ""
        rate = facts.get("learning_rate")
        rows.append(
            {
                "name": stage["stage"],
                "objective": f"{facts.get('objective', '-')}{level}",
                "parts": ", ".join(facts.get("train", ())) or "-",
                "steps": stage.get("steps"),
                "batch": facts.get("batch_size", "-"),
                "rate": "-" if rate is None else f"{rate:g}",
            }
        )
    return rows


def health(retriever: GenRetriever, report: Mapping[str, Any] | None) -> dict[str, Any]:
    """How well the ids are used, and what is wrong with them.

    Args:
        retriever: Its index is looked at.
        report: An evaluation report, for the APE of its split.

    Returns:
        `findings` (sentences; what training said where it was recorded, since it knows which
        levels are uneven by design) and `ape` (of the leaves, with what random ids would have;
        None where it is not known or says nothing).
    """
    record = training_record(retriever)
    if "stages" in record:
        said = [(stage["stage"], found) for stage in record["stages"] for found in _warnings(stage)]
        findings = [f"{name}: {message}" for name, message in said]
    else:
        codes = retriever.model.index.paths.cpu().numpy()
        sizes = retriever.model.config.codebook_sizes
        findings = [found.message for found in check_ids(codes, sizes)]
    index = ((report or {}).get("index") or {}).get("generative") or {}
    ape = index.get("ape") or {}
    return {
        "findings": list(dict.fromkeys(findings)),
        "ape": ape["leaf"] if ape.get("unbucketed") else None,
    }


def _warnings(stage: Mapping[str, Any]) -> list[str]:
    return [str(found["message"]) for found in stage.get("warnings", ())]
