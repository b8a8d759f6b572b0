"""Triangle meshes: reading them, and points on their surface."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.files import existing
from pcgen.io.obj import parse_obj
from pcgen.io.off import parse_off
from pcgen.io.open3d import load_open3d
from pcgen.io.ply_body import read_ply

Method = Literal["uniform", "poisson"]
MESH_SUFFIXES = (".off", ".obj", ".ply")
_SAMPLING = threading.Lock()  # Open3D has one random engine a process


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh. Checked when made.

    Attributes:
        vertices: (V, 3) float64.
        faces: Indices into them (F, 3) int64.
        source: Where it came from, for messages.

    Raises:
        DataError: If it is empty, a vertex that a face uses is not finite, an index is out of range, or no face has
            an area.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    source: str = "mesh"

    def __post_init__(self) -> None:
        vertices = np.ascontiguousarray(self.vertices, dtype=np.float64)
        faces = np.ascontiguousarray(self.faces, dtype=np.int64)
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)
        if vertices.ndim != 2 or faces.ndim != 2 or vertices.shape[1] != 3 or faces.shape[1] != 3:
            raise DataError(f"{self.source}: shapes {vertices.shape} and {faces.shape}; (V, 3) and (F, 3) needed")
        if not len(vertices) or not len(faces):
            raise DataError(f"{self.source}: an empty mesh ({len(vertices)} vertices, {len(faces)} faces)")
        outside = ((faces < 0) | (faces >= len(vertices))).any(1)
        if outside.any():
            i = int(outside.argmax())
            raise DataError(
                f"{self.source}: {outside.sum()} of {len(faces)} faces point outside the {len(vertices)} vertices, "
                f"the first is face {i} with corners {faces[i].tolist()}"
            )
        self._check_surface()

    def _check_surface(self) -> None:
        bad = np.asarray(~np.isfinite(self.vertices).all(1))
        if bad.any() and bad[self.faces].any():
            raise DataError(f"{self.source}: {bad.sum()} of {len(bad)} vertices are NaN or infinite")
        area = float(self.areas().sum())
        if not (np.isfinite(area) and area > 0):
            raise DataError(f"{self.source}: no face of {len(self.faces)} has an area: there is no surface to sample")

    def areas(self) -> NDArray[np.float64]:
        """Return the area of each face (F,)."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return 0.5 * np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1))


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read a triangle mesh from OFF, OBJ or PLY; polygons become triangles.

    Args:
        path: The file.

    Returns:
        The mesh as stored: no vertex is merged or dropped.

    Raises:
        DataError: If it is missing, cut short, empty, or not a mesh.
    """
    path = existing(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES or path.is_dir():
        raise DataError(f"{path} is not a mesh file; {', '.join(MESH_SUFFIXES)} are read")
    if suffix == ".off":
        return Mesh(*parse_off(path.read_bytes(), path), source=str(path))
    vertices, faces = read_surface(path)
    if not len(vertices):
        raise DataError(f"{path}: empty or cut short: no vertex could be read")
    if not len(faces):
        raise DataError(f"{path}: a cloud of {len(vertices)} points without faces, not a mesh")
    return Mesh(vertices, faces, source=str(path))


def read_surface(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read vertices (V, 3) and faces (F, 3), unchecked and perhaps none, of an OBJ or PLY."""
    if path.suffix.lower() == ".obj":
        return parse_obj(path.read_bytes(), path)
    return read_ply(path)


def sample_mesh(mesh: Mesh, num_points: int, *, method: Method = "uniform", seed: int = 0) -> NDArray[np.float32]:
    """Draw points on a mesh's surface.

    Args:
        mesh: The mesh.
        num_points: How many, N.
        method: `"uniform"`: independent and uniform by area; `"poisson"`: evenly spread, by eliminating from five
            times as many (Yuksel 2015, Sample elimination for generating Poisson disk sample sets).
        seed: Makes the draw repeatable, in any process. (Open3D has one random engine a process: it is set here.)

    Returns:
        (N, 3) float32, in the mesh's units, in random order.

    Raises:
        ConfigurationError: If N is below 1 or the method is unknown.
    """
    if num_points < 1:
        raise ConfigurationError(f"num_points is {num_points}; it must be at least 1")
    if method not in get_args(Method):
        raise ConfigurationError(f"method is {method!r}; it is uniform or poisson")
    # Only vertices in use go to Open3D, so that a stray one can be anything.
    used, faces = np.unique(mesh.faces, return_inverse=True)
    points = _sample(mesh.vertices[used], faces.reshape(-1, 3), num_points, method, seed & 0x7FFFFFFF)
    with np.errstate(over="ignore"):  # an overflow is caught as infinity
        cloud = points.astype(np.float32)
    if cloud.shape != (num_points, 3) or not np.isfinite(cloud).all():
        raise DataError(f"{mesh.source}: its surface could not be sampled ({len(points)} of {num_points} points)")
    return cloud


def _sample(vertices: Any, faces: Any, num_points: int, method: Method, seed: int) -> NDArray[np.float64]:
    open3d = load_open3d()
    mesh = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(vertices), open3d.utility.Vector3iVector(faces.astype(np.int32))
    )
    with _SAMPLING:
        open3d.utility.random.seed(seed)
        if method == "uniform":
            cloud = mesh.sample_points_uniformly(num_points)
        else:
            cloud = mesh.sample_points_poisson_disk(num_points)
    return np.array(cloud.points)
