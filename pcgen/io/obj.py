"""Wavefront OBJ: vertices and faces, nothing else.

Open3D refuses a file whose material library is missing, as it is in most copies of ShapeNet, gives nothing for a file
of vertices alone, and does not say which face is wrong.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError


def parse_obj(data: bytes, path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read an OBJ file's bytes.

    Args:
        data: The whole file.
        path: For messages.

    Returns:
        Vertices (V, 3), and faces (F, 3), perhaps none, in which polygons have become fans of triangles. Indices
        count from 0 and are not checked against V.

    Raises:
        DataError: If there is no vertex, or a line cannot be read.
    """
    lines = data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines()  # a backslash goes on in the next line
    fields = [line.split(b"#")[0].split() for line in lines if line.lstrip()[:1] in (b"v", b"f")]
    corners = [f[1:4] for f in fields if f[0] == b"v"]  # a weight or a colour may follow
    if not corners:
        raise DataError(f"{path}: empty or not an OBJ file: no vertex in it")
    try:
        vertices = np.array(corners, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: a vertex without three numbers ({error})") from error
    return _three(vertices, path), _faces(fields, path)


def _three(vertices: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise DataError(f"{path}: vertices of {vertices.shape[-1]} coordinates; x, y and z needed")
    return vertices


def _faces(fields: list[list[bytes]], path: Path) -> NDArray[np.int64]:
    faces: list[tuple[int, int, int]] = []
    seen = 0
    try:
        for kind, *rest in fields:
            if kind == b"v":
                seen += 1
            elif kind == b"f":
                index = [int(corner.split(b"/")[0]) for corner in rest]
                # they count from 1; negative ones count back from the last vertex so far; 0 is wrong, as −1 will be
                index = [seen + i if i < 0 else i - 1 for i in index]
                faces += [(index[0], b, c) for b, c in pairwise(index[1:])]
        return np.array(faces, dtype=np.int64).reshape(-1, 3)
    except (ValueError, IndexError, OverflowError) as error:
        raise DataError(f"{path}: a face that cannot be read ({error})") from error
