"""Work spread over processes: in order, in bounded memory, and a worker that dies takes only its own task along."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 4  # tasks a worker may be ahead of the one that is waited for: bounds the results that wait


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[T], list[R]],
    tasks: Sequence[T],
    jobs: int,
    *,
    pieces: Callable[[T], list[T]],
    died: Callable[[T], R],
) -> Generator[R, None, None]:
    """Do all tasks and give the results in the order of the tasks.

    Args:
        work: A function of a module, so that it can be sent; it gives one result for each piece of a task.
        tasks: What to do; each worth several times the millisecond that sending it costs.
        jobs: Processes; 1 works in this one.
        pieces: Cuts a task into those of one result.
        died: Gives the result of a piece during which its process died.

    Yields:
        The results, one by one.
    """
    if jobs == 1:
        yield from chain.from_iterable(map(work, tasks))
        return
    pending = deque(tasks)
    while pending:
        # a pool ends with its first dead worker, whose task is not known: the oldest is tried alone, then a new pool
        for results in _until_broken(work, tuple(pending), jobs):
            pending.popleft()
            yield from results
        if pending:
            for piece in pieces(pending.popleft()):
                yield from _alone(work, piece, died)


def _until_broken(work: Callable[[T], R], tasks: Sequence[T], jobs: int) -> Iterator[R]:
    with _pool(jobs) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) >= jobs * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            return


def _alone(work: Callable[[T], list[R]], task: T, died: Callable[[T], R]) -> list[R]:
    with _pool(1) as pool:
        try:
            return pool.submit(work, task).result()
        except BrokenProcessPool:
            return [died(task)]


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Start workers that end with this block: when it is left early or this process is killed, at once."""
    context = multiprocessing.get_context("spawn")  # Open3D's threads do not survive a fork
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(reader,))
    try:
        _check_alive(pool)
        yield pool
    except BaseException:
        writer.close()  # does not wait for tasks under way
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        writer.close()
        reader.close()


def _check_alive(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(int).result()
    except BrokenProcessPool as error:
        raise ConfigurationError(
            "worker processes cannot be started: in a script call it under `if __name__ == '__main__':`, or with jobs=1"
        ) from error


def _start(parent: "Connection[Any, Any]") -> None:
    """Prepare a worker: interruptions are the parent's to handle, and without a parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"  # one process a processor is enough
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: "Connection[Any, Any]") -> None:
    """End this process when the other end of the pipe, which only the parent holds, is closed."""
    parent.poll(None)
    os._exit(1)
