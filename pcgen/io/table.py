"""The columns of a container (HDF5 or npz): one thing, the several names it has in the field."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.names import Names

POINTS, LABEL, NAME = ("points", "data"), ("label", "labels"), ("name", "names")
COLUMNS = (*LABEL, *NAME, "split", "factors", "factor_names", "class_names", "up_axis")
_MOST_NAMES = 65536  # of classes or factors
_SPLIT_CODES = {0: "train", 1: "test", 2: "val"}
SPLIT_CODES = {name: code for code, name in _SPLIT_CODES.items()}


def find(container: Mapping[str, Any], aliases: tuple[str, ...]) -> str | None:
    """Return the name under which a column is there, or None."""
    return next((a for a in aliases if a in container), None)


def check_points(shape: tuple[int, ...], dtype: Any, source: str) -> None:
    """Say so if an array cannot be clouds."""
    if len(shape) != 3 or shape[2] != 3 or np.dtype(dtype).kind not in "fiu" or 0 in shape:
        raise DataError(f"{source}: points of shape {shape} and type {dtype}; (K, N, 3) numbers with K, N > 0 needed")


def columns(
    container: Mapping[str, Any],
    attributes: Mapping[str, Any],
    num_clouds: int,
    source: str,
    check: Callable[[Any], None] | None = None,
) -> dict[str, Any]:
    """Read all columns but the points. What a column announces is checked before it is read.

    Args:
        container: Arrays by name, with a shape; they are read with `[()]` when needed.
        attributes: Where class names and the like may stand instead.
        num_clouds: K.
        source: For messages.
        check: Says so if an array cannot be as large as it announces.

    Returns:
        Fields of a `Catalog`.

    Raises:
        DataError: If a column is longer or shorter than there are clouds, or of the wrong kind.
    """

    def column(*aliases: str, rows: bool = False) -> NDArray[Any] | None:
        key = find(container, aliases)
        if key is not None:
            _check_length(container[key], num_clouds if rows else None, key, source)
            if check is not None:
                check(container[key])
            return np.asarray(container[key][()])
        key = find(attributes, aliases)
        return None if key is None else np.asarray(attributes[key])

    label, split = column(*LABEL, rows=True), column("split", rows=True)
    factors, up = column("factors", rows=True), column("up_axis")
    return {
        "label": None if label is None else _integers(label, source),
        "split": None if split is None else _splits(split, source),
        "name": _names(column(*NAME, rows=True), source),
        "class_names": _texts(column("class_names"), source),
        "factors": None if factors is None else _factors(factors, source),
        "factor_names": _texts(column("factor_names"), source),
        "up_axis": int(up.item()) if up is not None and up.size == 1 and up.item() in (0, 1, 2) else None,
    }


def _check_length(array: Any, num_clouds: int | None, key: str, source: str) -> None:
    """Say so if an array has not one row a cloud or, where it has rows of its own, more of them than are sensible."""
    shape = getattr(array, "shape", None)
    if shape is None:
        raise DataError(f"{source}: {key} is not an array")
    length = math.prod(shape) if key != "factors" else shape[0] if shape else 0
    if num_clouds is not None and length != num_clouds:
        raise DataError(f"{source}: {num_clouds} clouds but {length} entries in {key}; one for each cloud")
    if num_clouds is None and length > _MOST_NAMES:
        raise DataError(f"{source}: {length} entries in {key}; at most {_MOST_NAMES} are read")


def _integers(label: NDArray[Any], source: str) -> NDArray[np.int64]:
    flat = label.reshape(-1)
    if flat.dtype.kind not in "iuf" or not np.isfinite(flat).all() or (flat != np.trunc(flat)).any():
        raise DataError(f"{source}: labels of type {label.dtype}; whole numbers needed")
    return flat.astype(np.int64)


def _factors(factors: NDArray[Any], source: str) -> NDArray[np.float32]:
    if factors.ndim != 2 or factors.dtype.kind not in "iuf":
        raise DataError(f"{source}: factors of shape {factors.shape} and type {factors.dtype}; (K, F) numbers needed")
    return factors.astype(np.float32)


def _splits(split: NDArray[Any], source: str) -> NDArray[np.str_]:
    flat = split.reshape(-1)
    if flat.dtype.kind in "iu":
        known = (flat >= 0) & (flat < len(_SPLIT_CODES))
        coded = np.array([_SPLIT_CODES[code] for code in range(len(_SPLIT_CODES))])
        names = coded[np.where(known, flat, 0).astype(np.int64)]
    else:
        names = np.array(_texts(split, source), dtype=np.str_)
        known = np.array([n in SPLIT_CODES for n in names.tolist()], dtype=bool)
    if not known.all():
        row = known.argmin()
        raise DataError(f"{source}: row {row} is in split {flat[row]!r}; known are 0 or train, 1 or test, 2 or val")
    return names


def _names(array: NDArray[Any] | None, source: str) -> Sequence[str]:
    if array is None or array.dtype.kind != "S":
        return _texts(array, source)
    try:
        array.tobytes().decode()
    except UnicodeDecodeError:
        return _texts(array, source)
    return Names(array.reshape(-1))


def _texts(array: NDArray[Any] | None, source: str) -> tuple[str, ...]:
    if array is None:
        return ()
    values = array.reshape(-1).tolist()
    if not all(isinstance(v, bytes | str) for v in values):
        raise DataError(f"{source}: names of type {array.dtype}; text needed")
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values)
