"""PLY: the header, triangle strips, and writing. The rest is read by Open3D.

Open3D believes a header whatever it says and knows no strips (it gives a mesh without faces and no word about it), so
the header is read here first.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_LARGEST_HEADER = 1 << 20
_BEGIN = re.compile(rb"ply[ \t]*[\r\n]")
_END = re.compile(rb"(?<=[\r\n])end_header[ \t]*(?:\r\n|\n|\r|\Z)")  # a line of its own: a comment may hold the word


@dataclass(frozen=True)
class PlyElement:
    """One element: its name, how many there are, and its properties as (name, type) or (name, count type, type)."""

    name: str
    count: int
    properties: tuple[tuple[str, ...], ...]

    @property
    def smallest(self) -> int:
        """Bytes that one takes at least in a binary file."""
        return sum(np.dtype(p[1]).itemsize for p in self.properties)

    @property
    def has_lists(self) -> bool:
        """Whether its size varies."""
        return any(len(p) == 3 for p in self.properties)


@dataclass(frozen=True)
class PlyHeader:
    """What a PLY file announces: `order` is "<" or ">" for binary, "" for text; data begin at byte `size`."""

    order: str
    elements: tuple[PlyElement, ...]
    size: int

    def count(self, *names: str) -> int:
        """Return how many elements there are of these names."""
        return sum(e.count for e in self.elements if e.name in names)


def read_ply_header(path: Path) -> PlyHeader:
    """Read the header and hold it against the file's size.

    Raises:
        DataError: If it is not PLY, or the file is too short for what the header announces.
    """
    with path.open("rb") as file:
        head = file.read(_LARGEST_HEADER)
    end = _END.search(head)
    if _BEGIN.match(head) is None or end is None:
        raise DataError(f"{path}: not a PLY file (it begins with {head[:12]!r}), or its header never ends")
    try:
        order, elements = _parse(head[: end.start()].decode("latin-1").splitlines()[1:])
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(f"{path}: its PLY header cannot be understood ({error})") from error
    header = PlyHeader(order, tuple(elements), end.end())
    _check_size(path, header)
    return header


def _parse(lines: list[str]) -> tuple[str, list[PlyElement]]:
    order, elements = None, []
    for line in lines:
        fields = line.split()
        match fields:
            case ["format", name, _]:
                order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[name]
            case ["element", name, count]:
                elements.append(PlyElement(name, int(count), ()))
            case ["property", "list", _, _, name] | ["property", _, name] if elements:
                last = elements.pop()
                types = [_TYPES[t] for t in (fields[2:4] if len(fields) == 5 else fields[1:2])]
                elements.append(PlyElement(last.name, last.count, (*last.properties, (name, *types))))
            case [word, *_] if word not in ("comment", "obj_info"):
                # Open3D's parser takes words, not lines: what stands where we do not look would be believed
                raise ValueError(f"the line {line[:60]!r}")
    if order is None or any(e.count < 0 or (e.count and not e.properties) for e in elements):
        raise ValueError("no format, a negative count, or an element without properties")
    return order, elements


def _check_size(path: Path, header: PlyHeader) -> None:
    there = path.stat().st_size - header.size
    # in text a number takes at least one digit and one separator
    least = sum(e.count * (e.smallest if header.order else 2 * len(e.properties)) for e in header.elements) - 1
    if least > there + 1:
        what = ", ".join(f"{e.count} {e.name}" for e in header.elements)
        raise DataError(f"{path}: cut short or wrong: its header announces {what}, but {there} bytes follow")


def read_strips(path: Path, header: PlyHeader) -> NDArray[np.int64] | None:
    """Read triangle strips (element `tristrips`: one list of indices, −1 between strips) as faces (F, 3).

    Returns:
        None if the file has no strips.

    Raises:
        DataError: If the strips are stored in a way that is not read.
    """
    names = [e.name for e in header.elements]
    if "tristrips" not in names:
        return None
    where = names.index("tristrips")
    before, strips = header.elements[:where], header.elements[where]
    if not header.order or any(e.has_lists for e in before) or len(strips.properties) != 1:
        raise DataError(f"{path}: triangle strips stored so are not read; save the mesh with plain triangles")
    data = path.read_bytes()
    offset = header.size + sum(e.count * e.smallest for e in before)
    _, count_type, index_type = strips.properties[0]
    parts = []
    try:
        for _ in range(strips.count):
            (count,) = np.frombuffer(data, header.order + count_type, 1, offset)
            offset += np.dtype(count_type).itemsize
            parts.append(np.frombuffer(data, header.order + index_type, int(count), offset).astype(np.int64))
            offset += parts[-1].size * np.dtype(index_type).itemsize
    except ValueError as error:
        raise DataError(f"{path}: cut short: its triangle strips are not whole") from error
    separated = [p for part in parts for p in (part, [-1])]  # a list ends a strip, too
    return unroll_strips(np.concatenate(separated) if separated else np.zeros(0, np.int64))


def unroll_strips(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn strips with −1 between them into triangles (F, 3); every second one is turned round to face the same way."""
    if len(index) < 3:
        return np.zeros((0, 3), dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(index, 3)
    starts = np.maximum.accumulate(np.where(index == -1, np.arange(len(index)) + 1, 0))
    odd = (np.arange(len(windows)) - starts[: len(windows)]) % 2 == 1
    faces = np.where(odd[:, None], windows[:, [1, 0, 2]], windows)
    return faces[(windows >= 0).all(1)]


def ply_bytes(points: NDArray[np.float32]) -> bytes:
    """Return a cloud (N, 3) as a binary PLY file."""
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    header += "property float x\nproperty float y\nproperty float z\nend_header\n"
    return header.encode() + np.ascontiguousarray(points, dtype="<f4").tobytes()
