"""Meshes or clouds into pcgen's HDF5: over processes, in memory that does not grow with their number."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pcgen import __version__
from pcgen.errors import ConfigurationError, DataError
from pcgen.io.cloudset import resample, warn_repeats
from pcgen.io.files import atomic
from pcgen.io.formats import check_cloud, read_file
from pcgen.io.freshness import fingerprint
from pcgen.io.hdf5 import HDF5_SUFFIXES
from pcgen.io.listing import Catalog, Item
from pcgen.io.mesh import MESH_SUFFIXES, Method
from pcgen.io.parallel import available_cpus, in_order
from pcgen.io.progress import progress as show
from pcgen.io.reading import catalog, read_rows
from pcgen.io.table import SPLIT_CODES
from pcgen.io.writing import put, texts

_TASK_CLOUDS = 8  # that a task takes at once: sending one costs a millisecond, and what is sent waits in memory
_START_SECONDS = 3.0  # what a worker costs before its first mesh: starting Python and loading Open3D
_BYTES_PER_SECOND = 2e7  # what one process reads and samples of a mesh, roughly
_POISSON_SECONDS = 5e-5  # a point


@dataclass(frozen=True)
class Summary:
    """What `prepare` did.

    Attributes:
        path: The HDF5 file.
        converted: How many clouds are in it.
        failed: (file, reason) of each that is not.
        counts: Clouds by (class, split); "" where there is none.
        seconds: How long it took.
    """

    path: Path
    converted: int
    failed: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: float = 0.0

    def table(self) -> Any:
        """Return what rich prints as a table of the clouds by class and split, and one of the failures."""
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        splits = [s for s in ("train", "val", "test", "") if any(k[1] == s for k in self.counts)]
        title = f"{self.path}: {self.converted} clouds in {self.seconds:.1f} s, {len(self.failed)} failed"
        table = Table("class", *[s or "clouds" for s in splits], title=title)
        for name in dict.fromkeys(k[0] for k in self.counts):
            table.add_row(escape(name) or "–", *[str(self.counts.get((name, s), 0)) for s in splits])
        if not self.failed:
            return table
        failures = Table("not converted, because", title=f"{len(self.failed)} failed", title_style="bold red")
        for _, reason in self.failed:
            failures.add_row(escape(reason))
        return Group(table, failures)


@dataclass(frozen=True)
class _Task:
    items: tuple[Item, ...]
    names: tuple[str, ...]
    num_points: int
    method: Method
    seed: int


@dataclass(frozen=True)
class _Result:
    """Points (num_points, 3) with a warning or "", or None with the reason why not."""

    points: NDArray[np.float32] | None
    message: str = ""


def prepare(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    num_points: int = 2048,
    method: Method = "uniform",
    seed: int = 0,
    jobs: int | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    overwrite: bool = False,
    progress: bool = True,
) -> Summary:
    """Convert meshes or clouds to pcgen's HDF5.

    The result depends on the source, the points, the method and the seed alone, not on the number of processes.

    Args:
        source: Anything that `read_clouds` takes.
        out: An .h5 file; it appears when all is done, or not at all.
        num_points: Points a cloud.
        method: How meshes are sampled: `"uniform"` by area, or `"poisson"`, evenly spread.
        seed: Makes it repeatable.
        jobs: Processes; None takes as many as the work is worth, up to all processors.
        on_error: Leave out what cannot be converted and report it (`"skip"`), or stop at it (`"raise"`).
        overwrite: Replace a file that is there.
        progress: Show a bar with the time that remains.

    Returns:
        What was converted and what was not, with the reasons.

    Raises:
        DataError: If the source is not there, nothing in it could be converted, or the target is there already.
    """
    out, began = Path(out), time.monotonic()
    _check(out, num_points, method, jobs, on_error, overwrite=overwrite)
    # of the source as it is before it is read: a change meanwhile shows
    made_from = {"num_points": num_points, "method": method, "seed": seed, "fingerprint": fingerprint(source)}
    listing = catalog(source)
    tasks = list(_tasks(listing, num_points, method, seed))
    jobs = min(jobs or _worthwhile(listing, num_points, method), len(tasks))
    failed: list[tuple[str, str]] = []
    with _terminable(), atomic(out) as temporary:
        kept = _convert(listing, tasks, jobs, temporary, failed, on_error=on_error, progress=progress)
        if not kept:
            raise DataError(f"{source}: none of {len(listing)} could be converted, the first because {failed[0][1]}")
        done = listing.take(np.array(kept), None if listing.label is None else listing.label[kept], listing.class_names)
        _finish(temporary, done, {**made_from, "version": __version__})
    return Summary(out, len(kept), failed, _counts(done), time.monotonic() - began)


def _check(out: Path, num_points: int, method: str, jobs: int | None, on_error: str, *, overwrite: bool) -> None:
    if out.suffix.lower() not in HDF5_SUFFIXES:
        raise ConfigurationError(f"{out}: the target is an HDF5 file; name it {out.with_suffix('.h5').name}")
    if num_points < 1 or (jobs is not None and jobs < 1):
        raise ConfigurationError(f"num_points is {num_points} and jobs is {jobs}; both must be at least 1")
    if method not in get_args(Method) or on_error not in ("skip", "raise"):
        raise ConfigurationError(f"method is {method!r}, on_error {on_error!r}; uniform or poisson, skip or raise")
    if out.exists() and not overwrite:
        raise DataError(f"{out} is already there; pass overwrite=True (--overwrite) to replace it")


def _tasks(listing: Catalog, num_points: int, method: Method, seed: int) -> Iterator[_Task]:
    done = 0
    for _, group in groupby(listing.items, key=_together):
        items = list(group)
        for start in range(0, len(items), _TASK_CLOUDS):
            part = tuple(items[start : start + _TASK_CLOUDS])
            names = listing.name[done + start : done + start + len(part)]
            yield _Task(part, names, num_points, method, seed)
        done += len(items)


def _together(item: Item) -> object:
    """Key by which clouds go into one task: rows of one array, or files of one cloud each."""
    return None if item.row is None else (item.path, item.dataset)


def _work(task: _Task) -> list[_Result]:
    """Convert the clouds of one task, in a worker."""
    if task.items[0].row is None:
        return [_told(_single, piece)[0] for piece in _pieces(task)]
    return _told(_rows, task)


def _told(convert: Callable[[_Task], list[_Result]], task: _Task) -> list[_Result]:
    """Convert, with errors and warnings as messages."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            results = convert(task)
        except Exception as error:  # noqa: BLE001 -- whatever one mesh brings about, the others are converted
            return [_failure(item, error) for item in task.items]
    told = str(caught[0].message) if caught else ""
    return [r if r.points is None else _Result(r.points, told) for r in results]


