"""Distance matrices kept between runs, by the content of the clouds they are of.

A file's name is the hash of everything that its numbers depend on, so what is found is right and nothing is ever
stale. Files appear whole or not at all, and several processes may read and write at once.
"""

import hashlib
import json
import os
import re
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.files import atomic

LIMIT = 1 << 30  # bytes: about 800 evaluations of 405 + 405 clouds
_SUFFIX = ".pairs"
_OURS = re.compile(rf"\.?[0-9a-f]{{40}}\{_SUFFIX}(\..*\.part\{_SUFFIX})?")
_ABANDONED = 3600.0  # seconds after which an unfinished file has no writer any more
Tensors = dict[str, Tensor]


class Contents(NamedTuple):
    """What a store holds: number of files, their bytes."""

    files: int
    size: int


def cache_folder() -> Path:
    """Give the folder of what can be computed again: PCGEN_CACHE, or pcgen's in the user's cache directory."""
    if given := os.environ.get("PCGEN_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pcgen"
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pcgen"


def fingerprint(clouds: Tensor) -> str:
    """Hash clouds (K, N, 3) with their shape and dtype, on any device: 32 hexadecimal digits."""
    array = clouds.detach().cpu().contiguous()
    digest = hashlib.blake2b(f"{array.dtype} {tuple(array.shape)} ".encode(), digest_size=16)
    digest.update(array.numpy().tobytes())
    return digest.hexdigest()


class Store:
    """Tensors by key, in a folder of bounded size.

    Args:
        folder: Made when something is put there; None takes `cache_folder()`.
        limit: Bytes in all; the files that were used longest ago are removed first.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, limit: int = LIMIT) -> None:
        self.folder = cache_folder() / "distances" if folder is None else Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigurationError(f"the cache {self.folder} is a file; name a folder")
        self.limit = limit
        self._told: set[str] = set()

    def get(self, key: Mapping[str, object], right: Callable[[Tensors], bool] = lambda _: True) -> Tensors | None:
        """Give what was put under a key, or None.

        Args:
            key: Plain values: everything that the tensors depend on.
            right: Whether tensors are what belongs under the key; a file that holds others counts as damaged.

        Warns:
            UserWarning: If a file is damaged; it is removed.
        """
        path = self._path(key)
        try:
            tensors = _read(path, right)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, NotImplementedError) as error:
            self._tell(f"{path} is damaged and its distances are computed anew ({error})", about=path.name)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # used now: removed last
        return tensors

    def put(self, key: Mapping[str, object], tensors: Tensors) -> None:
        """Keep tensors under a key, and remove what has not been used for longest if there is too much.

        Warns:
            UserWarning: If the folder cannot be written: then nothing is kept.
        """
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        if sum(array.nbytes for array in arrays.values()) > self.limit:
            return
        try:
            with atomic(self._path(key)) as unfinished, unfinished.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes the names for its options
        except DataError as error:
            remedy = "--cache FOLDER or PCGEN_CACHE moves the cache"
            self._tell(f"distances are not kept: {error} ({remedy})", about="writing")
            return
        self._bound()

    def contents(self) -> Contents:
        """Count the files and their bytes."""
        sizes = [stat.st_size for _, stat in self._files()]
        return Contents(len(sizes), sum(sizes))

    def clear(self) -> Contents:
        """Remove every file of the store, and nothing else that may lie in the folder; give what was removed."""
        removed = [stat.st_size for path, stat in list(self._files()) if _remove(path)]
        return Contents(len(removed), sum(removed))

    def _path(self, key: Mapping[str, object]) -> Path:
        text = json.dumps(key, sort_keys=True)
        return self.folder / (hashlib.blake2b(text.encode(), digest_size=20).hexdigest() + _SUFFIX)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Go through the store's own files; those that another process removes meanwhile are passed over."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if _OURS.fullmatch(path.name):
                    with suppress(OSError):
                        yield path, path.stat()

    def _bound(self) -> None:
        found = sorted(self._files(), key=lambda each: each[1].st_mtime)
        total = sum(stat.st_size for _, stat in found)
        for path, stat in found:
            unfinished = path.name.startswith(".")
            abandoned = unfinished and time.time() - stat.st_mtime > _ABANDONED
            if (abandoned or (total > self.limit and not unfinished)) and _remove(path):
                total -= stat.st_size

    def _tell(self, message: str, *, about: str) -> None:
        if about not in self._told:
            self._told.add(about)
            warnings.warn(message, stacklevel=4)


def _read(path: Path, right: Callable[[Tensors], bool]) -> Tensors:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        tensors = {name: torch.from_numpy(stored[name]) for name in stored.files}
    if not right(tensors):
        raise ValueError("it holds other tensors than its name says")
    return tensors


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
