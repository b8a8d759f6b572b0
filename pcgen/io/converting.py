"""Meshes and clouds to clouds of one size, over processes, in the order of the source."""

import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.cloudset import resample, warn_repeats
from pcgen.io.formats import check_cloud, read_file
from pcgen.io.listing import Catalog, Item, Items
from pcgen.io.mesh import MESH_SUFFIXES, Method
from pcgen.io.parallel import available_cpus, in_order
from pcgen.io.reading import read_rows

_TASK_CLOUDS = 8  # that a task takes at once: sending one costs a millisecond, and what is sent waits in memory
_START_SECONDS = 3.0  # what a worker costs before its first mesh: starting Python and loading Open3D
_BYTES_PER_SECOND = 2e7  # what one process reads and samples of a mesh, roughly
_POISSON_SECONDS = 5e-5  # a point


@dataclass(frozen=True)
class Result:
    """Points (num_points, 3) with a warning or "", or None with the reason why not."""

    points: NDArray[np.float32] | None
    message: str = ""


@dataclass(frozen=True)
class _Task:
    items: Items
    names: tuple[str, ...]
    num_points: int
    method: Method
    seed: int


def converted(
    listing: Catalog, ranges: list[range], num_points: int, method: Method, seed: int, jobs: int | None
) -> Generator[Result, None, None]:
    """Convert clouds of a listing.

    Args:
        listing: Where they lie.
        ranges: Which of them: ranges of its rows, ascending.
        num_points: Points a cloud.
        method: How meshes are sampled.
        seed: Makes it repeatable: a cloud's points depend on it, the method and the cloud's name alone.
        jobs: Processes; None takes as many as the work is worth, up to all processors.

    Yields:
        What became of each, in their order.
    """
    tasks = [task for r in ranges for task in _tasks(listing, r, num_points, method, seed)]
    share = sum(map(len, ranges)) / len(listing)
    jobs = min(jobs or _worthwhile(listing, share, num_points, method), len(tasks))
    if tasks:
        yield from in_order(_work, tasks, jobs, pieces=_pieces, died=_died)


def _tasks(listing: Catalog, rows: range, num_points: int, method: Method, seed: int) -> Iterator[_Task]:
    """Cut a range of rows into tasks: rows of one array, or files of one cloud each."""
    items, names = listing.items[rows.start : rows.stop], listing.name[rows.start : rows.stop]
    key = np.where(items.row < 0, -1, items.array)
    edges = [0, *(np.flatnonzero(np.diff(key)) + 1).tolist(), len(items)]
    for i in range(len(edges) - 1):
        for start in range(edges[i], edges[i + 1], _TASK_CLOUDS):
            stop = min(start + _TASK_CLOUDS, edges[i + 1])
            yield _Task(items[start:stop].compact(), tuple(names[start:stop]), num_points, method, seed)


def _work(task: _Task) -> list[Result]:
    """Convert the clouds of one task, in a worker."""
    if task.items[0].row is None:
        return [_told(_single, piece)[0] for piece in _pieces(task)]
    return _told(_rows, task)


def _told(convert: Callable[[_Task], list[Result]], task: _Task) -> list[Result]:
    """Convert, with errors and warnings as messages."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            results = convert(task)
        except Exception as error:  # noqa: BLE001 -- whatever one mesh brings about, the others are converted
            return [_failure(item, error) for item in task.items]
    told = str(caught[0].message) if caught else ""
    return [r if r.points is None else Result(r.points, told) for r in results]


def _single(task: _Task) -> list[Result]:
    item, name = task.items[0], task.names[0]
    return [Result(read_file(item.path, task.num_points, method=task.method, seed=task.seed, name=name))]


def _pieces(task: _Task) -> list[_Task]:
    """Cut a task into those of one cloud."""
    return [replace(task, items=task.items[i : i + 1].compact(), names=(n,)) for i, n in enumerate(task.names)]


def _rows(task: _Task) -> list[Result]:
    clouds, results = read_rows(task.items), []
    if clouds.shape[1] < task.num_points:
        warn_repeats(str(task.items[0].path), clouds.shape[1], task.num_points, len(clouds))
    for item, name, cloud in zip(task.items, task.names, clouds, strict=True):
        try:
            results.append(Result(resample(check_cloud(cloud, str(item)), task.num_points, task.seed, name)))
        except Exception as error:  # noqa: BLE001 -- as above: one cloud fails, not its neighbours
            results.append(_failure(item, error))
    return results


def _failure(item: Item, error: Exception) -> Result:
    """Give the reason why a cloud is not there: our own errors name the file already."""
    return Result(None, str(error) if isinstance(error, DataError) else f"{item}: {error!r}")


def _died(task: _Task) -> Result:
    return Result(None, f"{task.items[0]}: the process that read it died (out of memory, or a damaged file)")


def _worthwhile(listing: Catalog, share: float, num_points: int, method: Method) -> int:
    """Return how many processes pay: a worker takes seconds to load Open3D, a small mesh a millisecond."""
    first = listing.items[0].path
    seconds = share * sum(p.stat().st_size for p in {p for p, _ in listing.items.arrays}) / _BYTES_PER_SECOND
    if method == "poisson" and first.suffix.lower() in MESH_SUFFIXES:
        seconds += share * len(listing) * num_points * _POISSON_SECONDS
    return max(1, min(available_cpus(), int(seconds / _START_SECONDS)))