def _single(task: _Task) -> list[_Result]:
    item, name = task.items[0], task.names[0]
    return [_Result(read_file(item.path, task.num_points, method=task.method, seed=task.seed, name=name))]


def _pieces(task: _Task) -> list[_Task]:
    """Cut a task into those of one cloud."""
    return [replace(task, items=(i,), names=(n,)) for i, n in zip(task.items, task.names, strict=True)]


def _rows(task: _Task) -> list[_Result]:
    clouds, results = read_rows(task.items), []
    if clouds.shape[1] < task.num_points:
        warn_repeats(str(task.items[0].path), clouds.shape[1], task.num_points, len(clouds))
    for item, name, cloud in zip(task.items, task.names, clouds, strict=True):
        try:
            results.append(_Result(resample(check_cloud(cloud, str(item)), task.num_points, task.seed, name)))
        except Exception as error:  # noqa: BLE001 -- as above: one cloud fails, not its neighbours
            results.append(_failure(item, error))
    return results


def _failure(item: Item, error: Exception) -> _Result:
    """Give the reason why a cloud is not there: our own errors name the file already."""
    return _Result(None, str(error) if isinstance(error, DataError) else f"{item}: {error!r}")


def _died(task: _Task) -> _Result:
    return _Result(None, f"{task.items[0]}: the process that read it died (out of memory, or a damaged file)")


def _convert(
    listing: Catalog, tasks: list[_Task], jobs: int, path: Path, failed: list[tuple[str, str]], *, on_error: str,
    progress: bool,
) -> list[int]:  # fmt: skip
    """Write the points as they come, one chunk a cloud; return the indices of those that are in the file."""
    import h5py

    N = tasks[0].num_points
    kept: list[int] = []
    told: list[str] = []
    with h5py.File(path, "w") as file, show("Converting", len(listing), shown=progress) as report:
        points = file.create_dataset(
            "points", (len(listing), N, 3), "f4", chunks=(1, N, 3), maxshape=(None, N, 3), track_times=False
        )
        with closing(in_order(_work, tasks, jobs, pieces=_pieces, died=_died)) as results:
            for index, result in enumerate(results):
                if result.points is not None:
                    points[len(kept)] = result.points
                    kept.append(index)
                    told += [result.message] * bool(result.message)
                elif on_error == "raise":
                    raise DataError(result.message)
                else:
                    failed.append((str(listing.items[index]), result.message))
                report(index + 1, None)
        points.resize(len(kept), axis=0)
    if told:
        warnings.warn(f"{told[0]} ({len(told)} such clouds)", stacklevel=3)
    return kept


def _finish(path: Path, done: Catalog, attributes: dict[str, Any]) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        if done.label is not None:
            put(file, "label", done.label)
            put(file, "class_names", texts(done.class_names))
        if done.split is not None:
            put(file, "split", np.array([SPLIT_CODES[s] for s in done.split.tolist()], dtype=np.uint8))
        put(file, "name", texts(done.name))
        if done.factors is not None:
            put(file, "factors", done.factors)
            put(file, "factor_names", texts(done.factor_names))
        if done.up_axis is not None:
            file.attrs["up_axis"] = done.up_axis
        for name, value in attributes.items():
            file.attrs[name] = value


def _counts(done: Catalog) -> dict[tuple[str, str], int]:
    classes = [""] * len(done) if done.label is None else [done.class_names[i] for i in done.label]
    splits = [""] * len(done) if done.split is None else done.split.tolist()
    counts: dict[tuple[str, str], int] = {}
    for key in zip(classes, splits, strict=True):
        counts[key] = counts.get(key, 0) + 1
    return counts


def _worthwhile(listing: Catalog, num_points: int, method: Method) -> int:
    """Return how many processes pay: a worker takes seconds to load Open3D, a small mesh a millisecond."""
    paths = {i.path for i in listing.items}
    seconds = sum(p.stat().st_size for p in paths) / _BYTES_PER_SECOND
    if method == "poisson" and listing.items[0].path.suffix.lower() in MESH_SUFFIXES:
        seconds += len(listing) * num_points * _POISSON_SECONDS
    return max(1, min(available_cpus(), int(seconds / _START_SECONDS)))


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block like an interruption, so that what is half done is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
