"""Writing images: part by part, whole or not at all, and the same bytes for the same images."""

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.cli.images import IMAGES, Shape
from pcgen.errors import DataError
from pcgen.io.files import atomic

Append = Callable[[NDArray[np.float32]], None]
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_images(path: Path, parts: Iterable[NDArray[np.float32]], shape: Shape, *, name: Sequence[str] = ()) -> None:
    """Write images part by part, so that memory holds one part; whole or not at all.

    Args:
        path: `.npy`; `.npz` and `.h5` hold them as `images`.
        parts: Images (b, C, H, W) in [0, 1], (K, C, H, W) in all.
        shape: (K, C, H, W).
        name: Of each image, which `.npz` and `.h5` keep; or none.

    Raises:
        DataError: If an image holds NaN or infinity, or the file cannot be written.
    """
    writers = {".npy": _npy_writer, ".npz": _npz_writer}
    with atomic(path) as unfinished, writers.get(path.suffix.lower(), _hdf5_writer)(unfinished, shape, name) as append:
        for part in parts:
            if not np.isfinite(part).all():
                raise DataError("the model's images hold NaN or infinity: nothing is written")
            append(part)


@contextmanager
def _npy_writer(path: Path, shape: Shape, name: Sequence[str]) -> Iterator[Append]:  # noqa: ARG001 -- the others' form
    with path.open("wb") as file:
        file.write(_npy_header(shape))
        yield lambda part: _put(file, part)


@contextmanager
def _npz_writer(path: Path, shape: Shape, name: Sequence[str]) -> Iterator[Append]:
    from pcgen.io.writing import texts

    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(zipfile.ZipInfo(f"{IMAGES[0]}.npy", date_time=_ZIP_EPOCH), "w", force_zip64=True) as file:
            file.write(_npy_header(shape))
            yield lambda part: _put(file, part)
        if name:
            stream = io.BytesIO()
            np.lib.format.write_array(stream, texts(tuple(name)), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo("name.npy", date_time=_ZIP_EPOCH), stream.getvalue())


@contextmanager
def _hdf5_writer(path: Path, shape: Shape, name: Sequence[str]) -> Iterator[Append]:
    import h5py

    from pcgen.io.writing import put, texts

    with h5py.File(path, "w") as file:
        images, done = file.create_dataset(IMAGES[0], shape, np.float32, track_times=False), 0

        def append(part: NDArray[np.float32]) -> None:
            nonlocal done
            images[done : done + len(part)] = part
            done += len(part)

        yield append
        if name:
            put(file, "name", texts(tuple(name)))


def _npy_header(shape: Shape) -> bytes:
    stream = io.BytesIO()
    plain = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(stream, plain)
    return stream.getvalue()


def _put(file: Any, part: NDArray[np.float32]) -> None:
    file.write(np.ascontiguousarray(part, dtype="<f4").tobytes())
