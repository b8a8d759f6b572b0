"""Whether a prepared file still is what its source would give."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pcgen.errors import DataError
from pcgen.io.files import existing
from pcgen.io.hdf5 import opened
from pcgen.io.mesh import Method
from pcgen.io.shards import read_index
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
    """Say whether a prepared file, or folder of shards, is missing or damaged, or was made in another way.

    That is from another source, which may have changed, or with other options.
    """
    expected = {"num_points": num_points, "method": method, "seed": seed, "fingerprint": fingerprint(source)}
    if Path(out).is_dir():
        return _is_stale_folder(existing(out), expected)
    with suppress(DataError), opened(existing(out)) as file:
        there = dict(file.attrs)
        return "points" not in file or any(there.get(k) != v for k, v in expected.items())
    return True


def _is_stale_folder(out: Path, expected: dict[str, Any]) -> bool:
    with suppress(DataError):
        index = read_index(out)
        if index is not None and index.counts is not None:
            return not expected.items() <= index.plan.attributes().items()
    return True
