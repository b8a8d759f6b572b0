"""Clouds that stay in their HDF5 files, one or many, and are gathered when asked for."""

import copy
import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.hdf5 import HDF5_SUFFIXES, check_clouds_of, opened
from pcgen.io.listing import Items
from pcgen.io.reading import catalog

_OPEN = 64  # files that one object keeps open in a process: the system allows a process about a thousand


class LazyClouds:
    """The points of HDF5 files, gathered when asked for: for sets that memory does not hold.

    Rows that a file stores as they are (float32, not compressed) are read from their places in it without HDF5, which
    takes 25 times as long for a cloud of 2048 points. Files are opened at the first use in each process, a bounded
    number at a time, and never travel: pickling and forking are safe.

    Args:
        path: An HDF5 file, a folder of shards, or a folder of HDF5 files.
        rows: Which clouds, in which order; None for all.
        items: Where the clouds lie, if a catalog of the path has told already.

    Attributes:
        shape: (K, N, 3).

    Raises:
        DataError: If clouds differ in their number of points, or a row is not there.
        ConfigurationError: If there is something else than HDF5.
    """

    def __init__(
        self, path: str | os.PathLike[str], rows: ArrayLike | None = None, *, items: Items | None = None
    ) -> None:
        items = catalog(path).items if items is None else items
        wanted = np.arange(len(items)) if rows is None else np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(items)):
            few = f"rows {wanted.min()} to {wanted.max()} asked for"
            raise DataError(f"{path}: {few}, but it has {len(items)} clouds")
        self.source, self.items = str(path), items.take(wanted)
        sizes = {_num_points(items.arrays[i], self.source) for i in np.unique(self.items.array).tolist()}
        if len(sizes) > 1:
            raise DataError(f"{path}: clouds of {min(sizes)} to {max(sizes)} points; prepare them to one number")
        self.shape = (len(self.items), max(sizes, default=0), 3)
        self._files = _Files()

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: NDArray[np.int64]) -> "LazyClouds":
        """Keep some clouds, in the order asked."""
        part = copy.copy(self)  # with files of its own
        part.items = self.items.take(rows)
        part.shape = (len(part.items), *self.shape[1:])
        return part

    def gather(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Read some clouds.

        Args:
            indices: Which (b,), in any order, repeats allowed.

        Returns:
            (b, N, 3) float32, in the order asked.

        Raises:
            DataError: If a file cannot be read any more, or a coordinate is not finite.
            IndexError: If an index is out of range.
        """
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        array, row = self.items.array[indices], self.items.row[indices]
        points = np.empty((len(indices), *self.shape[1:]), dtype=np.float32)
        order = np.lexsort((row, array))
        new = (np.diff(array[order]) != 0) | (np.diff(row[order]) != 1) | (np.diff(order) != 1)
        edges = (np.flatnonzero(new) + 1).tolist()
        for start, stop in pairwise([0, *edges, len(order)] if len(order) else []):
            first = int(order[start])  # neighbours that stay neighbours are one read
            self._read(int(array[first]), int(row[first]), points[first : first + stop - start])
        bad = ~np.isfinite(points).all((1, 2))
        if bad.any():
            item = self.items[int(indices[bad.argmax()])]
            raise DataError(f"{item.path}: the cloud at row {item.row} holds NaN or infinity")
        return points

    def _read(self, array: int, row: int, out: NDArray[np.float32]) -> None:
        try:
            self._files.get(array, self.items.arrays).read(row, out)
        except (OSError, RuntimeError, KeyError, OverflowError) as error:
            raise DataError(f"{self.items.arrays[array][0]} cannot be read any more: {error}") from error

    def close(self) -> None:
        """Close the files in this process; the next `gather` opens them again."""
        self._files.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": _Files()}


def _num_points(array: tuple[Path, str], source: str) -> int:
    path, dataset = array
    if path.suffix.lower() not in HDF5_SUFFIXES:
        raise ConfigurationError(
            f"{source}: {path.name} is not HDF5, which reading a part (in_memory: false) needs; `pcgen data prepare` "
            "makes it"
        )
    with opened(path) as file:
        return check_clouds_of(path, file[dataset])


# ── open files ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Files:
    """Files open in this process, the last ones used."""

    def __init__(self) -> None:
        self._pid = -1
        self._open: OrderedDict[int, _Plain | _Packed] = OrderedDict()

    def get(self, array: int, arrays: Sequence[tuple[Path, str]]) -> "_Plain | _Packed":
        """Give one of the arrays, opening its file if need be."""
        if self._pid != os.getpid():
            if self._open:
                _INHERITED.append(self._open)  # by a fork: the parent's handles, left alone and not closed
            self._open, self._pid = OrderedDict(), os.getpid()
        if array not in self._open:
            while len(self._open) >= _OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[array] = _open(*arrays[array])
        self._open.move_to_end(array)
        return self._open[array]

    def close(self) -> None:
        """Close what this process has opened."""
        if self._pid == os.getpid():
            for file in self._open.values():
                file.close()
        self._open, self._pid = OrderedDict(), -1


_INHERITED: list[Any] = []


def _open(path: Path, dataset: str) -> "_Plain | _Packed":
    import h5py

    file = h5py.File(path, "r")
    try:
        place = _places(file[dataset])
    except BaseException:
        file.close()
        raise
    if place is None:
        return _Packed(file, file[dataset])
    file.close()
    return _Plain(path, place)


def _places(data: Any) -> NDArray[np.int64] | int | None:
    """Find where rows begin in the file: the first of them all, or of each; None if they are not stored as they are."""
    properties = data.id.get_create_plist()
    if data.dtype != np.dtype("<f4") or sys.byteorder != "little" or not hasattr(os, "preadv"):
        return None
    if data.is_virtual or properties.get_external_count() or properties.get_nfilters():
        return None
    if data.chunks is None:
        offset = data.id.get_offset()
        return None if offset is None else int(offset)
    if data.chunks != (1, *data.shape[1:]) or not hasattr(data.id, "chunk_iter"):
        return None
    places = np.full(len(data), -1)

    def note(chunk: Any) -> None:
        places[chunk.chunk_offset[0]] = chunk.byte_offset

    data.id.chunk_iter(note)
    return None if (places < 0).any() else places  # HDF5 fills in what was never written


class _Plain:
    """Rows that are float32 as they are in the file."""

    def __init__(self, path: Path, places: NDArray[np.int64] | int) -> None:
        self._places, self._descriptor = places, os.open(path, os.O_RDONLY)

    def read(self, row: int, out: NDArray[np.float32]) -> None:
        """Read neighbouring rows (k, N, 3) from `row` on."""
        if isinstance(self._places, int):
            self._fill(out, self._places + row * out[0].nbytes)
            return
        for place, cloud in zip(self._places[row : row + len(out)].tolist(), out, strict=True):
            self._fill(cloud, place)

    def _fill(self, out: NDArray[np.float32], place: int) -> None:
        if os.preadv(self._descriptor, [out.data], place) != out.nbytes:
            raise OSError("it is cut short")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class _Packed:
    """Rows that HDF5 must unpack or convert."""

    def __init__(self, file: Any, data: Any) -> None:
        self._file, self._data = file, data

    def read(self, row: int, out: NDArray[np.float32]) -> None:
        """Read neighbouring rows (k, N, 3) from `row` on."""
        self._data.read_direct(out, np.s_[row : row + len(out)])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
