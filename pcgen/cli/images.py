"""Reading images: NumPy arrays, HDF5, and PNG."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.files import check_claim, existing

IMAGES = ("images", "image", "x", "data")  # names of the array, ours first
HDF5_SUFFIXES = (".h5", ".hdf5")
CLOUDS = (*HDF5_SUFFIXES, ".npy", ".npz", ".ply", ".pcd", ".xyz", ".off", ".obj")
_LARGEST_RATIO = 1100  # gzip packs at most 1032 : 1
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with what is known of each.

    Attributes:
        images: (K, C, H, W) float32 in [0, 1].
        label: Index into `class_names` (K,), or None.
        split: `"train"`, `"val"` or `"test"` of each (K,), or None.
        name: One for each image; numbers where nothing better is known.
        class_names: Names of the labels.
        factors: Known generating factors (K, F), or None.
        factor_names: F names.
        source: The file, for messages.
    """

    images: NDArray[np.float32]
    label: NDArray[np.int64] | None = None
    split: NDArray[np.str_] | None = None
    name: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    factors: NDArray[np.float32] | None = None
    factor_names: tuple[str, ...] = ()
    source: str = "images"

    def __post_init__(self) -> None:
        from pcgen.io.cloudset import check_classes

        with _of_images(self.source):
            object.__setattr__(self, "class_names", check_classes(self.label, self.class_names, self.source))
        object.__setattr__(self, "name", self.name or tuple(f"{i:05d}" for i in range(len(self.images))))

    def __len__(self) -> int:
        return len(self.images)

    def select(self, *, split: str | None = None, classes: Sequence[str] | None = None) -> "ImageSet":
        """Keep one split, or some classes, or both.

        Raises:
            DataError: If there is no such split or class, with those that there are.
        """
        from pcgen.io.cloudset import choose

        if split is None and classes is None:
            return self
        with _of_images(self.source):
            rows, known = choose(self, split, classes)
        return replace(self, images=self.images[rows], **known)


def holds_images(path: Path) -> bool:
    """Say whether a file or folder holds images and not clouds, by its name, its arrays' names or their shape."""
    suffix = path.suffix.lower()
    if path.is_dir():  # clouds may have their pictures beside them
        found = {file.suffix.lower() for file in path.iterdir() if file.is_file()}
        return ".png" in found and not found & set(CLOUDS)
    if not path.is_file():  # whoever reads it says so
        return False
    if suffix == ".npy":
        with path.open("rb") as file:
            return file.read(6) == b"\x93NUMPY" and _npy(path).ndim == 4
    if suffix == ".npz" or suffix in HDF5_SUFFIXES:
        with _container(path) as (arrays, _):
            return IMAGES[0] in arrays
    return suffix == ".png"


def read_images(path: Path, shape: Shape | None = None) -> ImageSet:
    """Read images.

    Args:
        path: `.npy`, `.npz` or HDF5 with `images` (K, C, H, W), a `.png` or a folder of them. Numbers are in [0, 1];
            bytes from 0 to 255 are divided by 255.
        shape: (C, H, W) that they must have; None takes what there is.

    Returns:
        The images; HDF5 and `.npz` may also hold `label`, `class_names`, `split`, `name`, `factors`, `factor_names`.

    Raises:
        DataError: If the file is not of images, or not of this shape.
    """
    path, suffix = existing(path), path.suffix.lower()
    if path.is_dir() or suffix == ".png":
        return _read_pngs(path, shape)
    if suffix == ".npy":
        return ImageSet(_checked(_npy(path), shape, str(path)), source=str(path))
    if suffix == ".npz" or suffix in HDF5_SUFFIXES:
        return _read_container(path, shape)
    raise DataError(f"{path}: images are read from .npy, .npz, .h5, .png or a folder of .png, not from {suffix!r}")


def _npy(path: Path) -> NDArray[Any]:
    from pcgen.io.npy import map_npy

    return map_npy(path)


def _read_container(path: Path, shape: Shape | None) -> ImageSet:
    from pcgen.io.table import columns

    with _container(path) as (arrays, attributes):
        key = next((name for name in IMAGES if name in arrays), None)
        if key is None:
            raise DataError(f"{path}: no array {IMAGES[0]} in it; there is {', '.join(arrays) or 'nothing'}")
        _check_size(path, arrays[key])
        images = _checked(arrays[key], shape, str(path))
        with _of_images(str(path)):
            known = columns(arrays, attributes, len(images), str(path), lambda column: _check_size(path, column))
    known.pop("up_axis")
    return ImageSet(images, source=str(path), **known)


