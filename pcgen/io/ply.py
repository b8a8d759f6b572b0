"""PLY: the header, and writing. `pcgen.io.ply_body` reads what follows the header."""

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
                if len(types) == 2 and types[0].startswith("f"):
                    raise ValueError(f"a list that is counted in {fields[2]}")
                elements.append(PlyElement(last.name, last.count, (*last.properties, (name, *types))))
            case [word, *_] if word not in ("comment", "obj_info"):
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


def ply_bytes(points: NDArray[np.float32]) -> bytes:
    """Return a cloud (N, 3) as a binary PLY file."""
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    header += "property float x\nproperty float y\nproperty float z\nend_header\n"
    return header.encode() + np.ascontiguousarray(points, dtype="<f4").tobytes()
