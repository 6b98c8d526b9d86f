"""manifest.json: what a checkpoint consists of, so that a part of one is never taken for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hf_genret.errors import CheckpointError

MANIFEST_FILE = "manifest.json"
SMALL = 64 * 2**20
"""Files from this size on have their checksum compared only when that is asked for."""

FOR_TRAINING = (
    "training_args.bin",
    "optimizer*",
    "scheduler*",
    "*.pt",
    "*.pth",
    "baselines/*",
    "adapter/*",  # of a checkpoint that was trained with LoRA; it is a folder of its own
)
"""What a search does not miss: training's own files, not pushed with the checkpoint."""

FIGURES = ("README.md", "report.json")
"""The card, and the report whose figures it shows."""

TRAINING_FILE = "training.json"
"""The record of the training."""

MEASURED = (*FIGURES, TRAINING_FILE, "baselines", "adapter")
"""What is known of one checkpoint and of no other."""

FOR_PEOPLE = (*FIGURES, ".gitattributes")
"""What people and later evaluations may rewrite without making another checkpoint of it."""


def write_manifest(
    folder: str | Path,
    *,
    seed: int | None = None,
    data: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write manifest.json for the files that a fresh folder holds; nothing is written after it.

    Args:
        folder: A checkpoint folder.
        seed: Seed of the training run.
        data: What was indexed, for example its name and fingerprint.
        extra: Further entries.

    Raises:
        OSError: When the disk refuses.
    """
    from hf_genret.evaluation import versions

    folder = Path(folder)
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST_FILE
    }
    manifest = {
        **(extra or {}),
        "format": 1,
        "versions": versions(),
        "seed": seed,
        "data": dict(data) if data is not None else None,
        "files": files,
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """The manifest of a folder, None where it has none.

    Raises:
        CheckpointError: When it is no manifest.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = manifest["files"]
        if not all(isinstance(entry["size"], int) for entry in files.values()):
            raise TypeError("a size that is no whole number")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"{path}: expected the list of the checkpoint's files, found something else."
        raise CheckpointError(message) from error
    found: dict[str, Any] = manifest
    return found


def listed_files(folder: str | Path) -> set[str] | None:
    """The files that a folder's manifest names, itself with them; None where it has none of ours.

    Nothing else in the folder belongs to the checkpoint.
    """
    try:
        manifest = read_manifest(folder)
    except CheckpointError:
        return None
    return None if manifest is None else {*manifest["files"], MANIFEST_FILE}


def unlist(folder: Path, name: str) -> None:
    """Take a file that is not the checkpoint's out of the manifest of a fresh folder."""
    path = folder / MANIFEST_FILE
    if path.is_file():
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["files"].pop(name, None)
        path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def weights_digest(folder: str | Path) -> str:
    """16 hexadecimal digits of what a checkpoint's weights and ids are.

    Raises:
        CheckpointError: When it has no manifest.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise CheckpointError(f"{folder} has no manifest.")
    sums = [
        f"{name} {entry.get('sha256')}"
        for name, entry in sorted(manifest["files"].items())
        if name.endswith(".safetensors") and not name.startswith("baselines/")
    ]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:16]


def check_manifest(folder: str | Path, *, full: bool = False) -> None:
    """Compare a folder with its manifest; a folder without one passes.

    Sizes are always compared, checksums of files below 64 MB too, those of larger files only with
    `full`. Files that serve training or people (`FOR_TRAINING`, `FOR_PEOPLE`) are not compared.

    Args:
        folder: A checkpoint folder.
        full: Compare every checksum.

    Raises:
        CheckpointError: Naming the first file that is missing, of another size, or changed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, entry in (manifest or {"files": {}})["files"].items():
        if any(fnmatch(name, pattern) for pattern in (*FOR_TRAINING, *FOR_PEOPLE)):
            continue
        wrong = _wrong(folder / name, entry, full)
        if wrong is not None:
            raise CheckpointError(
                f"{folder}: {wrong}; fetch or save the checkpoint again (if the change was meant, "
                f"remove {MANIFEST_FILE})."
            )


def _wrong(path: Path, entry: Mapping[str, Any], full: bool) -> str | None:
    """What a file's entry and the file disagree about."""
    if not path.is_file():
        return f"{path.name} is missing"
    size = path.stat().st_size
    if size != entry["size"]:
        return f"{path.name} should have {entry['size']:,} bytes, it has {size:,}"
    if (full or size < SMALL) and sha256(path) != entry.get("sha256"):
        return f"{path.name} has another checksum than when it was saved"
    return None


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
