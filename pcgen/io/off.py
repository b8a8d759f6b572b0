"""OFF meshes as they are found in the wild.

The format (Geomview, http://www.geomview.org/docs/html/OFF.html): a keyword, the numbers of vertices, faces and edges,
one vertex a line, one face a line (its number of corners, their indices from 0, then perhaps a colour). ModelNet40
glues the counts to the keyword (`OFF3514 3546 0`), which most parsers refuse.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError

# Prefixes: ST texture, C colour, N normal at each vertex; their extra columns come after the coordinates.
_HEADER = re.compile(rb"\s*(?:ST)?C?N?OFF(?P<binary>[ \t]+BINARY)?", re.IGNORECASE)
_COMMENT = re.compile(rb"#[^\r\n]*")
_NEWLINE = re.compile(rb"\r\n|\r|\n")
_MOST_DIGITS = 18  # that surely fit 64 bits


def parse_off(data: bytes, path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read an OFF file's bytes.

    Args:
        data: The whole file.
        path: For messages.

    Returns:
        Vertices (V, 3), and faces (F, 3) in which polygons have become fans of triangles.

    Raises:
        DataError: If it is not OFF, or not whole. Indices are not checked here.
    """
    if b"#" in data:
        data = _COMMENT.sub(b"", data)
    header = _HEADER.match(data)
    if header is None:
        raise DataError(f"{path}: not an OFF mesh (it begins with {data[:12]!r}, not with OFF)")
    if header["binary"]:
        raise DataError(f"{path}: binary OFF is not read; save it as text, PLY or OBJ")
    num_vertices, num_faces, start = _counts(data, header.end(), path)
    if num_faces == 0 or num_vertices == 0:
        raise DataError(f"{path}: an empty mesh ({num_vertices} vertices, {num_faces} faces)")
    # every vertex takes at least "0 0 0\n" and every face "1 0\n": a count that cannot be true costs no memory
    if 6 * num_vertices + 4 * num_faces - 1 > len(data) - start:
        raise DataError(
            f"{path}: cut short or wrong: {num_vertices} vertices and {num_faces} faces announced in {len(data)} bytes"
        )
    first = _line(data, start)
    columns = len(first.split())
    if columns < 3:
        raise DataError(f"{path}: the first vertex is {first.decode(errors='replace')!r}; three coordinates needed")
    numbers = _numbers(data[start:], path)
    split = num_vertices * columns
    if len(numbers) < split:
        raise DataError(f"{path}: ends after {len(numbers) // columns} of {num_vertices} vertices")
    vertices = numbers[:split].reshape(num_vertices, columns)[:, :3]
    return vertices, _faces(numbers[split:], num_faces, data, start, num_vertices, path)


def _counts(data: bytes, start: int, path: Path) -> tuple[int, int, int]:
    line = _line(data, start)
    fields = line.split()
    if len(fields) not in (2, 3) or not all(_is_count(f) for f in fields):
        raise DataError(
            f"{path}: {line[:40].decode(errors='replace')!r} where the numbers of vertices and faces belong"
        )
    return int(fields[0]), int(fields[1]), data.index(line, start) + len(line)


def _is_count(field: bytes) -> bool:
    """Say whether it is a whole number, and not so long that Python refuses to read it."""
    return field.isdigit() and len(field) <= _MOST_DIGITS


def _line(data: bytes, start: int) -> bytes:
    """Return the next line that is not blank, stripped."""
    match = re.compile(rb"\s*([^\r\n]*)").match(data, start)
    return match[1].strip() if match else b""


def _numbers(text: bytes, path: Path) -> NDArray[np.float64]:
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _faces(
    numbers: NDArray[np.float64], num_faces: int, data: bytes, start: int, num_vertices: int, path: Path
) -> NDArray[np.int64]:
    """Read all faces at once where they are alike, which they nearly always are; line by line otherwise."""
    width, rest = divmod(len(numbers), num_faces)
    corners = int(numbers[0]) if len(numbers) and np.isfinite(numbers[0]) else 0
    if rest == 0 and width > corners > 2:
        table = numbers.reshape(num_faces, width)
        if (table[:, 0] == corners).all():
            return _fans(table[:, 1 : corners + 1], path)
    return _faces_by_line(data, start, num_vertices, num_faces, path)


def _faces_by_line(data: bytes, start: int, num_vertices: int, num_faces: int, path: Path) -> NDArray[np.int64]:
    lines = [line for line in _NEWLINE.split(data[start:]) if line.strip()][num_vertices:][:num_faces]
    if len(lines) < num_faces:
        raise DataError(f"{path}: ends after {len(lines)} of {num_faces} faces")
    groups: dict[int, list[list[bytes]]] = {}
    for i, line in enumerate(lines):
        fields = line.split()
        corners = int(fields[0]) if _is_count(fields[0]) else -1
        if corners < 0 or len(fields) <= corners:
            raise DataError(f"{path}: face {i} of {num_faces} is {line[:60].decode(errors='replace')!r}: cut short")
        if corners > 2:  # points and segments have no area
            groups.setdefault(corners, []).append(fields[1 : corners + 1])
    if not groups:
        raise DataError(f"{path}: none of its {num_faces} faces has three corners")
    parts = [_numbers(b" ".join(f for face in g for f in face), path).reshape(-1, n) for n, g in groups.items()]
    return np.concatenate([_fans(part, path) for part in parts])


def _fans(polygons: NDArray[np.float64], path: Path) -> NDArray[np.int64]:
    """Cut polygons (F, n) into triangles (F (n − 2), 3) around their first corner."""
    index = np.nan_to_num(polygons, nan=-1, posinf=-1, neginf=-1).astype(np.int64)
    if (index != polygons).any():
        raise DataError(f"{path}: a face has a corner that is not a whole number")
    n = index.shape[1]
    fan = [np.stack([index[:, 0], index[:, i], index[:, i + 1]], axis=-1) for i in range(1, n - 1)]
    return np.stack(fan, axis=1).reshape(-1, 3)