@contextmanager
def _container(path: Path) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Give the arrays of a file by name, to be read with `[()]`, and its attributes."""
    if path.suffix.lower() == ".npz":
        from pcgen.io.npz import npz_arrays

        yield npz_arrays(path), {}
        return
    from pcgen.io.hdf5 import opened
    from pcgen.io.hdf5_checks import check_attributes
    from pcgen.io.table import COLUMNS

    with opened(path) as file:
        check_attributes(path, file, COLUMNS)
        yield file, file.attrs


def _check_size(path: Path, array: Any) -> None:
    """Refuse an HDF5 dataset that announces far more than is stored; arrays of `.npz` check themselves."""
    if not hasattr(array, "id"):
        return
    from pcgen.io.hdf5_checks import check_dataset

    check_dataset(path, array)
    claimed = math.prod(array.shape) * int(array.dtype.itemsize)
    check_claim(f"{path}: {array.name}", claimed // (_LARGEST_RATIO // 100), array.id.get_storage_size())


def _checked(array: Any, shape: Shape | None, source: str) -> NDArray[np.float32]:
    """Read an array as images (K, C, H, W) float32 in [0, 1], or say why it is none."""
    given: tuple[int, ...] = getattr(array, "shape", ())
    wanted = f"(K, {', '.join(map(str, shape))})" if shape is not None else "(K, C, H, W)"
    if len(given) in (3, 4) and given[0] == 0:
        raise DataError(f"{source} holds no images: an array {tuple(given)}")
    images = np.asarray(array[()]) if len(given) in (3, 4) and np.dtype(array.dtype).kind in "fiu" else np.empty(0)
    if images.shape == shape:
        images = images[None]  # a single one
    if shape is not None and shape[0] == 1 and images.shape[1:] == shape[1:]:
        images = images[:, None]  # (K, H, W) of one channel
    if images.ndim != 4 or 0 in images.shape or shape not in (None, images.shape[1:]):
        raise DataError(f"{source} holds an array {tuple(given)} of {array.dtype}; images {wanted} are needed here")
    if images.dtype == np.uint8:
        return _fractions(images)
    # A copy of what is mapped: torch warns of what cannot be written to.
    checked: NDArray[np.float32] = np.require(images, np.float32, ["C", "W"])
    low, high = float(checked.min()), float(checked.max())
    if math.isnan(low):
        bad = int(np.isnan(checked).any(axis=(1, 2, 3)).sum())
        raise DataError(f"{source}: {bad} of {len(checked)} images hold NaN; leave them out")
    if low < 0 or high > 1:
        raise DataError(f"{source} holds numbers from {low:.4g} to {high:.4g}; images are in [0, 1], or bytes")
    return checked


def _fractions(pixels: NDArray[Any]) -> NDArray[np.float32]:
    fractions: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(255)
    return fractions


def _read_pngs(path: Path, shape: Shape | None) -> ImageSet:
    files = sorted(path.glob("*.png")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no .png")
    first = _png(files[0], shape)
    others = [_png(file, first.shape) for file in files[1:]]
    return ImageSet(_fractions(np.stack([first, *others])), name=tuple(file.stem for file in files), source=str(path))


def _png(file: Path, shape: Shape | None) -> NDArray[np.uint8]:
    """Read bytes (C, H, W), grey or red, green and blue as the shape has it or else as the file does."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            channels = shape[0] if shape is not None else 1 if picture.mode in {"1", "L", "I", "I;16"} else 3
            size = (channels, picture.height, picture.width)
            if channels not in (1, 3) or shape not in (None, size):
                raise DataError(f"{file} is of {picture.width} × {picture.height} pixels; images {shape} are needed")
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file} cannot be read as a picture: {error}") from error
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def _of_images(source: str) -> Iterator[None]:
    """Let errors that speak of a file's clouds speak of its images."""
    try:
        yield
    except DataError as error:
        text = str(error).removeprefix(f"{source}: ")
        raise DataError(f"{source}: {text.replace('cloud', 'image')}") from error
