"""Shards on the way to a set: begun, written, gone on with, joined."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.converting import Result
from pcgen.io.files import atomic, remove_leftovers
from pcgen.io.hdf5 import opened
from pcgen.io.listing import Catalog
from pcgen.io.locks import alone
from pcgen.io.names import take
from pcgen.io.shards import INDEX, Index, Plan, ours, read_index
from pcgen.io.table import SPLIT_CODES
from pcgen.io.writing import put, texts

_BLOCK = 4 << 20  # bytes copied at once


@dataclass
class Outcome:
    """What became of a source's clouds.

    Attributes:
        counts: Clouds in each file.
        rows: Rows of the source that failed.
        failed: (file, reason) of each.
        warned: How many clouds brought a warning.
        warning: The first of them.
    """

    counts: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    warned: int = 0
    warning: str = ""

    def done(self, among: range) -> NDArray[np.int64]:
        """Give of rows of the source those that did not fail."""
        return np.setdiff1d(np.arange(among.start, among.stop), self.rows)


# ── the folder ────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def begun(folder: Path, plan: Plan, *, overwrite: bool) -> Iterator[Index]:
    """Make a folder ready for the shards of a plan, or for going on with them.

    Args:
        folder: Where the shards are to lie.
        plan: What is asked for.
        overwrite: Replace a set that is there, or one begun in another way.

    Yields:
        The index: finished if nothing is left to do. An end without any shard removes the folder.

    Raises:
        DataError: If something else is there, or another process is at it.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is already there and no folder; give another name or remove it")
    with alone(folder, make=True) as is_ours:
        remove_leftovers(folder)
        try:
            yield _start(folder, plan, overwrite=overwrite)
        finally:
            if is_ours() and not any(folder.glob("shard-*")):
                discard(folder)


def _start(folder: Path, plan: Plan, *, overwrite: bool) -> Index:
    foreign = sorted(p.name for p in folder.iterdir() if not ours(p))
    if foreign:
        raise DataError(f"{folder} is already there and holds other things ({foreign[0]}); give another name")
    index = _known(folder, overwrite=overwrite)
    if index is not None and index.plan == plan and (index.counts is None or not overwrite):
        _forget(folder, plan.files())
        return index
    if not overwrite:
        _check_free(folder, index, plan)
    # first, from here on the folder is no set; and no shard may be there when a new index asks for its like, since one
    # of the same plan would pass for a new one
    (folder / INDEX).unlink(missing_ok=True)
    _forget(folder, [])
    index = Index(plan)
    index.write(folder)
    return index


def _known(folder: Path, *, overwrite: bool) -> Index | None:
    try:
        return read_index(folder)
    except DataError:
        if overwrite:
            return None
        raise


def _check_free(folder: Path, index: Index | None, plan: Plan) -> None:
    if index is None:
        if any(folder.iterdir()):
            raise DataError(f"{folder} is already there; pass overwrite=True (--overwrite) to replace it")
        return
    word = "is already there, made" if index.counts is not None else "was begun"
    raise DataError(
        f"{folder} {word} with other arguments ({plan.differences(index.plan)}); give the same, or pass overwrite=True "
        "(--overwrite) to make it anew"
    )


def _forget(folder: Path, kept: Sequence[str]) -> None:
    """Remove shards of another plan."""
    for path in sorted(folder.glob("shard-*")):
        if path.name not in kept:
            path.unlink()


def discard(folder: Path) -> None:
    """Remove a folder that holds nothing but shards and their index; leave any other."""
    there = sorted(folder.iterdir(), key=lambda p: p.name == INDEX) if folder.is_dir() else []
    if all(ours(p) for p in there):
        for path in there:  # the index last: shards without it would be nobody's
            path.unlink()
        with suppress(OSError):
            folder.rmdir()


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_shard(
    path: Path, listing: Catalog, plan: Plan, rows: range, results: Iterable[Result], *, stop: bool
) -> None:
    """Write one shard as its clouds come, whole or not at all.

    Args:
        path: The file.
        listing: The source.
        plan: How the set is made.
        rows: Of the source, which the shard takes.
        results: What became of each of them.
        stop: Raise at the first that failed.

    Raises:
        DataError: At a failure, if asked for, or if the file cannot be written.
    """
    import h5py

    told = Outcome()
    with atomic(path, durable=True) as temporary:
        with h5py.File(temporary, "w") as file:
            # contiguous, one read a cloud at a place that is known: without HDF5's table of chunks
            shape = (len(rows), plan.num_points, 3)
            points = file.create_dataset("points", shape, "f4", track_times=False)
            for row, result in zip(rows, results, strict=True):
                if result.points is not None:
                    points[row - rows.start - len(told.rows)] = result.points
                    told.warned += bool(result.message)
                    told.warning = told.warning or result.message
                elif stop:
                    raise DataError(result.message)
                else:
                    told.rows.append(row)
                    told.failed.append((str(listing.items[row]), result.message))
        if told.rows:
            _shorten(temporary, len(rows) - len(told.rows))
        attributes = plan.attributes() | {"first": rows.start, "last": rows.stop - 1}
        attributes = {k: np.bytes_(v) if isinstance(v, str) else v for k, v in attributes.items()}  # see `_attribute`
        _describe(temporary, listing, told.done(rows), told, attributes)


