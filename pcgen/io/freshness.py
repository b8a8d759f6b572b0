"""Whether a prepared file still is what its source would give."""

import hashlib
import os
from contextlib import suppress

from pcgen.errors import DataError
from pcgen.io.files import existing
from pcgen.io.hdf5 import opened
from pcgen.io.mesh import Method
from pcgen.io.trees import folder_files


def fingerprint(source: str | os.PathLike[str]) -> str:
    """Return a digest of the source's files: their names below it, sizes and times of change."""
    source = existing(source)
    files = folder_files(source) if source.is_dir() else [source]
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        name = path.relative_to(source).as_posix() if source.is_dir() else path.name
        digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def is_stale(
    out: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    num_points: int = 2048,
    method: Method = "uniform",
    seed: int = 0,
) -> bool:
    """Say whether a prepared file is missing, damaged, or was made from another source or with other options."""
    expected = {"num_points": num_points, "method": method, "seed": seed, "fingerprint": fingerprint(source)}
    with suppress(DataError), opened(existing(out)) as file:
        there = dict(file.attrs)
        return "points" not in file or any(there.get(k) != v for k, v in expected.items())
    return True
