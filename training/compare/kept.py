"""Measured runs on disk: a JSON of figures and a safetensors file of what was returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from hf_genret.errors import CheckpointError
from hf_genret.evaluation import Run
from hf_genret.evaluation.report import plain
from hf_genret.files import atomic_file
from hf_genret.sealed import seal, unseal


def save_measured(place: Path, run: Run, facts: dict[str, Any], identity: dict[str, Any]) -> None:
    """Write a run and its figures; the JSON, which names them whole, comes last.

    Args:
        place: Path without ending.
        run: What the system returned.
        facts: Figures, plain values.
        identity: What they are figures of.
    """
    json_file = place.with_name(place.name + ".json")
    with atomic_file(place.with_name(place.name + ".safetensors")) as fresh:
        save_file(run_arrays(run), fresh)
        json_file.unlink(missing_ok=True)  # figures never stand beside another run
    about = {
        "name": run.name,
        "latency_ms": run.latency_ms,
        "bytes": run.bytes,
        "notes": run.notes,
        "facts": run.facts,
    }
    arrays = place.with_name(place.name + ".safetensors")
    seal(json_file, plain({"identity": identity, "run": about, "facts": facts}), [arrays])


def load_measured(place: Path, identity: dict[str, Any]) -> tuple[Run, dict[str, Any]] | None:
    """A run and its figures; None where there are none of this identity, or damaged ones.

    Args:
        place: Path without ending.
        identity: What they have to be figures of.
    """
    try:
        whole = unseal(place.with_name(place.name + ".json"))
    except CheckpointError:
        return None
    if whole["identity"] != plain(identity):
        return None
    arrays = load_file(place.with_name(place.name + ".safetensors"))
    return run_from(arrays, whole["run"]), whole["facts"]


def run_arrays(run: Run) -> dict[str, np.ndarray]:
    """A run as flat arrays: rows, scores, and the leaves in the order visited."""
    rows, lengths = _packed(run.rows)
    arrays = {"rows": rows, "row_lengths": lengths}
    if run.scores is not None:
        arrays["scores"] = _packed(run.scores)[0].astype(np.float32)
    if run.pools is not None:
        arrays["pools"], arrays["pool_lengths"] = _packed(run.pools)
    if run.buckets is not None:
        leaves = [leaf for leaves in run.buckets for leaf in leaves]
        arrays["leaf_rows"], arrays["leaf_lengths"] = _packed(leaves)
        arrays["leaves"] = np.asarray([len(leaves) for leaves in run.buckets], dtype=np.int32)
    return arrays


def run_from(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> Run:
    """`run_arrays` undone."""
    buckets = None
    if "leaves" in arrays:
        leaves = _unpacked(arrays["leaf_rows"].astype(np.int64), arrays["leaf_lengths"])
        ends = np.cumsum(arrays["leaves"])
        starts = ends - arrays["leaves"]
        buckets = [leaves[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    pools = None
    if "pools" in arrays:
        pools = _unpacked(arrays["pools"].astype(np.int64), arrays["pool_lengths"])
    scores = None
    if "scores" in arrays:
        scores = _unpacked(arrays["scores"], arrays["row_lengths"])
    rows = _unpacked(arrays["rows"].astype(np.int64), arrays["row_lengths"])
    return Run(rows=rows, scores=scores, pools=pools, buckets=buckets, **about)


def _packed(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ragged arrays as one, and their lengths; row numbers as int32 where they fit."""
    lengths = np.asarray([len(array) for array in arrays], dtype=np.int32)
    flat = np.concatenate(arrays) if len(arrays) else np.empty(0, dtype=np.int64)
    if flat.dtype == np.int64 and (not len(flat) or flat.max() < 2**31):
        flat = flat.astype(np.int32)
    return np.ascontiguousarray(flat), lengths


def _unpacked(flat: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []
