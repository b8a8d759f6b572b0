"""Writing clouds: whole or not at all, and the same bytes for the same content."""

import io
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.cloudset import CloudSet
from pcgen.io.files import atomic
from pcgen.io.hdf5 import HDF5_SUFFIXES
from pcgen.io.ply import ply_bytes
from pcgen.io.table import SPLIT_CODES

WRITE_SUFFIXES = (*HDF5_SUFFIXES, ".npy", ".npz", ".ply", ".xyz")
_NUMBERED = re.compile(r"\d{5,}\.(ply|xyz)")
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_clouds(path: str | os.PathLike[str], clouds: CloudSet | ArrayLike) -> Path:
    """Write a set of clouds.

    Args:
        path: `.h5`, `.hdf5` and `.npz` keep everything, `.npy` the points; `.ply` and `.xyz` hold one cloud: of
            several, numbered ones are written into a folder of that name without suffix.
        clouds: A set, or points (K, N, 3) or (N, 3).

    Returns:
        What was written. The same content gives the same bytes.

    Raises:
        ConfigurationError: If the suffix is unknown.
        DataError: If the clouds are not sound, or the target cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITE_SUFFIXES:
        raise ConfigurationError(f"{path}: {suffix or '(no suffix)'!r} is not written; {', '.join(WRITE_SUFFIXES)} are")
    clouds = clouds if isinstance(clouds, CloudSet) else _as_set(clouds, path)
    if suffix in (".ply", ".xyz"):
        return _write_singles(path, clouds)
    with atomic(path) as temporary:
        if suffix in HDF5_SUFFIXES:
            _write_hdf5(temporary, clouds)
        elif suffix == ".npy":
            temporary.write_bytes(_npy_bytes(clouds.points))
        else:
            _write_npz(temporary, clouds)
    return path


def _as_set(clouds: ArrayLike, path: Path) -> CloudSet:
    array = np.asarray(clouds)
    return CloudSet(array[None] if array.ndim == 2 else array, source=f"clouds for {path}")


def table_of(clouds: CloudSet) -> dict[str, NDArray[Any]]:
    """Return everything but the points as arrays that a container holds; text as bytes of one length."""
    table: dict[str, NDArray[Any]] = {}
    if clouds.label is not None:
        table["label"] = clouds.label
    if clouds.split is not None:
        table["split"] = np.array([SPLIT_CODES[s] for s in clouds.split.tolist()], dtype=np.uint8)
    table["name"] = texts(clouds.name)
    if clouds.class_names:
        table["class_names"] = texts(clouds.class_names)
    if clouds.factors is not None:
        table["factors"] = clouds.factors
        table["factor_names"] = texts(clouds.factor_names)
    return table


def texts(values: Sequence[str]) -> NDArray[Any]:
    """Return text as UTF-8 bytes of one length (K,)."""
    return np.array([v.encode() for v in values] or [b""], dtype=np.bytes_)[: len(values)]


def put(file: Any, name: str, array: NDArray[Any]) -> None:
    """Add a dataset without a time stamp; bytes are marked as UTF-8."""
    import h5py

    dtype = h5py.string_dtype("utf-8", array.dtype.itemsize) if array.dtype.kind == "S" else array.dtype
    file.create_dataset(name, data=array.astype(dtype), dtype=dtype, track_times=False)


def _write_hdf5(path: Path, clouds: CloudSet) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        put(file, "points", clouds.points)  # contiguous: any cloud is one read
        for name, array in table_of(clouds).items():
            put(file, name, array)
        if clouds.up_axis is not None:
            file.attrs["up_axis"] = clouds.up_axis


def _write_npz(path: Path, clouds: CloudSet) -> None:
    table = {"points": clouds.points, **table_of(clouds)}
    if clouds.up_axis is not None:
        table["up_axis"] = np.array(clouds.up_axis)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in table.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=_ZIP_EPOCH)
            with archive.open(member, "w", force_zip64=True) as file:
                file.write(_npy_bytes(array))


def _npy_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _single_bytes(suffix: str, points: NDArray[np.float32]) -> bytes:
    if suffix == ".ply":
        return ply_bytes(points)
    buffer = io.StringIO()
    np.savetxt(buffer, points, fmt="%.9g")  # nine digits give a float32 back exactly
    return buffer.getvalue().encode()


def _write_singles(path: Path, clouds: CloudSet) -> Path:
    suffix = path.suffix.lower()
    if len(clouds) == 1:
        with atomic(path) as temporary:
            temporary.write_bytes(_single_bytes(suffix, clouds.points[0]))
        return path
    folder = path.with_suffix("")
    _clear_numbered(folder)
    with atomic(folder, folder=True) as temporary:
        for i, points in enumerate(clouds.points):
            (temporary / f"{i:05d}{suffix}").write_bytes(_single_bytes(suffix, points))
    return folder


def _clear_numbered(folder: Path) -> None:
    """Remove an earlier set of numbered clouds, and nothing else."""
    if not folder.is_dir():
        return
    there = sorted(folder.iterdir())
    foreign = [p for p in there if not _NUMBERED.fullmatch(p.name)]
    if foreign:
        raise DataError(f"{folder} holds other things ({foreign[0].name}); give another name or remove it")
    for p in there:
        p.unlink()
    folder.rmdir()
