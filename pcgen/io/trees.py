"""Folders: class/{train,val,test}/file trees (ModelNet, PC15k), `ply_data_*.h5` folders, plain folders of clouds."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from pcgen.errors import DataError
from pcgen.io.cloudset import SPLITS
from pcgen.io.formats import CLOUD_SUFFIXES, TEXT_SUFFIXES
from pcgen.io.hdf5 import HDF5_SUFFIXES, hdf5_catalog, split_in_name
from pcgen.io.listing import Catalog, Items
from pcgen.io.names import join
from pcgen.io.shards import is_sharded, shard_catalog
from pcgen.io.synsets import SYNSETS

_SKIP = ("__MACOSX",)
_LARGEST_LIST = 1 << 20  # bytes of a list of class names


def folder_files(folder: Path) -> list[Path]:
    """Find the files of clouds and meshes under a folder, sorted by name.

    Texts count only where nothing else is there, and not beside folders: they may be a readme or a list.
    """
    found = sorted(_walk(folder), key=lambda p: p.relative_to(folder).as_posix())
    hdf5 = [p for p in found if p.suffix.lower() in HDF5_SUFFIXES and p.parent == folder]
    texts = [p for p in found if p.suffix.lower() in TEXT_SUFFIXES]
    others = [p for p in found if p.suffix.lower() in CLOUD_SUFFIXES and p.suffix.lower() != ".txt"]
    deep = [p for p in texts if p.parent != folder]
    files = hdf5 or others or deep or texts
    if not files:
        kinds = ", ".join((*HDF5_SUFFIXES, *CLOUD_SUFFIXES))
        raise DataError(f"{folder}: no file of clouds or meshes in this folder; looked for {kinds}")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in _SKIP]
        for file in files:
            path = Path(parent, file)
            if not file.startswith(".") and path.suffix.lower() in (*HDF5_SUFFIXES, *CLOUD_SUFFIXES):
                yield path


def folder_catalog(folder: Path) -> Catalog:
    """List the clouds of a folder."""
    if is_sharded(folder):
        return shard_catalog(folder)
    files = folder_files(folder)
    if files[0].suffix.lower() in HDF5_SUFFIXES:
        return _hdf5_folder(folder, files)
    places = [_place(p.relative_to(folder).parts[:-1]) for p in files]
    places = _without_common_folder(places)
    groups = sorted({c for c, _ in places})
    synsets = all(g in SYNSETS for g in groups)
    off = all(p.suffix.lower() == ".off" for p in files)
    splits = _splits(folder, files, [s for _, s in places])
    return Catalog(
        source=str(folder),
        kind=_kind(groups, splits, synsets=synsets, off=off),
        items=Items.files(files),
        label=np.array([groups.index(c) for c, _ in places], dtype=np.int64) if groups != [""] else None,
        split=splits,
        name=_names(folder, files),
        class_names=tuple(SYNSETS.get(g, g or "(none)") for g in groups) if groups != [""] else (),
        up_axis=1 if synsets else 2 if off and splits is not None else None,
    )


def _place(parts: tuple[str, ...]) -> tuple[str, str]:
    """Read class and split out of the folders on the way to a file."""
    splits = [p for p in parts if p in SPLITS]
    return "/".join(p for p in parts if p not in SPLITS), splits[-1] if splits else ""


def _without_common_folder(places: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Drop the folder in which all classes lie, as archives often have one."""
    classes = {c for c, _ in places}
    heads = {c.partition("/")[0] for c in classes}
    if len(heads) > 1 or not all("/" in c for c in classes):
        return places
    return _without_common_folder([(c.partition("/")[2], s) for c, s in places])


def _kind(groups: list[str], splits: object, *, synsets: bool, off: bool) -> str:
    if synsets:
        return "a ShapeNet tree of synsets"
    if groups == [""]:
        return "a folder of clouds"
    return f"a {'ModelNet ' if off and splits is not None else ''}tree of classes"


def _splits(folder: Path, files: list[Path], splits: list[str]) -> "np.ndarray[tuple[int], np.dtype[np.str_]] | None":
    without = [p for p, s in zip(files, splits, strict=True) if not s]
    if len(without) == len(files):
        return None
    if without:
        warnings.warn(
            f"{folder}: {len(without)} of {len(files)} files lie in no train, val or test folder, {without[0]} first; "
            "they count as train",
            stacklevel=2,
        )
    return np.array([s or "train" for s in splits], dtype=np.str_)


def _names(folder: Path, files: list[Path]) -> tuple[str, ...]:
    stems = [p.stem for p in files]
    if len(set(stems)) == len(stems):
        return tuple(stems)
    return tuple(p.relative_to(folder).with_suffix("").as_posix() for p in files)


def _names_in(listing: Path) -> tuple[str, ...]:
    """Read names of classes, one a line."""
    if (size := listing.stat().st_size) > _LARGEST_LIST:
        raise DataError(f"{listing} has {size} bytes; a list of class names has at most {_LARGEST_LIST}")
    try:
        return tuple(listing.read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise DataError(f"{listing} is not a text file, so it has no names of classes") from error


def _hdf5_folder(folder: Path, files: list[Path]) -> Catalog:
    parts = [_named(hdf5_catalog(p), p) for p in files]
    label, split = [p.label for p in parts], [p.split for p in parts]
    listing = next((folder / n for n in ("shape_names.txt", "class_names.txt") if (folder / n).is_file()), None)
    listed = _names_in(listing) if listing else ()
    return Catalog(
        source=str(folder),
        kind="a folder of HDF5 clouds",
        items=Items.joined([p.items for p in parts]),
        label=None if any(x is None for x in label) else np.concatenate([x for x in label if x is not None]),
        split=None if any(x is None for x in split) else np.concatenate([x for x in split if x is not None]),
        name=join([p.name for p in parts], [f"{p.stem}/" for p in files]),
        class_names=listed or max((p.class_names for p in parts), key=len),
        up_axis=1 if any(p.name.startswith("ply_data_") for p in files) else parts[0].up_axis,
    )


def _named(part: Catalog, path: Path) -> Catalog:
    split = split_in_name(path)
    return replace(
        part,
        split=np.full(len(part), split) if part.split is None and split else part.split,
    )
