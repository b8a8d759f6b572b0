"""What reading a batch at a time from files costs: clouds a second in memory, from one HDF5 file and from shards.

    python benchmarks/shards.py [--clouds 8000] [--points 2048] [--batch 32] [--shard-size 1000] [--epochs 5] [--cold]

All ways take turns in one run; the table gives the median of each way's epochs, with the fastest and the slowest. The
last rows are two processes that read at once, each its half of the shuffled set, as the ranks of a training do; they
count the clouds of both. The files are in the page cache, except where --cold
asks the system to forget them before every epoch. "through HDF5" is the same file, gathered by h5py.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
import torch

from pcgen.datamodules import PointClouds
from pcgen.io import LazyClouds, prepare


def write(path: Path, clouds: int, points: int) -> None:
    """Write random clouds into one file."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("points", (clouds, points, 3), "f4")
        for i in range(clouds):
            data[i] = rng.standard_normal((points, 3), dtype=np.float32)


def loader(path: Path, batch: int, workers: int, *, in_memory: bool) -> Any:
    """Make a loader of training batches."""
    data = PointClouds(
        str(path), in_memory=in_memory, batch_size=batch, num_workers=workers, validation=0.0, test=0.0, scope="none"
    )
    return data.train_dataloader()


def through_hdf5(path: Path, batch: int) -> Iterator[torch.Tensor]:
    """Gather shuffled batches with h5py, a cloud at a time, as its own selections of many rows are slower."""
    with h5py.File(path, "r") as file:
        points = file["points"]
        order = np.random.default_rng(0).permutation(len(points))
        out = np.empty((batch, *points.shape[1:]), np.float32)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            for i, row in enumerate(rows.tolist()):
                points.read_direct(out, np.s_[row : row + 1], np.s_[i : i + 1])
            yield torch.from_numpy(out[: len(rows)])


def forget(folder: Path) -> None:
    """Ask the system to drop the files below a folder from its cache."""
    for path in folder.rglob("*.h5"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def epoch(make: Callable[[], Any]) -> float:
    """Time an epoch in seconds; every batch is touched."""
    began = time.perf_counter()
    for batch in make():
        x = batch if isinstance(batch, torch.Tensor) else batch.x
        x.view(-1)[0].item()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clouds", 8000), ("points", 2048), ("batch", 32), ("shard-size", 1000), ("epochs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before every epoch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        one, many, B = folder / "one.h5", folder / "many", options.batch
        write(one, options.clouds, options.points)
        size = options.shard_size
        prepare(one, many, num_points=options.points, shard_size=size, jobs=1, progress=False)
        ways: dict[str, Callable[[], Any]] = {"in memory": _again(loader(one, B, 0, in_memory=True))}
        ways["one file, through HDF5"] = lambda: through_hdf5(one, B)
        for name, path in (("one file", one), ("shards", many)):
            for workers in (0, 1, 2):
                ways[f"{name}, {workers} workers"] = _again(loader(path, B, workers, in_memory=False))
        count = len(list(many.glob("*.h5")))
        print(f"{options.clouds} clouds of {options.points} points, {count} shards, batches of {B}, ", end="")
        print(f"{'cold' if options.cold else 'warm'}, torch {torch.__version__}")
        with _ranks(one, B) as of_one, _ranks(many, B) as of_many:
            ways |= {"one file, 2 ranks": of_one, "shards, 2 ranks": of_many}
            times = _measure(ways, options.epochs, (lambda: forget(folder)) if options.cold else lambda: None)
        print(f"{'':24}{'clouds a second: median (slowest to fastest)':>46}{'ms a batch':>12}{'of memory':>11}")
        for name, several in times.items():
            slowest, middle, fastest = (options.clouds / f(several) for f in (max, median, min))
            rates = f"{middle:.0f} ({slowest:.0f} to {fastest:.0f})"
            share = median(times["in memory"]) / median(several)
            print(f"{name:24}{rates:>46}{1e3 * B / middle:12.2f}{share:11.2f}")


def _again(batches: Any) -> Callable[[], Any]:
    return lambda: batches


@contextmanager
def _ranks(path: Path, batch: int) -> Iterator[Callable[[], Any]]:
    """Keep two processes that read an epoch of half the clouds each, at once, whenever asked."""
    context = multiprocessing.get_context("spawn")
    starts, done = [context.Semaphore(0) for _ in range(2)], context.Semaphore(0)
    ranks = [
        context.Process(target=_rank, args=(rank, path, batch, start, done), daemon=True)
        for rank, start in enumerate(starts)
    ]

    def both() -> list[torch.Tensor]:
        for start in starts:
            start.release()
        for _ in ranks:
            if not done.acquire(timeout=600):
                raise SystemExit("a rank did not end its epoch")
        return []

    for rank in ranks:
        rank.start()
    try:
        yield both
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


def _rank(rank: int, path: Path, batch: int, start: Any, done: Any) -> None:
    clouds = LazyClouds(path)
    order = np.random.default_rng(0).permutation(len(clouds))[rank::2]
    while True:
        start.acquire()
        for first in range(0, len(order), batch):
            torch.from_numpy(clouds.gather(order[first : first + batch])).view(-1)[0].item()
        done.release()


def _measure(ways: dict[str, Callable[[], Any]], epochs: int, before: Callable[[], None]) -> dict[str, list[float]]:
    """Give the seconds of each way's epochs; the first, in which workers start, is left out."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(epochs + 1):
        for name, make in ways.items():
            before()
            seconds = epoch(make)
            if turn:
                times[name].append(seconds)
    return times


if __name__ == "__main__":
    main()
