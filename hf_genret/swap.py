"""Two folders change places in one step; a folder is held still while it is read."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

Result = TypeVar("Result")
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_HERE = -100  # AT_FDCWD
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV)
_TRIES = 50  # readings of a folder that is replaced all the time
_PAUSE = 0.02  # seconds between two of them
_PATIENCE = 10.0  # seconds that a writer waits for readers of what it removes


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places, seen from outside in one step.

    Args:
        one: A folder.
        other: A folder on the same disk.

    Returns:
        Whether it was done; False where system or disk have no such operation.

    Raises:
        OSError: When the disk refuses.
    """
    swap = _system_call()
    if swap is None:
        return False
    code = swap(os.fsencode(one), os.fsencode(other))
    if code != 0 and code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(other))
    return code == 0


def _system_call() -> Callable[[bytes, bytes], int] | None:
    """The system's exchange as a function of two names that gives 0 or errno."""
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    if hasattr(library, "renameat2"):

        def linux(one: bytes, other: bytes) -> int:
            status = library.renameat2(_HERE, one, _HERE, other, _EXCHANGE)  # type: ignore[union-attr]
            return ctypes.get_errno() if status else 0

        return linux
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):

        def macos(one: bytes, other: bytes) -> int:
            return ctypes.get_errno() if library.renamex_np(one, other, _EXCHANGE) else 0  # type: ignore[union-attr]

        return macos
    return None


class Held(Protocol):
    """A folder that a process has locked."""

    def close(self) -> None:
        """Let go."""


class _Lock:
    """An advisory lock on a folder itself (not on its name), gone with the process that has it."""

    def __init__(self, folder: Path) -> None:
        self.descriptor = os.open(folder, os.O_RDONLY)

    def take(self, *, shared: bool) -> bool:
        """Take the lock without waiting; True where the disk knows no locks and has to be trusted.

        Returns:
            Whether nobody else holds it.
        """
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        os.close(self.descriptor)


def lock(folder: Path, *, shared: bool = False, patience: float = 0.0) -> Held | None:
    """Lock a folder that is read (`shared`), or that is written or removed.

    Args:
        folder: It keeps its lock when it is renamed.
        shared: Whether others may hold it too.
        patience: Seconds to wait for others.

    Returns:
        The lock, to be closed; None when somebody else holds it, or where the system has none.
    """
    if os.name != "posix":
        return None
    try:
        held = _Lock(folder)
    except OSError:
        return None
    end = time.monotonic() + patience
    while not held.take(shared=shared):
        if time.monotonic() >= end:
            held.close()
            return None
        time.sleep(_PAUSE)
    return held


def remove_folder(folder: Path) -> None:
    """Remove a folder of ours when nobody reads it any more; if somebody does, leave it.

    The next command that writes beside it tries again.
    """
    held = lock(folder, patience=_PATIENCE)
    if held is None and os.name == "posix":
        return
    shutil.rmtree(folder, ignore_errors=True)
    if held is not None:
        held.close()


@contextmanager
def _as_it_is(folder: Path) -> Iterator[Path]:
    """The folder by its own name, which another folder may take meanwhile."""
    yield folder


@contextmanager
def _by_descriptor(folder: Path) -> Iterator[Path]:
    """A name of the folder that stays its name when another folder takes its place."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        import fcntl

        with suppress(OSError):  # no locks on this disk
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


_held_still = _by_descriptor if Path("/proc/self/fd").is_dir() else _as_it_is


def _identity(folder: Path) -> tuple[int, ...] | None:
    """What tells a folder from another that later has its name; None where there is none."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_ctime_ns


def read_folder(
    folder: Path, read: Callable[[Path], Result], failures: tuple[type[Exception], ...] = ()
) -> Result:
    """Read a folder that other processes may replace meanwhile: one of them, never a mixture.

    Args:
        folder: What is read.
        read: Reads the folder it is given, which may have another name; it is called again when the
            folder was replaced while it read.
        failures: What `read` raises, beside OSError, of a folder that vanishes under it.

    Returns:
        What `read` gives.

    Raises:
        OSError: What `read` raises for a folder that stays, or one that is replaced all the time.
    """
    errors: tuple[type[Exception], ...] = (OSError, *failures)
    for tries in range(1, _TRIES + 1):
        before = _identity(folder)
        try:
            with _held_still(folder) as still:
                result = read(still)
                if still is not folder or _identity(folder) == before:
                    return result
        except errors:
            # A folder that is not there may be between two names, where disks cannot exchange.
            stays = before is not None and _identity(folder) == before
            if stays or tries == _TRIES:
                raise
        time.sleep(_PAUSE)
    raise OSError(errno.EBUSY, "it was replaced again and again while it was read", str(folder))
