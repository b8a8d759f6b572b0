"""The IDX format of MNIST and its kin: two zero bytes, a type, the number of axes, their lengths, and the bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.files import check_claim, existing

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Read an array of bytes from an IDX file, packed by gzip or not.

    Args:
        path: The file; whether it is packed is seen from its first bytes.
        axes: How many axes it must have: 3 for images, 1 for labels.

    Returns:
        The array, with as many axes.

    Raises:
        DataError: If it is missing, damaged, of another type, or not as long as it says.
    """
    with existing(path).open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            kind, *shape = _header(path, stream.read(4 + 4 * axes), axes)
            size = math.prod(shape)
            if size == 0:
                raise DataError(f"{path} announces an array of shape {tuple(shape)}: it is empty or damaged")
            check_claim(str(path), size, path.stat().st_size)
            content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if kind != UNSIGNED_BYTE:
        raise DataError(f"{path} holds IDX values of type 0x{kind:02x}; images and labels are of 0x08, unsigned bytes")
    if len(content) != size:
        more = "more" if len(content) > size else f"only {len(content)}"
        raise DataError(f"{path} announces {size} bytes of shape {tuple(shape)} and holds {more}: download it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _header(path: Path, head: bytes, axes: int) -> tuple[int, ...]:
    """Give the type and the lengths of the axes."""
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(f"{path} is not an IDX file: it begins with {head[:4].hex(' ') or 'nothing'}")
    if head[3] != axes or len(head) < 4 + 4 * axes:
        raise DataError(f"{path} has {head[3]} axes where {axes} were expected: images have 3, labels 1")
    return (head[2], *struct.unpack(f">{axes}I", head[4:]))
