"""Facts that are read back as they were written or not at all, with the files they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_genret.errors import CheckpointError
from hf_genret.files import atomic_write_text

_CHECKSUM, _FILES = "checksum", "files"


def seal(path: Path, facts: Mapping[str, Any], beside: Iterable[Path] = ()) -> None:
    """Write facts as JSON, with a checksum of their own and one of each file beside them.

    Args:
        path: Of the JSON file; it comes last, so that a half-written set of files has none.
        facts: Values that JSON knows.
        beside: Files in the same folder or below it.

    Raises:
        OSError: When the disk refuses.
    """
    files = {file.relative_to(path.parent).as_posix(): _digest(file) for file in beside}
    whole = json.loads(json.dumps({**facts, _FILES: files}))
    text = json.dumps({**whole, _CHECKSUM: _checksum(whole)}, indent=1)
    atomic_write_text(path, text + "\n")


def unseal(path: Path) -> dict[str, Any]:
    """The facts of a file that `seal` wrote.

    Raises:
        CheckpointError: When it, or a file beside it, is missing or not as it was written.
    """
    facts = read_object(path)
    wanted, files = facts.pop(_CHECKSUM, None), facts.get(_FILES)
    if wanted is None or not isinstance(files, dict) or _checksum(facts) != wanted:
        raise CheckpointError(f"{path}: the file is damaged, or of another version.")
    for name, digest in facts.pop(_FILES).items():
        file = path.parent / name
        try:
            same = _digest(file) == digest
        except OSError as error:
            raise CheckpointError(f"{file}: the file is missing or cannot be read.") from error
        if not same:
            raise CheckpointError(f"{file}: the file is not as it was written; it is damaged.")
    return facts


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a file.

    Raises:
        CheckpointError: When there is none that can be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the file is damaged, it is no JSON.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: a JSON object was expected.")
    return content


def _checksum(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
