"""Small things that every reader and writer needs: a file that exists, a file that appears whole or not at all."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pcgen.errors import DataError

_ALWAYS_FINE = 16 << 20  # bytes that any file may hold, however few of them it stores
_PART = ".part"  # marks what is being written
_LARGEST_RATIO = 100  # gzip could pack 1032 : 1, but coordinates never pack like that


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file or folder that is there and can be read.

    Raises:
        DataError: If it is not, with the nearest folder that is.
    """
    path = Path(path)
    if not path.exists():
        near = next(p for p in [*path.absolute().parents] if p.exists())
        raise DataError(f"{path} does not exist (the nearest folder that does is {near})")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path} cannot be read: permission denied")
    return path


def check_claim(source: str, claimed: int, stored: int) -> None:
    """Refuse what would take far more memory than the bytes that are stored make plausible.

    Args:
        source: What makes the claim, for the message.
        claimed: Bytes in memory: up to 16 MiB, or 100 times those stored, is believed.
        stored: Bytes in the file.

    Raises:
        DataError: If it is more.
    """
    if claimed > max(_ALWAYS_FINE, _LARGEST_RATIO * stored):
        raise DataError(f"{source} announces {claimed} bytes, but only {stored} are stored: damaged, or made to harm")


@contextmanager
def atomic(path: str | os.PathLike[str], *, folder: bool = False, durable: bool = False) -> Iterator[Path]:
    """Give a temporary name beside the target, and move it into place when the block ends well.

    Args:
        path: The target. A file there is replaced.
        folder: Make the temporary name a folder; the target must then not exist.
        durable: Wait until the disk has the file, and then until it has its name, so that it outlives a power cut.

    Yields:
        The temporary name. Whatever ends the block early, an interruption too, removes it; what the end of the whole
        process leaves behind, `remove_leftovers` finds.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder that is already there; give another name or remove it")
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_PART}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            temporary.mkdir()
        yield temporary
        if durable:
            _flush(temporary)
        temporary.replace(path)
        if durable:
            _flush(path.parent)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if folder:
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike[str], name: str = "*") -> list[Path]:
    """Remove what processes that were killed while they wrote have left behind.

    Args:
        folder: Where they wrote. Nobody else may be writing there.
        name: Of their target, or a pattern of such names.

    Returns:
        What was removed.
    """
    found = [p for p in Path(folder).glob(f".{name}.*{_PART}*") if _is_leftover(p.name)]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return found


def _is_leftover(name: str) -> bool:
    return re.fullmatch(rf"\..+\.\d+{re.escape(_PART)}(\.[^.]*)?", name) is not None


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
