"""Threads for kernels that release the interpreter lock: as many as torch has, anew in each process.

numba's own `prange` is not used: its threading layers do not survive a fork (a DataLoader worker) and some of them
abort when two threads call at once.
"""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

Progress = Callable[[int], None]
Task = tuple[int, Callable[[], None]]  # how much it counts for the progress, and what to do


@functools.lru_cache(maxsize=4)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001  # a forked child must not find its parent's
    return ThreadPoolExecutor(threads, thread_name_prefix="pcgen-ops")


def threads() -> int:
    """Give the number of threads that torch uses for one operation."""
    return max(1, torch.get_num_threads())


def batch_ranges(clouds: int) -> list[tuple[int, int]]:
    """Cut a batch into about four ranges a thread, so that a slow thread is helped."""
    step = max(1, clouds // (4 * threads()))
    return [(begin, min(begin + step, clouds)) for begin in range(0, clouds, step)]


def run_all(tasks: Iterable[Task], progress: Progress | None = None) -> None:
    """Do all the tasks, each on whichever thread is free first; the calling thread works too.

    Args:
        tasks: Independent of each other and of the order.
        progress: Told, on the calling thread, how much was finished since it was last told.

    Raises:
        BaseException: Whatever a task raised first; tasks not yet begun are dropped.
    """
    todo = list(tasks)
    queue, lock, done = iter(todo), threading.Lock(), deque[int]()
    helpers: list[Future[None]] = []
    if len(todo) > 1 and threads() > 1:
        pool = _pool(os.getpid(), threads() - 1)
        helpers = [pool.submit(_work, queue, lock, done) for _ in range(min(len(todo), threads()) - 1)]
    try:
        _work(queue, lock, done, progress)
    finally:
        with lock:
            deque(queue, maxlen=0)  # after an error nothing more is begun
        for helper in helpers:
            helper.cancel()
        errors = [helper.exception() for helper in helpers if not helper.cancelled()]
    for error in filter(None, errors):
        raise error
    _report(done, progress)


def _work(queue: Iterator[Task], lock: threading.Lock, done: deque[int], progress: Progress | None = None) -> None:
    """Do tasks until there are none."""
    while True:
        with lock:
            weight, task = next(queue, (0, None))
        if task is None:
            return
        task()
        done.append(weight)
        _report(done, progress)


def _report(done: deque[int], progress: Progress | None) -> None:
    if progress is not None and done:
        progress(sum(done.popleft() for _ in range(len(done))))
