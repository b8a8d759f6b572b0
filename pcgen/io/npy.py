"""NumPy's `.npy`: mapped, never unpickled."""

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError

# What NumPy's reading of a header raises: it is a Python literal, read by Python's own tokenizer and parser.
HEADER_ERRORS = (
    ValueError, TypeError, SyntaxError, TokenError, OverflowError, RecursionError, MemoryError, KeyError, IndexError,
    OSError, EOFError,
)  # fmt: skip


def map_npy(path: Path) -> NDArray[Any]:
    """Map a file into memory, so that a header that claims more than the file holds costs nothing.

    Raises:
        DataError: If it is not one array, not whole, or holds Python objects.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except HEADER_ERRORS as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a .npy file of numbers, or cut short ({told})") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: holds a {type(array).__name__}, not one array")
    return array