def _shorten(path: Path, count: int) -> None:
    """Leave out the places of what failed, which are known only now."""
    import h5py

    with atomic(path) as temporary, h5py.File(temporary, "w") as file, opened(path) as long:
        shape = (count, *long["points"].shape[1:])
        _copy(long["points"], file.create_dataset("points", shape, "f4", track_times=False), 0, count)


def _copy(source: Any, target: Any, start: int, count: int) -> None:
    block = max(1, _BLOCK // (12 * source.shape[1]))
    for i in range(0, count, block):
        k = min(block, count - i)
        target[start + i : start + i + k] = source[i : i + k]


def join_shards(shards: Sequence[Path], out: Path, listing: Catalog, plan: Plan, told: Outcome) -> None:
    """Put shards into one file, which appears whole or not at all."""
    import h5py

    with atomic(out, durable=True) as temporary:
        with h5py.File(temporary, "w") as file:
            shape, start = (sum(told.counts), plan.num_points, 3), 0
            points = file.create_dataset("points", shape, "f4", track_times=False)
            for path, count in zip(shards, told.counts, strict=True):
                with opened(path) as shard:
                    _copy(shard["points"], points, start, count)
                start += count
        _describe(temporary, listing, told.done(range(len(listing))), told, plan.attributes())


def _describe(path: Path, listing: Catalog, rows: NDArray[np.int64], told: Outcome, attributes: dict[str, Any]) -> None:
    """Add what is known of the clouds in a file, of those that are not in it, and how it was made."""
    import h5py

    with h5py.File(path, "r+") as file:
        for name, column in (_columns(listing, rows) | _failures(told)).items():
            put(file, name, column)
        if listing.up_axis is not None:
            file.attrs["up_axis"] = listing.up_axis
        if told.warned:
            file.attrs["warned"] = told.warned
        for name, value in attributes.items():
            file.attrs[name] = value


def _columns(listing: Catalog, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    if listing.label is not None:
        columns |= {"label": listing.label[rows], "class_names": texts(listing.class_names)}
    if listing.split is not None:
        columns["split"] = np.array([SPLIT_CODES[s] for s in listing.split[rows].tolist()], dtype=np.uint8)
    columns["name"] = texts(take(listing.name, rows))
    if listing.factors is not None:
        columns |= {"factors": listing.factors[rows], "factor_names": texts(listing.factor_names)}
    return columns


def _failures(told: Outcome) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    if told.rows:
        columns["failed_row"] = np.array(told.rows)
        columns["failed"] = texts([path for path, _ in told.failed])
        columns["failed_because"] = texts([reason for _, reason in told.failed])
    if told.warned:
        columns["warning"] = texts([told.warning])
    return columns


def outcome(paths: Sequence[Path], rows: Sequence[range]) -> Outcome:
    """Read what became of the clouds from the files that hold them.

    Args:
        paths: Files that `prepare` has written.
        rows: Rows of the source that each has taken.
    """
    told = Outcome()
    for path, taken in zip(paths, rows, strict=True):
        with opened(path) as file:
            failed = file["failed_row"][()].tolist() if "failed_row" in file else []
            told.counts.append(len(taken) - len(failed))
            if failed:
                told.rows += failed
                told.failed += zip(_texts(file["failed"]), _texts(file["failed_because"]), strict=True)
            if "warning" in file:
                told.warned += int(file.attrs["warned"])
                told.warning = told.warning or _texts(file["warning"])[0]
    return told


def _texts(column: Any) -> list[str]:
    return [v.decode("utf-8", "replace") for v in column[()].tolist()]
