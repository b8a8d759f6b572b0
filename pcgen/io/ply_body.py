"""PLY: vertices and faces, from text and from binary files of either order.

Written for files that nobody vouches for: what RPly (inside Open3D) makes of a damaged one is at times a crash. Every
count is held against what is left of the file before anything of that size is made.
"""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.ply import PlyElement, PlyHeader, read_ply_header

_FACES = ("vertex_indices", "vertex_index")
Lists = tuple[NDArray[np.int64], NDArray[np.generic]]  # lengths (count,), and all values one after the other


def read_ply(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read a PLY file.

    Args:
        path: The file.

    Returns:
        Vertices (V, 3), and faces (F, 3), perhaps none, in which polygons have become fans of triangles and strips
        single ones. Indices are not checked against V.

    Raises:
        DataError: If it is not PLY, not whole, or without x, y and z.
    """
    header = read_ply_header(path)
    vertices, faces = np.zeros((0, 3)), [np.zeros((0, 3), np.int64)]
    try:
        for element, columns in _elements(path.read_bytes(), header):
            if element.name == "vertex":
                vertices = _coordinates(columns, path)
            elif element.name == "face":
                faces += [polygons(*_whole(columns[name])) for name in _FACES if name in columns]
            elif element.name == "tristrips" and element.properties:
                faces.append(_strips(*_whole(columns[element.properties[0][0]])))
    except (ValueError, OverflowError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cut short or damaged: {error}") from error
    return vertices, np.concatenate(faces)


def _coordinates(columns: dict[str, Lists], path: Path) -> NDArray[np.float64]:
    missing = [axis for axis in "xyz" if axis not in columns]
    if missing:
        raise DataError(f"{path}: its vertices have no {' and no '.join(missing)}; x, y and z needed")
    if any(len(columns[axis][0]) != len(columns[axis][1]) for axis in "xyz"):
        raise DataError(f"{path}: its vertices have lists for x, y and z; numbers needed")
    return np.stack([columns[axis][1].astype(np.float64) for axis in "xyz"], axis=-1)


def _whole(lists: Lists) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take values for indices."""
    lengths, values = lists
    whole = np.nan_to_num(values, nan=-1, posinf=-1, neginf=-1).astype(np.int64)
    if (whole != values).any():
        raise ValueError("a face has a corner that is not a whole number")
    return lengths, whole


def _elements(data: bytes, header: PlyHeader) -> Iterator[tuple[PlyElement, dict[str, Lists]]]:
    """Give each element with its properties by name."""
    body = _Binary(data, header) if header.order else _Text(data, header)
    for element in header.elements:
        if element.count:
            yield element, _read(body, element)


def _read(body: "_Body", element: PlyElement) -> dict[str, Lists]:
    """Read all of one element at once where its lists are of one length, which they nearly always are."""
    names = [p[0] for p in element.properties]
    start = body.place
    lengths = body.lengths(element.properties)
    body.place = start
    if (columns := body.alike(element, lengths)) is not None:
        return dict(zip(names, columns, strict=True))
    body.place = start
    parts: list[list[NDArray[np.generic]]] = [[] for _ in names]
    for _ in range(element.count):
        for part, (_, *types) in zip(parts, element.properties, strict=True):
            part.append(body.values(types[-1], body.length(types)))
    return {
        name: (np.array([len(v) for v in part], np.int64), np.concatenate(part))
        for name, part in zip(names, parts, strict=True)
    }


class _Body:
    """What follows the header, read from front to back."""

    place: int

    def length(self, types: list[str] | tuple[str, ...]) -> int:
        """Read how many values a property has here: one, or what its list says."""
        if len(types) == 1:
            return 1
        (length,) = self.values(types[0], 1)
        if length < 0:
            raise ValueError(f"a list of {length} values")
        return int(length)

    def lengths(self, properties: tuple[tuple[str, ...], ...]) -> list[int]:
        """Read how many values each property of the first one has."""
        found = []
        for _, *types in properties:
            found.append(self.length(types))
            self.values(types[-1], found[-1])
        return found

    def values(self, kind: str, count: int) -> NDArray[np.generic]:
        """Read so many values."""
        raise NotImplementedError

    def alike(self, element: PlyElement, lengths: list[int]) -> list[Lists] | None:
        """Read all of an element as if each were like the first; None where they are not."""
        raise NotImplementedError


class _Binary(_Body):
    def __init__(self, data: bytes, header: PlyHeader) -> None:
        self.data, self.order, self.place = data, header.order, header.size

    def values(self, kind: str, count: int) -> NDArray[np.generic]:
        dtype = np.dtype(self.order + kind)
        end = self.place + count * dtype.itemsize
        if end > len(self.data):
            raise ValueError(f"{count} values announced where {len(self.data) - self.place} bytes follow")
        values = np.frombuffer(self.data[self.place : end], dtype)
        self.place = end
        return values

    def alike(self, element: PlyElement, lengths: list[int]) -> list[Lists] | None:
        fields: list[tuple[str, str, tuple[int, ...]]] = []
        for i, ((_, *types), length) in enumerate(zip(element.properties, lengths, strict=True)):
            fields += [(f"n{i}", self.order + types[0], ())] if len(types) == 2 else []
            fields.append((f"v{i}", self.order + types[-1], (length,)))
        dtype = np.dtype(fields)
        if element.count * dtype.itemsize > len(self.data) - self.place:
            return None
        table = np.frombuffer(self.data, dtype, element.count, self.place)
        counted = [(table[f"n{i}"], n) for i, n in enumerate(lengths) if f"n{i}" in table.dtype.fields]  # type: ignore[operator]
        if not all((told == n).all() for told, n in counted):
            return None
        self.place += table.nbytes
        return [_lists(element.count, n, table[f"v{i}"]) for i, n in enumerate(lengths)]


class _Text(_Body):
    def __init__(self, data: bytes, header: PlyHeader) -> None:
        self.numbers, self.place = np.array(data[header.size :].split(), dtype=np.float64), 0

    def values(self, kind: str, count: int) -> NDArray[np.generic]:
        del kind  # of text all numbers are alike
        end = self.place + count
        if end > len(self.numbers):
            raise ValueError(f"{count} numbers announced where {len(self.numbers) - self.place} follow")
        values = self.numbers[self.place : end]
        self.place = end
        return values

    def alike(self, element: PlyElement, lengths: list[int]) -> list[Lists] | None:
        told = [len(p) == 3 for p in element.properties]
        ends = list(accumulate(n + t for n, t in zip(lengths, told, strict=True)))
        end = self.place + element.count * ends[-1]
        if end > len(self.numbers):
            return None
        table = self.numbers[self.place : end].reshape(element.count, ends[-1])
        if not all((table[:, e - n - 1] == n).all() for e, n, t in zip(ends, lengths, told, strict=True) if t):
            return None
        self.place = end
        return [_lists(element.count, n, table[:, e - n : e]) for e, n in zip(ends, lengths, strict=True)]


def _lists(count: int, length: int, values: NDArray[np.generic]) -> Lists:
    return np.full(count, length, dtype=np.int64), values.reshape(-1)


def polygons(lengths: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut polygons into fans of triangles around their first corners.

    Args:
        lengths: Corners of each (P,); those of fewer than three have no area and are left out.
        index: All corners one after the other (lengths.sum(),).

    Returns:
        Triangles (F, 3), in the polygons' order.
    """
    starts = np.cumsum(lengths) - lengths
    fans = np.maximum(lengths - 2, 0)
    polygon = np.repeat(np.arange(len(lengths)), fans)  # of each triangle
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(fans) - fans, fans)  # its number in the fan
    first = starts[polygon]
    return np.stack([index[first], index[first + step + 1], index[first + step + 2]], axis=-1).reshape(-1, 3)


def _strips(lengths: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unroll lists of indices with −1 between strips; a list ends a strip, too."""
    return unroll_strips(np.insert(index, np.cumsum(lengths), -1))


def unroll_strips(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn strips with −1 between them into triangles (F, 3); every second one is turned round to face the same way."""
    if len(index) < 3:
        return np.zeros((0, 3), dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(index, 3)
    starts = np.maximum.accumulate(np.where(index == -1, np.arange(len(index)) + 1, 0))
    odd = (np.arange(len(windows)) - starts[: len(windows)]) % 2 == 1
    faces = np.where(odd[:, None], windows[:, [1, 0, 2]], windows)
    return faces[(windows >= 0).all(1)]
