"""Files of one cloud, and NumPy's: `.npy .npz .ply .pcd .xyz .txt .pts .off .obj`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.cloudset import resample, seed_of, warn_repeats
from pcgen.io.listing import Catalog, Items
from pcgen.io.mesh import Mesh, Method, read_mesh, read_surface, sample_mesh
from pcgen.io.npy import map_npy
from pcgen.io.npz import NpzArray, npz_catalog, npz_points
from pcgen.io.pcd import read_pcd
from pcgen.io.ply import read_ply_header
from pcgen.io.table import check_points

TEXT_SUFFIXES = (".xyz", ".txt", ".pts")
CLOUD_SUFFIXES = (".npy", ".npz", ".ply", ".pcd", *TEXT_SUFFIXES, ".off", ".obj")
DEFAULT_POINTS = 2048  # drawn from a mesh when nobody says how many


def file_catalog(path: Path) -> Catalog:
    """List the clouds of one file that is not HDF5."""
    suffix = path.suffix.lower()
    if suffix not in CLOUD_SUFFIXES:
        known = ", ".join((".h5", ".hdf5", *CLOUD_SUFFIXES))
        raise DataError(f"{path}: files of kind {suffix or '(no suffix)'!r} are not read; {known} are, and folders")
    if suffix == ".npz":
        return npz_catalog(path)
    if suffix == ".npy":
        shape = _load_npy(path).shape
        if len(shape) == 3:
            return Catalog(str(path), "NumPy clouds", Items.rows(path, "", shape[0]))
    return Catalog(str(path), _kind(path), Items.files([path]), name=(path.stem,))


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".off" or (suffix == ".ply" and is_mesh(path)) or suffix == ".obj":
        return "a mesh"
    return "one cloud"


def is_mesh(path: Path) -> bool:
    """Say whether points are to be drawn from the surface that this file holds."""
    suffix = path.suffix.lower()
    return suffix in (".off", ".obj") or (suffix == ".ply" and read_ply_header(path).count("face", "tristrips") > 0)


def read_file(
    path: Path, num_points: int | None = None, *, method: Method = "uniform", seed: int = 0, name: str = ""
) -> NDArray[np.float32]:
    """Read one cloud (N, 3), or draw it from a mesh.

    Args:
        path: A file that holds one cloud or mesh.
        num_points: Wanted points; None takes a cloud's own, and 2048 from a mesh.
        method: How meshes are sampled.
        seed: With the name, makes the draw repeatable.
        name: Of the cloud; its file's stem if empty.
    """
    name = name or path.stem
    content = _read(path)
    if isinstance(content, Mesh):
        return sample_mesh(content, num_points or DEFAULT_POINTS, method=method, seed=seed_of(seed, name))
    points = check_cloud(content, str(path))
    if num_points is None:
        return points
    if num_points > len(points):
        warn_repeats(str(path), len(points), num_points, 1)
    return resample(points, num_points, seed, name)


def read_raw(path: Path) -> NDArray[Any]:
    """Read the points (N, 3) of a file as they are, not finite ones too; of a mesh its vertices."""
    content = _read(path)
    points = np.asarray(content.vertices if isinstance(content, Mesh) else content)
    points = points[0] if points.ndim == 3 and len(points) == 1 else points
    check_points((1, *points.shape), points.dtype, str(path))
    return points


def check_cloud(points: Any, source: str) -> NDArray[np.float32]:
    """Return one cloud (N, 3) as float32, or say what is wrong with it."""
    array = np.asarray(points)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or array.shape[-1] != 3 or array.dtype.kind not in "fiu" or not len(array):
        raise DataError(f"{source}: a cloud of shape {array.shape} and type {array.dtype}; (N, 3) with N > 0 needed")
    with np.errstate(over="ignore"):  # what overflows float32 is caught as infinity
        cloud = np.ascontiguousarray(array, dtype=np.float32)
    bad = np.asarray(~np.isfinite(cloud).all(1))
    if bad.any():
        raise DataError(f"{source}: {bad.sum()} of {len(bad)} points are NaN or infinite, the first is {bad.argmax()}")
    return cloud


def _read(path: Path) -> Any:
    """Read a mesh, or an array of points that nobody has checked."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".off": read_mesh,
        ".obj": _read_either,
        ".ply": _read_either,
        ".pcd": read_pcd,
        ".npy": _load_npy,
        ".npz": lambda p: npz_points(p)[()],
    }
    return readers.get(path.suffix.lower(), _read_text)(path)


def _read_either(path: Path) -> Any:
    vertices, faces = read_surface(path)
    if not len(vertices):
        raise DataError(f"{path}: empty: no point in it")
    return Mesh(vertices, faces, source=str(path)) if len(faces) else vertices


def _read_text(path: Path) -> NDArray[np.float64]:
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    if lines and len(lines[0].split()) == 1 and lines[0].strip().isdigit():
        lines = lines[1:]  # .pts files begin with the number of points
    rows = [line for line in lines if line.split("#")[0].strip()]
    if not rows:
        raise DataError(f"{path}: empty: no point in it")
    try:
        table = np.loadtxt(rows, dtype=np.float64, ndmin=2, delimiter="," if "," in rows[0] else None)
    except ValueError as error:
        raise DataError(f"{path}: not a text of points ({str(error).partition(';')[0]})") from error
    if table.shape[1] < 3:
        raise DataError(f"{path}: {table.shape[1]} columns; x, y and z needed")
    return table[:, :3]  # normals and colours may follow


def _load_npy(path: Path) -> NDArray[Any]:
    array = map_npy(path)
    if array.ndim == 3:
        check_points(array.shape, array.dtype, str(path))
    return array


def read_array_rows(path: Path, key: str, rows: NDArray[np.int64] | None) -> NDArray[Any]:
    """Read rows of the array in a `.npy` (key "") or `.npz`; all of it for None."""
    array = NpzArray(path, key)[()] if key else _load_npy(path)
    return array if rows is None else np.asarray(array[rows], dtype=np.float32)
