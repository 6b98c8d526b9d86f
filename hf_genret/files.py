"""Files and folders that are complete or absent: written beside their place, then renamed.

What a killed process left beside its place is removed by the next one that writes there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hf_genret.manifest import FIGURES, listed_files
from hf_genret.swap import Held, exchange, lock, remove_folder

_PATIENCE = 5.0  # seconds that a fresh folder waits for whoever takes it for a leftover
_FRESH, _OLD = "new", "old"  # kinds of temporary folders
_WHOLE = "folder"  # in an old one: what stood in the place


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file so that a reader sees the old or the new content, never a part.

    Args:
        path: Where the file shall stand; missing parents are made.
        text: The whole content.

    Raises:
        OSError: When the disk refuses; the old file is then untouched.
    """
    with atomic_file(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


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
    with _temporary(path, _FRESH) as folder:
        fresh = folder / path.name
        yield fresh
        _open_to_readers(folder)
        os.replace(fresh, path)


@contextmanager
def atomic_folder(
    path: str | Path, keep: Callable[[Path, Path], None] | None = None
) -> Iterator[Path]:
    """Give an empty folder to fill; on success it takes the place of `path`, else it vanishes.

    From outside `path` is the old folder or the new one at any moment, where system and disk can
    exchange two folders (Linux and macOS on their own disks). Elsewhere there is a moment between
    two renames when it is neither; a process that dies in it leaves the old folder to the next
    command, which brings it back (`recover`).

    Args:
        path: The final place. An existing folder there is replaced only after the new one is whole.
        keep: Called with the old and the new folder before they change places, where there is an
            old one: links what shall stay. Files that come into the old folder later stay too.

    Yields:
        The temporary folder beside `path` to write into.

    Raises:
        FileExistsError: When `path` is a file.
        OSError: When the disk refuses; the old folder is then untouched.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; a folder was expected.")
    recover(path)
    with _temporary(path, _FRESH) as fresh:
        yield fresh
        _open_to_readers(fresh)
        if not path.exists():
            os.replace(fresh, path)
            return
        if keep is not None:
            keep(path, fresh)
        shutil.copymode(path, fresh)
        if not exchange(fresh, path):
            _replace_in_two_steps(fresh, path)


def recover(path: Path) -> None:
    """Bring back a folder that a process took away from its place and died, where there is one.

    One that a living process is about to replace is waited for.

    Raises:
        OSError: When the disk refuses.
    """
    end = time.monotonic() + _PATIENCE
    while not path.exists() and time.monotonic() < end:
        away = [one for one in _leftovers(path, _OLD) if (one / _WHOLE).is_dir()]
        if not away:
            return
        for leftover in away:
            with _free(leftover) as free, suppress(FileNotFoundError):
                if free:
                    os.replace(leftover / _WHOLE, path)
                    return
        time.sleep(0.02)


def _replace_in_two_steps(fresh: Path, path: Path) -> None:
    """Put `fresh` where `path` is, on disks that cannot exchange folders."""
    with _temporary(path, _OLD) as old:
        os.replace(path, old / _WHOLE)
        try:
            os.replace(fresh, path)
        except BaseException:
            os.replace(old / _WHOLE, path)
            raise
        os.replace(old / _WHOLE, fresh)  # from here on as after an exchange


@contextmanager
def _temporary(path: Path, kind: str) -> Iterator[Path]:
    """A folder beside `path`, locked as long as it is in use; it is removed in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    folder, held = _locked_folder(path, kind)
    try:
        yield folder
    finally:
        if held is not None:
            held.close()
        with suppress(OSError):
            _discard(folder, path)


def _locked_folder(path: Path, kind: str) -> tuple[Path, Held | None]:
    while True:
        folder = path.parent / f".{path.name}.{kind}-{secrets.token_hex(4)}"
        folder.mkdir()
        held = lock(folder, patience=_PATIENCE)
        if folder.is_dir():
            return folder, held
        if held is not None:  # somebody took it for a leftover before it was locked
            held.close()


def _discard(folder: Path, path: Path) -> None:
    """Remove a folder that gave its place to `path`, or that never came to have it.

    What its manifest does not list and `path` lacks was put there by somebody else in the last
    moment, and moves to `path`; but for card and report, which speak of the old checkpoint.
    """
    if not folder.is_dir():
        return
    listed = listed_files(folder)
    for file in sorted(folder.rglob("*")) if listed is not None and path.is_dir() else []:
        name = file.relative_to(folder)
        ours = name.as_posix() in (listed or ()) or name.name in FIGURES
        if file.is_dir() or ours or os.path.lexists(path / name):
            continue
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, path / name)
    remove_folder(folder)


def _leftovers(path: Path, kind: str) -> list[Path]:
    if not path.parent.is_dir():
        return []
    start = f".{path.name}.{kind}-"
    return [one for one in path.parent.iterdir() if one.name.startswith(start) and one.is_dir()]


@contextmanager
def _free(leftover: Path) -> Iterator[bool]:
    """Whether no living process uses a temporary folder; without locks, that is not known."""
    held = lock(leftover)
    try:
        yield held is not None or os.name != "posix"
    finally:
        if held is not None:
            held.close()


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that died left beside `path`."""
    for leftover in [*_leftovers(path, _FRESH), *_leftovers(path, _OLD)]:
        with _free(leftover) as free, suppress(OSError):
            whole = leftover / _WHOLE
            if whole.is_dir() and not path.exists():
                continue  # the only one there is; `recover` brings it back
            gone = free and os.name == "posix"
        if gone:
            _discard(whole if whole.is_dir() else leftover, path)
            remove_folder(leftover)


def _open_to_readers(folder: Path) -> None:
    """Give files the mode that the umask says; some libraries write theirs for one user alone."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(mode)


class ScratchFolder:
    """A folder for what nobody needs after this process, in the system's place for such.

    It goes with the object. Those of processes that were killed go when the next one is made.

    Args:
        purpose: Part of its name, for example `corpus`.

    Example:
        >>> with ScratchFolder("push") as folder:
        ...     (folder / "file").write_text("x")
    """

    def __init__(self, purpose: str) -> None:
        prefix = f"genret-{purpose}-"
        self._remove_abandoned(prefix)
        self._folder = tempfile.TemporaryDirectory(prefix=prefix)
        self.path = Path(self._folder.name)
        self._held = lock(self.path)

    @staticmethod
    def _remove_abandoned(prefix: str) -> None:
        """Remove folders of this user that no living process has locked."""
        for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*") if os.name == "posix" else ():
            with suppress(OSError):
                state = folder.stat()
                # One that was just made is about to be locked.
                if state.st_uid == os.getuid() and time.time() - state.st_mtime > _PATIENCE:
                    with _free(folder) as free:
                        if free:
                            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove it now."""
        self._folder.cleanup()
        if self._held is not None:
            self._held.close()
            self._held = None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()
