"""One process at a time in a folder, even if another one removes it meanwhile."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pcgen.errors import DataError

_ATTEMPTS = 100  # to lock a folder that others remove


@contextmanager
def alone(folder: Path, *, make: bool = False) -> Iterator[Callable[[], bool]]:
    """Let no other process prepare the same folder meanwhile.

    Args:
        folder: The folder.
        make: Make it if it is not there.

    Yields:
        What says whether the folder of that name still is the one that is locked: who removes it lets others in.

    Raises:
        DataError: If another process does, or the folder is not there or cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        if make:
            _make(folder)
        yield lambda: True
        return
    descriptor = _locked(folder, fcntl, make=make)
    try:
        yield lambda: _is_open(folder, descriptor)
    finally:
        os.close(descriptor)


def _locked(folder: Path, fcntl: Any, *, make: bool) -> int:
    """Open a folder and lock it; another process may remove it at any moment until then."""
    for _ in range(_ATTEMPTS):
        if make:
            _make(folder)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except OSError as error:
            if make and isinstance(error, FileNotFoundError):
                continue
            raise DataError(f"{folder} cannot be opened: {error.strerror or error}") from error
        try:
            _lock(descriptor, folder, fcntl)
            if _is_open(folder, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise DataError(f"{folder} is made and removed by other processes all the time; wait for them, or end them")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror or error}") from error


def _is_open(folder: Path, descriptor: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    return False


def _lock(descriptor: int, folder: Path, fcntl: Any) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"{folder} is being prepared by another process; wait for it, or end it") from error
    except OSError:  # a file system without locks
        return
