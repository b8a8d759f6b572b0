"""NumPy's `.npz`: what it holds is told by the headers, and nothing is read that cannot be true."""

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.files import check_claim
from pcgen.io.listing import Catalog, Items
from pcgen.io.npy import HEADER_ERRORS
from pcgen.io.table import POINTS, check_points, columns, find


class NpzArray:
    """One array of a `.npz`: its shape and type at once, its numbers when taken with `[()]` like HDF5's.

    Args:
        path: The file.
        key: The array's name.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    @property
    def shape(self) -> tuple[int, ...]:
        """What the header says, held against what is stored."""
        return self._header[0]

    @property
    def dtype(self) -> "np.dtype[Any]":
        """What the header says."""
        return self._header[1]

    @cached_property
    def _header(self) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
        with self._opened() as (file, member):
            readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            version = np.lib.format.read_magic(file)
            if version not in readers:
                raise ValueError(f"version {version} of the format")
            shape, _, dtype = readers[version](file)
            size = math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and size > member.file_size:
                raise ValueError(f"its header announces shape {shape}, which {member.file_size} bytes do not hold")
        return shape, dtype

    def __getitem__(self, _: Any) -> NDArray[Any]:
        if self.dtype.hasobject:
            raise DataError(f"{self.path}: its array {self.key!r} holds Python objects; numbers or text needed")
        with self._opened() as (file, _member):
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], zipfile.ZipInfo]]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                member = archive.getinfo(f"{self.key}.npy")
                stored = min(member.compress_size, self.path.stat().st_size)
                check_claim(f"{self.path}: its array {self.key!r}", member.file_size, stored)
                with archive.open(member) as file:
                    yield file, member
        except DataError:
            raise
        # RuntimeError: encrypted, or packed in a way that Python does not know
        except (
            *HEADER_ERRORS, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
        ) as error:  # fmt: skip
            told = " ".join(str(error).split())[:200]
            raise DataError(f"{self.path}: its array {self.key!r} cannot be read ({told})") from error


def npz_arrays(path: Path) -> dict[str, NpzArray]:
    """List the arrays of a file by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a .npz file, or cut short ({error})") from error
    return {k: NpzArray(path, k) for k in keys}


def npz_points(path: Path) -> NpzArray:
    """Find the array that holds the points."""
    arrays = npz_arrays(path)
    key = find(arrays, POINTS) or (next(iter(arrays)) if len(arrays) == 1 else None)
    if key is None:
        raise DataError(f"{path}: no array {' or '.join(POINTS)} in it; there is {', '.join(arrays) or 'nothing'}")
    return arrays[key]


def npz_catalog(path: Path) -> Catalog:
    """List the clouds of a file without reading their points."""
    points = npz_points(path)
    if len(points.shape) == 2:
        return Catalog(str(path), "one cloud", Items.files([path]), name=(path.stem,))
    check_points(points.shape, points.dtype, str(path))
    K = points.shape[0]
    fields = columns(npz_arrays(path), {}, K, str(path))
    return Catalog(str(path), "NumPy clouds", Items.rows(path, points.key, K), **fields)
