"""Readers with one fault each: the runner must find them all."""

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from pcgen.errors import DataError, PcgenError
from tests.fuzzing.targets import MiB, Target


def _seed(folder: Path) -> None:
    (folder / "seed.txt").write_text("1 2 3")


def _fault(load: Callable[[Path], object]) -> Target:
    """Let a reader do well the first time, which only warms it up."""
    calls: list[Path] = []

    def guarded(path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:
            load(path)

    return Target(_seed, guarded)


def _raise(error: BaseException) -> None:
    raise error


class _RawError(PcgenError):
    """An error whose text nobody cleans."""

    def __str__(self) -> str:
        return str(self.args[0])


def _leave(path: Path) -> None:
    path.with_name("left.tmp").write_bytes(b"x")


def _warn(_: Path) -> None:
    for i in range(50):
        warnings.warn(f"number {i}", stacklevel=1)


def _huge(_: Path) -> None:
    with contextlib.suppress(MemoryError):
        bytearray(1 << 40)
    bytearray(os.urandom(MiB) * 100)


FAULTS = {
    "fault-none": _fault(lambda path: _raise(DataError(f"{path} is empty"))),
    "fault-crash": _fault(lambda _: os.kill(os.getpid(), signal.SIGSEGV)),
    "fault-hang": _fault(lambda _: time.sleep(60)),
    "fault-error": _fault(lambda _: _raise(RuntimeError("unforeseen"))),
    "fault-exit": _fault(lambda _: _raise(SystemExit(0))),
    "fault-nameless": _fault(lambda _: _raise(DataError("something is wrong"))),
    "fault-lines": _fault(lambda path: _raise(_RawError(f"{path} is\nempty"))),
    "fault-escape": _fault(lambda path: _raise(_RawError(f"{path} holds \x1b[2J"))),
    "fault-memory": _fault(_huge),
    "fault-noise": _fault(lambda _: os.write(1, b"hello")),
    "fault-file": _fault(_leave),
    "fault-warnings": _fault(_warn),
}
