"""HDF5: our own layout, ModelNet40's `ply_data_*.h5`, and diffusion-point-cloud's `shapenet.hdf5`."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError, PcgenError
from pcgen.io.cloudset import SPLITS
from pcgen.io.files import check_claim
from pcgen.io.hdf5_checks import check_attributes, check_dataset, check_links
from pcgen.io.listing import Catalog, Items
from pcgen.io.synsets import SYNSETS
from pcgen.io.table import COLUMNS, POINTS, check_points, columns, find

HDF5_SUFFIXES = (".h5", ".hdf5")
_LARGEST_RATIO = 1100  # gzip packs at most 1032 : 1


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading; whatever HDF5 has to complain of becomes a DataError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            check_links(path, file)
            yield file
    except PcgenError:
        raise
    except (OSError, RuntimeError, KeyError, MemoryError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and not h5py.is_hdf5(path):
            raise DataError(f"{path} is not an HDF5 file, or its beginning is damaged") from error
        raise DataError(f"{path} cannot be read, it may be cut short: {error}") from error


def hdf5_catalog(path: Path) -> Catalog:
    """List the clouds of an HDF5 file."""
    with opened(path) as file:
        return open_catalog(path, file)


def open_catalog(path: Path, file: Any) -> Catalog:
    """List the clouds of an HDF5 file that is open."""
    groups = _shapenet_groups(file)
    return _shapenet(path, file, groups) if groups else _ours(path, file)


def _ours(path: Path, file: Any) -> Catalog:
    key = _points_key(path, file)
    K = file[key].shape[0]
    check_attributes(path, file, COLUMNS)
    fields = columns(file, file.attrs, K, str(path), lambda column: _check_size(path, column))
    if fields["split"] is None and path.name.startswith("ply_data_"):
        split = split_in_name(path)
        fields["split"] = None if split is None else np.full(K, split)
    return Catalog(str(path), "HDF5 clouds", Items.rows(path, key, K), **fields)


def _points_key(path: Path, file: Any) -> str:
    import h5py

    key = find(file, POINTS)
    if key is None or not isinstance(file[key], h5py.Dataset):
        raise DataError(f"{path}: no dataset {' or '.join(POINTS)} in it; there is {', '.join(file) or 'nothing'}")
    check_clouds_of(path, file[key])
    return key


def check_clouds_of(path: Path, data: Any) -> int:
    """Say so if a dataset cannot be clouds (K, N, 3), or cannot hold what it announces; return N."""
    check_points(data.shape, data.dtype, f"{path}:{data.name}")
    _check_storage(path, data)
    return int(data.shape[1])


def _check_storage(path: Path, data: Any) -> None:
    # a dataset of any size can be announced in a few bytes: what was never written would be read as zeros
    stored = data.id.get_storage_size()
    if _bytes(data.shape, data.dtype) > _LARGEST_RATIO * stored:
        raise DataError(f"{path}: {data.name} announces shape {data.shape}, but only {stored} bytes are stored")
    _check_size(path, data)


def _check_size(path: Path, data: Any) -> None:
    check_dataset(path, data)
    chunk = _bytes(data.chunks, data.dtype) if data.chunks else 0  # HDF5 unpacks whole chunks
    check_claim(f"{path}: {data.name}", max(_bytes(data.shape, data.dtype), chunk), data.id.get_storage_size())


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * int(dtype.itemsize)  # in Python's integers: `data.nbytes` would run over


def split_in_name(path: Path) -> str | None:
    """Find the split that a file's name tells, as in `ply_data_train0.h5`."""
    found = [s for s in SPLITS if re.search(rf"(?<![a-z]){s}", path.stem.lower())]
    return found[0] if len(found) == 1 else None


def _shapenet_groups(file: Any) -> list[str]:
    import h5py

    groups = {k: g for k, g in file.items() if isinstance(g, h5py.Group)}
    for group in groups.values():
        check_links(Path(file.filename), group)
    return sorted(k for k, g in groups.items() if any(s in g for s in SPLITS))


def _shapenet(path: Path, file: Any, groups: list[str]) -> Catalog:
    items: list[Items] = []
    label: list[int] = []
    split: list[str] = []
    name: list[str] = []
    for c, group in enumerate(groups):
        for s in (s for s in SPLITS if s in file[group]):
            data = file[group][s]
            if data.shape[0] == 0:
                continue
            check_clouds_of(path, data)
            items.append(Items.rows(path, f"{group}/{s}", len(data)))
            label += [c] * len(data)
            split += [s] * len(data)
            name += [f"{group}/{s}/{i:05d}" for i in range(len(data))]
    class_names = tuple(SYNSETS.get(g, g) for g in groups)
    up_axis = 1 if any(g in SYNSETS for g in groups) else None
    return Catalog(
        str(path), "diffusion-point-cloud's shapenet.hdf5", Items.joined(items), np.array(label, dtype=np.int64),
        np.array(split, dtype=np.str_), tuple(name), class_names, up_axis=up_axis,
    )  # fmt: skip


def read_hdf5_rows(path: Path, dataset: str, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
    """Read clouds (k, N, 3) float32 in the order of `rows`."""
    with opened(path) as file:
        return _gather(file[dataset], np.asarray(rows, dtype=np.int64))


def _gather(data: Any, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Read runs of neighbouring rows at once: HDF5's own lists of rows are slow and must be sorted without repeats."""
    unique, inverse = np.unique(rows, return_inverse=True)
    out = np.empty((len(unique), *data.shape[1:]), dtype=np.float32)
    edges = np.flatnonzero(np.diff(unique) != 1) + 1
    for run in np.split(np.arange(len(unique)), edges):
        if len(run):
            first = int(unique[run[0]])
            data.read_direct(out, np.s_[first : first + len(run)], np.s_[int(run[0]) : int(run[-1]) + 1])
    in_order = len(unique) == len(rows) and bool((np.diff(rows) > 0).all())
    return out if in_order else out[inverse.reshape(-1)]
