"""PCD, the Point Cloud Library's files: text, binary, and binary packed by LZF.

The format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html. Nothing is made of a size that the
header announces before it is held against the file's.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.files import check_claim

_LARGEST_HEADER = 1 << 16
_LONGEST_LINE = 1000
_MOST_DIGITS = 18  # that surely fit 64 bits
_MOST_VALUES = 4096  # a point
_TYPES = {b"F": {4, 8}, b"I": {1, 2, 4, 8}, b"U": {1, 2, 4, 8}}
_KEYS = {
    b"VERSION", b"FIELDS", b"COLUMNS", b"SIZE", b"TYPE", b"COUNT", b"WIDTH", b"HEIGHT", b"VIEWPOINT", b"POINTS",
}  # fmt: skip


@dataclass(frozen=True)
class _Header:
    """Names, types and counts of the fields, the number of points, how they are stored, and from which byte on."""

    names: list[bytes]
    types: list[str]
    counts: list[int]
    num_points: int
    storage: bytes
    begin: int

    @property
    def dtype(self) -> "np.dtype[np.void]":
        """One point."""
        return np.dtype([(str(i), t, (n,)) for i, (t, n) in enumerate(zip(self.types, self.counts, strict=True))])

    @property
    def axes(self) -> list[int]:
        """Numbers of the fields x, y and z."""
        return [self.names.index(axis) for axis in (b"x", b"y", b"z")]


def read_pcd(path: Path) -> NDArray[np.float64]:
    """Read the points (N, 3) of a PCD file, not finite ones too.

    Raises:
        DataError: If it is not PCD, has no x, y and z, or is not whole.
    """
    header = _read_header(path)
    there = path.stat().st_size - header.begin
    size = header.num_points * header.dtype.itemsize
    text = 2 * header.num_points * sum(header.counts)  # a digit and a separator each
    least = {b"binary": size, b"ascii": text}.get(header.storage, size // 256)
    if header.num_points < 1 or least > there + 1:
        raise DataError(
            f"{path}: cut short or wrong: its header announces {header.num_points} points, {there} bytes follow"
        )
    check_claim(str(path), size, there)
    data = path.read_bytes()[header.begin :]
    try:
        read = {b"binary": _binary, b"ascii": _text, b"binary_compressed": _packed}[header.storage]
        return read(data, header)
    except KeyError as error:
        raise DataError(f"{path}: PCD data stored as {header.storage!r}; ascii and binary are read") from error
    except (ValueError, IndexError, struct.error) as error:
        raise DataError(f"{path}: cut short or damaged: {error}") from error


def _binary(data: bytes, header: _Header) -> NDArray[np.float64]:
    table = np.frombuffer(data, header.dtype, header.num_points)
    return np.stack([table[str(i)][:, 0].astype(np.float64) for i in header.axes], axis=-1)


def _text(data: bytes, header: _Header) -> NDArray[np.float64]:
    width = sum(header.counts)
    numbers = np.array(data.split(), dtype=np.float64)
    if len(numbers) < header.num_points * width:
        raise ValueError(f"{len(numbers)} numbers for {header.num_points} points of {width}")
    starts = np.cumsum([0, *header.counts])
    return numbers[: header.num_points * width].reshape(-1, width)[:, starts[header.axes]]


def _packed(data: bytes, header: _Header) -> NDArray[np.float64]:
    """Unpack; then all values of a field follow each other."""
    packed, size = struct.unpack_from("<II", data)
    if size != header.num_points * header.dtype.itemsize or packed > len(data) - 8:
        raise ValueError(f"{packed} bytes that shall become {size}, where {len(data) - 8} follow")
    content = unpack_lzf(data[8 : 8 + packed], size)
    sizes = [np.dtype(t).itemsize * n * header.num_points for t, n in zip(header.types, header.counts, strict=True)]
    starts = np.cumsum([0, *sizes])
    columns = [
        np.frombuffer(content, header.types[i], header.num_points * header.counts[i], int(starts[i]))
        for i in header.axes
    ]
    return np.stack([c.astype(np.float64) for c in columns], axis=-1)


def unpack_lzf(data: bytes, size: int) -> bytes:
    """Unpack what Marc Lehmann's LibLZF packed: runs of new bytes, and of bytes that have been before.

    Args:
        data: Packed bytes.
        size: Bytes that they become.

    Raises:
        ValueError: If they become more or fewer, or refer to what is not there.
    """
    out, i = bytearray(), 0
    while i < len(data) and len(out) <= size:
        control = data[i]
        i += 1
        if control < 32:
            out += data[i : i + control + 1]
            i += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += data[i]
            i += 1
        start = len(out) - (((control & 31) << 8 | data[i]) + 1)
        i += 1
        if start < 0:
            raise ValueError("packed bytes that refer to what is not there")
        piece = out[start : start + length + 2]
        out += (piece * (-(-(length + 2) // len(piece))))[: length + 2]  # it may go on into what it makes itself
    if len(out) != size:
        raise ValueError(f"packed bytes that do not become the {size} announced")
    return bytes(out)


def _read_header(path: Path) -> _Header:
    fields, begin = _lines(path)
    try:
        num_points = _number(fields.get(b"POINTS", fields.get(b"WIDTH", []))[0])
        sizes = [_number(s) for s in fields[b"SIZE"]]
        counts = [_number(c) for c in fields.get(b"COUNT", [b"1"] * len(sizes))]
        kinds, storage = fields[b"TYPE"], fields[b"DATA"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a PCD file, or its header cannot be understood") from error
    names = fields.get(b"FIELDS", [])
    if not {b"x", b"y", b"z"} <= set(names):
        raise DataError(f"{path}: its PCD header has no fields x, y and z")
    if not len(names) == len(sizes) == len(counts) == len(kinds) or min(counts) < 1 or sum(counts) > _MOST_VALUES:
        raise DataError(f"{path}: {len(names)} fields of sizes {sizes[:20]} and counts {counts[:20]} in its PCD header")
    if any(size not in _TYPES.get(kind, ()) for kind, size in zip(kinds, sizes, strict=True)):
        told = b" ".join(kinds[:20]).decode("ascii", "replace")
        raise DataError(
            f"{path}: fields of types {told!r} and sizes {sizes[:20]} in its PCD header; F4, F8, I and U known"
        )
    types = [f"<{kind.decode().lower()}{size}" for kind, size in zip(kinds, sizes, strict=True)]
    return _Header(names, types, counts, num_points, storage, begin)


def _number(word: bytes) -> int:
    if len(word) > _MOST_DIGITS:
        raise ValueError("a number too long")
    return int(word)


def _lines(path: Path) -> tuple[dict[bytes, list[bytes]], int]:
    """Read the words of each line by its key, and where the data begin."""
    with path.open("rb") as file:
        head = file.read(_LARGEST_HEADER)
    fields: dict[bytes, list[bytes]] = {}
    begin = 0
    for line in head.splitlines(keepends=True):
        begin += len(line)
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        if words[0] == b"DATA" and line.endswith(b"\n"):
            return fields | {b"DATA": words[1:]}, begin
        if words[0] not in _KEYS or words[0] in fields or len(line) > _LONGEST_LINE:
            break
        fields[words[0]] = words[1:]
    raise DataError(
        f"{path}: not a PCD file, or its header cannot be understood: it has no DATA line where one belongs"
    )
