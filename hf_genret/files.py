"""Files and folders that are complete or absent: written beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file so that a reader sees the old or the new content, never a part.

    Args:
        path: Where the file shall stand; missing parents are made.
        text: The whole content.

    Raises:
        OSError: When the disk refuses; the old file is then untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill; on success it takes the place of `path`, else it vanishes.

    Args:
        path: The final place. An existing folder there is replaced only after the new one is whole.

    Yields:
        The temporary folder beside `path` to write into.

    Raises:
        FileExistsError: When `path` is a file.
        OSError: When the disk refuses; the old folder is then untouched.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; a folder was expected.")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.new-"))
    fresh.chmod(0o755)
    try:
        yield fresh
        _swap(fresh, path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _swap(fresh: Path, path: Path) -> None:
    """Put `fresh` where `path` is; the old folder is removed last."""
    if not path.exists():
        os.replace(fresh, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old-"))
    os.replace(path, old / "folder")
    try:
        os.replace(fresh, path)
    except BaseException:
        os.replace(old / "folder", path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path` to write a large file under; on success it takes that place.

    Args:
        path: The final place; missing parents are made.

    Yields:
        The temporary name; nothing stands there yet.

    Raises:
        IsADirectoryError: When `path` is a folder.
        OSError: When the disk refuses; an old file is then untouched.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; a file was expected.")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.new-"))
    try:
        fresh = folder / path.name
        yield fresh
        os.replace(fresh, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
