"""Where checkpoints go: what stands there, what may be replaced, what stays."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from hf_genret.errors import CheckpointError
from hf_genret.manifest import FIGURES, MANIFEST_FILE, MEASURED, TRAINING_FILE, listed_files, unlist
from hf_genret.sealed import read_object

CONFIG_FILE, REPORT_FILE = "config.json", "report.json"
MODEL_TYPE = "genret"


def object_of(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        return read_object(path)
    except CheckpointError:
        return {}


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder's config.json says that it is a checkpoint of this package."""
    return object_of(folder / CONFIG_FILE).get("model_type") == MODEL_TYPE


def check_place(folder: str | Path) -> Path:
    """Refuse a place that no checkpoint may take.

    Args:
        folder: Where a checkpoint shall go.

    Returns:
        The same as an absolute path.

    Raises:
        CheckpointError: For a file, the working folder, or the folder of another kind of model.
    """
    path = Path(folder).expanduser().resolve()
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{folder} is a file; a folder for the checkpoint was expected.")
    if path == Path.cwd():
        raise CheckpointError(f"{folder}: the working folder cannot be replaced; name another.")
    if (path / CONFIG_FILE).exists() and not is_checkpoint(path):
        kind = object_of(path / CONFIG_FILE).get("model_type")
        what = f"a model of type '{kind}'" if kind else f"a {CONFIG_FILE} of something else"
        raise CheckpointError(f"{folder} holds {what}, which stays; name another folder.")
    return path


def check_output(folder: str | Path, *, overwrite: bool) -> Path:
    """Refuse to replace a checkpoint that nobody said may go.

    Args:
        folder: Where a command's checkpoint shall go.
        overwrite: Whether a checkpoint that stands there may be replaced.

    Returns:
        The same as an absolute path.

    Raises:
        CheckpointError: As `check_place`; and for a checkpoint that stands there, saying which.
    """
    path = check_place(folder)
    if is_checkpoint(path) and not overwrite:
        raise CheckpointError(
            f"{folder} holds a checkpoint ({describe_standing(path)}); --overwrite replaces it."
        )
    return path


def check_results(folder: Path, fingerprint: str, *, overwrite: bool) -> None:
    """Refuse to replace the results of a comparison or study on other data.

    Args:
        folder: Where results go.
        fingerprint: Of the data that they are of.
        overwrite: Whether others may be replaced.

    Raises:
        CheckpointError: Saying what stands there.
    """
    standing = object_of(folder / REPORT_FILE).get("data")
    if overwrite or not isinstance(standing, dict) or standing.get("fingerprint") == fingerprint:
        return
    date = datetime.fromtimestamp((folder / REPORT_FILE).stat().st_mtime)
    raise CheckpointError(
        f"{folder} holds results on other data ({standing.get('name')}, "
        f"{standing.get('documents')} documents, {date:%Y-%m-%d %H:%M}); --overwrite replaces them."
    )


def describe_standing(folder: Path) -> str:
    """Say which checkpoint stands in a folder: method, documents, date."""
    config = object_of(folder / CONFIG_FILE)
    method = object_of(folder / TRAINING_FILE).get("method")
    documents = config.get("num_documents")
    dated = folder / MANIFEST_FILE if (folder / MANIFEST_FILE).is_file() else folder / CONFIG_FILE
    date = datetime.fromtimestamp(dated.stat().st_mtime)
    parts = [f"method {method}"] if isinstance(method, str) else []
    parts += [f"{documents:,} documents"] if isinstance(documents, int) else []
    return ", ".join([*parts, f"saved {date:%Y-%m-%d %H:%M}"])


def keep_others(old: Path, fresh: Path, *, same: bool) -> None:
    """Link what an old folder holds beside its checkpoint into the new one.

    Args:
        old: What is replaced.
        fresh: What comes into its place, whole but for this.
        same: Whether it is the same checkpoint; then what was measured of it stays too.

    Raises:
        CheckpointError: When a file of the new checkpoint would replace one of somebody else's.
    """
    listed, ours = listed_files(old), is_checkpoint(old)
    for file in sorted(old.rglob("*")):
        name = file.relative_to(old)
        if file.is_dir() and not file.is_symlink():
            if not any(file.iterdir()):
                (fresh / name).mkdir(parents=True, exist_ok=True)
            continue
        new = os.path.lexists(fresh / name)
        if same and name.parts[0] in MEASURED:
            stays = not new
        elif listed is not None and name.as_posix() in listed:
            stays = False
        elif name.name in FIGURES:  # the older checkpoint's, or somebody's own
            stays = not (ours and _written_by_us(file))
        else:
            stays = not (new and ours and listed is None)  # a save of transformers alone
        if stays:
            _keep(file, fresh, name)


def _keep(file: Path, fresh: Path, name: Path) -> None:
    """Link one file of somebody else's; a card or a report goes before one of ours."""
    if os.path.lexists(fresh / name):
        if name.name not in FIGURES:
            raise CheckpointError(
                f"{file} belongs to no checkpoint and would be replaced; move it away."
            )
        (fresh / name).unlink()
        unlist(fresh, name.as_posix())
    (fresh / name).parent.mkdir(parents=True, exist_ok=True)
    _link(file, fresh / name)


def _written_by_us(file: Path) -> bool:
    """Whether a card or report beside a checkpoint is of our making: it speaks of that alone."""
    if file.suffix == ".json":
        return "systems" in object_of(file)
    return "hf-genret card" in file.read_text(encoding="utf-8", errors="replace")


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the disk knows no such thing."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
