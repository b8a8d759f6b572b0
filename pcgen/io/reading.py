"""Reading clouds from whatever the field has on disk."""

import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import ConfigurationError
from pcgen.io.cloudset import CloudSet, check_clouds, resample, warn_repeats
from pcgen.io.files import existing
from pcgen.io.formats import file_catalog, read_array_rows, read_file
from pcgen.io.hdf5 import HDF5_SUFFIXES, hdf5_catalog, read_hdf5_rows
from pcgen.io.listing import Catalog, Items
from pcgen.io.trees import folder_catalog


def read_clouds(
    path: str | os.PathLike[str],
    *,
    num_points: int | None = None,
    split: str | None = None,
    classes: Sequence[str] | str | None = None,
    seed: int = 0,
) -> CloudSet:
    """Read a set of clouds.

    Args:
        path: pcgen's HDF5; a `modelnet40_ply_hdf5_2048` folder or one of its files; a ShapeNetCore.v2.PC15k tree
            (synset/{train,val,test}/*.npy); `shapenet.hdf5` of diffusion-point-cloud; a tree class/{train,test}/ of
            OFF meshes; one .npy .npz .ply .pcd .xyz .txt .pts .off .obj; or a folder of them. Points are drawn
            uniformly by area from what is a mesh.
        num_points: Points a cloud: a subset without repeats, or repeats with one warning. None keeps all points
            (of clouds that differ as many as the smallest has, with a warning), and draws 2048 from a mesh.
        split: Read only `"train"`, `"val"` or `"test"`.
        classes: Read only these; labels are numbered in this order.
        seed: Makes subsets and draws repeatable; a cloud's depends on its name, not on what is read beside it.

    Returns:
        The clouds, in the file's order or sorted by path.

    Raises:
        DataError: If something is missing, damaged, empty, not finite, or of an unknown kind.
    """
    if num_points is not None and num_points < 1:
        raise ConfigurationError(f"num_points is {num_points}; it must be at least 1")
    listing = catalog(path).select(split, classes)
    return CloudSet(
        points=_points(listing, num_points, seed),
        label=listing.label,
        split=listing.split,
        name=tuple(listing.name),
        class_names=listing.class_names,
        factors=listing.factors,
        factor_names=listing.factor_names,
        up_axis=listing.up_axis,
        source=str(path),
    )


def catalog(path: str | os.PathLike[str]) -> Catalog:
    """List the clouds of a path without reading their points."""
    path = existing(path)
    if path.is_dir():
        return folder_catalog(path)
    return hdf5_catalog(path) if path.suffix.lower() in HDF5_SUFFIXES else file_catalog(path)


def read_rows(items: Items) -> NDArray[np.float32]:
    """Read clouds (k, N, 3) that lie in one array."""
    path, dataset, rows = items[0].path, items[0].dataset, items.row
    if path.suffix.lower() in HDF5_SUFFIXES:
        return read_hdf5_rows(path, dataset, rows)
    return read_array_rows(path, dataset, rows)


def _points(listing: Catalog, num_points: int | None, seed: int) -> NDArray[np.float32]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parts = list(_parts(listing, num_points, seed))
    _repeat_once(caught)
    sizes = {p.shape[1] for p in parts}
    if len(sizes) > 1:
        smallest = min(sizes)
        warnings.warn(
            f"{listing.source}: clouds of {smallest} to {max(sizes)} points; {smallest} of each are taken",
            stacklevel=3,
        )
        parts = list(_resampled(parts, listing, smallest, seed))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _parts(listing: Catalog, num_points: int | None, seed: int) -> Iterator[NDArray[np.float32]]:
    """Read arrays (k, N, 3), already resampled where the number of points is known."""
    for start, stop in listing.items.runs():
        items, names = listing.items[start:stop], listing.name[start:stop]
        path, dataset, row = items[0].path, items[0].dataset, items[0].row
        if row is None:
            yield read_file(path, num_points, seed=seed, name=names[0])[None]
            continue
        clouds = check_clouds(read_rows(items), f"{path}:{dataset}" if dataset else str(path))
        if num_points in (None, clouds.shape[1]):
            yield clouds
            continue
        if num_points > clouds.shape[1]:
            warn_repeats(str(path), clouds.shape[1], num_points, len(clouds))
        yield np.stack([resample(c, num_points, seed, n) for c, n in zip(clouds, names, strict=True)])


def _resampled(
    parts: list[NDArray[np.float32]], listing: Catalog, num_points: int, seed: int
) -> Iterator[NDArray[np.float32]]:
    clouds = (c for part in parts for c in part)
    for cloud, name in zip(clouds, listing.name, strict=True):
        yield resample(cloud, num_points, seed, name)[None]


def _repeat_once(caught: list[Any]) -> None:
    """Give the first warning of each kind, with how often it came."""
    seen: dict[type[Warning], list[str]] = {}
    for warning in caught:
        seen.setdefault(warning.category, []).append(str(warning.message))
    for category, messages in seen.items():
        more = f" (and {len(messages) - 1} more such warnings)" if len(messages) > 1 else ""
        warnings.warn(messages[0] + more, category, stacklevel=5)
