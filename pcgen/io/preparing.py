"""Meshes or clouds into pcgen's HDF5, one file or shards: what a killed run had done is not done again.

Clouds are converted in shards of the source's order, each of which appears whole or not at all. A set in one file is
made in the same way, of parts in a hidden folder beside it, which are joined at the end.
"""

import os
import shutil
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pcgen import __version__
from pcgen.errors import ConfigurationError, DataError
from pcgen.io.converting import Result, converted
from pcgen.io.files import remove_leftovers
from pcgen.io.freshness import fingerprint, is_stale
from pcgen.io.hdf5 import HDF5_SUFFIXES
from pcgen.io.listing import Catalog
from pcgen.io.locks import alone
from pcgen.io.mesh import Method
from pcgen.io.progress import Report
from pcgen.io.progress import progress as show
from pcgen.io.reading import catalog
from pcgen.io.sharding import Outcome, begun, discard, join_shards, outcome, write_shard
from pcgen.io.shards import MOST_SHARDS, Index, Plan, whole

_PART = 64  # clouds in a part of what becomes one file: what a killed run loses at most


@dataclass(frozen=True)
class Summary:
    """What `prepare` did.

    Attributes:
        path: The HDF5 file, or the folder of shards.
        converted: How many clouds are in it.
        failed: (file, reason) of each that is not.
        counts: Clouds by (class, split); "" where there is none.
        seconds: How long it took.
        found: How many of the clouds, failed ones too, an earlier run had done.
    """

    path: Path
    converted: int
    failed: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: float = 0.0
    found: int = 0

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
    shard_size: int | None = None,
) -> Summary:
    """Convert meshes or clouds to pcgen's HDF5.

    The result depends on the source, the points, the method, the seed and the size of shards alone, not on the number
    of processes, and not on how often the work was interrupted: the same call goes on where a killed one stopped, and
    where all is done already it leaves it as it is.

    Args:
        source: Anything that `read_clouds` takes.
        out: An .h5 file; it appears when all is done, or not at all. With `shard_size` a folder, which is a set when
            all is done, and says that it is unfinished until then.
        num_points: Points a cloud.
        method: How meshes are sampled: `"uniform"` by area, or `"poisson"`, evenly spread.
        seed: Makes it repeatable.
        jobs: Processes; None takes as many as the work is worth, up to all processors.
        on_error: Leave out what cannot be converted and report it (`"skip"`), or stop at it (`"raise"`).
        overwrite: Replace what is there.
        progress: Show a bar with the time that remains.
        shard_size: Clouds of the source in each HDF5 file of a folder, for sets that memory does not hold; None makes
            one file.

    Returns:
        What was converted and what was not, with the reasons.

    Raises:
        DataError: If the source is not there, nothing in it could be converted, or the target is there already and was
            made from something else or with other arguments.
    """
    out, began = Path(out), time.monotonic()
    _check(out, num_points, method, jobs, on_error, shard_size)
    mark = fingerprint(source)  # of the source as it is before it is read: a change meanwhile shows
    listing = catalog(source)
    size = shard_size or max(_PART, -(-len(listing) // MOST_SHARDS))
    plan = Plan(num_points, method, seed, mark, __version__, len(listing), size)
    if plan.num_shards() > MOST_SHARDS:
        few = f"{plan.num_shards()} shards of {size} clouds are more than {MOST_SHARDS}"
        raise ConfigurationError(f"{few}; give a shard_size of at least {-(-len(listing) // MOST_SHARDS)}")
    work = _Work(source, listing, plan, jobs, on_error, progress)
    with _terminable():
        told, found = work.into_file(out, overwrite) if shard_size is None else work.into_folder(out, overwrite)
    done = told.done(range(len(listing)))
    return Summary(out, len(done), told.failed, _counts(listing, done), time.monotonic() - began, found)


def _check(out: Path, num_points: int, method: str, jobs: int | None, on_error: str, shard_size: int | None) -> None:
    if shard_size is None and out.suffix.lower() not in HDF5_SUFFIXES:
        name = out.with_suffix(".h5").name
        raise ConfigurationError(f"{out}: the target is an HDF5 file; name it {name}, or give shard_size for a folder")
    if shard_size is not None and (shard_size < 1 or out.suffix.lower() in HDF5_SUFFIXES):
        raise ConfigurationError(
            f"shard_size is {shard_size} and the target {out}; at least 1, and a folder (as {out.with_suffix('').name})"
        )
    if num_points < 1 or (jobs is not None and jobs < 1):
        raise ConfigurationError(f"num_points is {num_points} and jobs is {jobs}; both must be at least 1")
    if method not in get_args(Method) or on_error not in ("skip", "raise"):
        raise ConfigurationError(f"method is {method!r}, on_error {on_error!r}; uniform or poisson, skip or raise")


@dataclass(frozen=True)
class _Work:
    """What is to be done; both ways return what became of it, and how much was done before."""

    source: str | os.PathLike[str]
    listing: Catalog
    plan: Plan
    jobs: int | None
    on_error: str
    progress: bool

    def into_folder(self, out: Path, overwrite: bool) -> tuple[Outcome, int]:
        """Make a folder of shards."""
        with begun(out, self.plan, overwrite=overwrite) as index:
            found = len(self.listing) if index.counts is not None else self._fill(out)
            told = self._told(out)
            if index.counts is None:
                Index(self.plan, told.counts).write(out)
        return told, found

    def into_file(self, out: Path, overwrite: bool) -> tuple[Outcome, int]:
        """Make one file of parts that are joined at the end."""
        parts = out.with_name(f".{out.name}.parts")
        if out.exists() and not overwrite:
            return self._there(out, parts)
        with begun(parts, self.plan, overwrite=True):
            remove_leftovers(out.parent, out.name)
            found = self._fill(parts)
            told = self._told(parts)
            join_shards([parts / f for f in self.plan.files()], out, self.listing, self.plan, told)
            shutil.rmtree(parts, ignore_errors=True)
        return told, found

    def _there(self, out: Path, parts: Path) -> tuple[Outcome, int]:
        plan = self.plan
        if out.is_dir() or is_stale(out, self.source, num_points=plan.num_points, method=plan.method, seed=plan.seed):
            raise DataError(f"{out} is already there; pass overwrite=True (--overwrite) to replace it")
        with suppress(DataError), alone(parts):  # another run may be making the file anew
            shutil.rmtree(parts, ignore_errors=True)  # of a run that ended between the file's appearing and this
        return outcome([out], [range(plan.clouds)]), len(self.listing)

    def _fill(self, folder: Path) -> int:
        """Write the shards that are not there; return how many clouds those that are there have settled."""
        plan = self.plan
        shards = [(folder / f, rows) for f, rows in zip(plan.files(), plan.rows(), strict=True)]
        todo = [(path, rows) for path, rows in shards if not whole(path, plan, rows)]
        done = found = len(self.listing) - sum(len(r) for _, r in todo)
        ranges = [rows for _, rows in todo]
        results = converted(self.listing, ranges, plan.num_points, plan.method, plan.seed, self.jobs)
        with closing(results), show("Converting", len(self.listing), shown=self.progress) as report:
            for path, rows in todo:
                part = _watched(islice(results, len(rows)), done, report)
                write_shard(path, self.listing, plan, rows, part, stop=self.on_error == "raise")
                done += len(rows)
        return found

    def _told(self, folder: Path) -> Outcome:
        told = outcome([folder / f for f in self.plan.files()], self.plan.rows())
        if not sum(told.counts):
            discard(folder)
            count, reason = len(self.listing), told.failed[0][1]
            raise DataError(f"{self.source}: none of {count} could be converted, the first because {reason}")
        if told.failed and self.on_error == "raise":
            raise DataError(told.failed[0][1])
        if told.warned:
            warnings.warn(f"{told.warning} ({told.warned} such clouds)", stacklevel=5)
        return told


def _watched(results: Iterator[Result], done: int, report: Report) -> Iterator[Result]:
    for number, result in enumerate(results, done + 1):
        yield result
        report(number, None)


def _counts(listing: Catalog, rows: NDArray[np.int64]) -> dict[tuple[str, str], int]:
    classes = [""] * len(rows) if listing.label is None else [listing.class_names[i] for i in listing.label[rows]]
    splits = [""] * len(rows) if listing.split is None else listing.split[rows].tolist()
    return dict(Counter(zip(classes, splits, strict=True)))


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
