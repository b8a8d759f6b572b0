"""Reads one damaged file after the other and judges what happened. Started by the runner, which outlives it.

A word a line comes in: `target first last`; a line of JSON an input goes out through a pipe of its own, since whatever
appears on the standard streams is a finding.
"""

import ctypes
import gc
import json
import os
import random
import re
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from tests.fuzzing.mutators import mutate
from tests.fuzzing.targets import TARGETS, MiB, Target

CORPUS = Path(__file__).with_name("corpus")
_MOST_WARNINGS = 5
_LONGEST_MESSAGE = 2000  # characters
_ROOM = 1024 * MiB  # of addresses beyond the bound: they cost nothing until they are used
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def starts(name: str, target: Target, folder: Path) -> list[tuple[str, bytes]]:
    """Make the files to start from, those of the corpus after them: named, in a fixed order."""
    made = folder / f"seeds-{name}"
    if not made.is_dir():
        made.mkdir()
        target.seeds(made)
    kept = CORPUS / name
    return [(p.name, p.read_bytes()) for where in (made, kept) if where.is_dir() for p in sorted(where.iterdir())]


def input_of(name: str, target: Target, files: list[tuple[str, bytes]], index: int, seed: int) -> tuple[str, bytes]:
    """Give an input's name and content: first the files as they are, then damaged ones."""
    if index < len(files):
        return files[index]
    rng = random.Random(f"{seed}:{name}:{index}")
    chosen = rng.choice(files)[0].removeprefix("bad_")
    suffix = Path(chosen).suffix
    alike = [content for other, content in files if Path(other).suffix == suffix]
    prefix = "ply_data_" if chosen.startswith("ply_data_") else ""
    return f"{prefix}input{suffix}", mutate(alike, target.words, rng)


class Judge:
    """Runs a reader on an input and says what is wrong with what it did, if anything."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.libc = ctypes.CDLL(None)
        self.noise = (scratch / "noise").open("w+b", buffering=0)
        os.dup2(self.noise.fileno(), 1)
        os.dup2(self.noise.fileno(), 2)

    def __call__(self, target: Target, file: str, data: bytes, *, valid: bool | None) -> dict[str, Any]:
        """Judge one input: `valid` says whether it must be accepted or refused, None that it may be either."""
        place = self.scratch / "place"
        place.mkdir(exist_ok=True)
        if target.companions is not None:
            target.companions(place)
        before = {p.name for p in place.iterdir()} | {file}
        path = place / file
        path.write_bytes(data)
        self._settle()
        bound = target.base + target.ratio * len(data)
        _limit(_status("VmSize") + bound + _ROOM)
        at, began = _status("VmRSS"), time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outcome, problem = _run(target, path)
        seconds, memory = time.perf_counter() - began, max(0, _status("VmHWM") - at)
        _limit(resource.RLIM_INFINITY)
        left = sorted({p.name for p in place.iterdir()} - before)
        for p in place.iterdir():
            p.unlink() if p.is_file() or p.is_symlink() else _remove(p)
        noise = self._heard()
        if not problem and memory > bound:
            problem = f"memory: {memory >> 20} MiB, the bound is {bound >> 20}"
        if not problem and len(caught) > _MOST_WARNINGS:
            problem = f"warnings: {len(caught)}, the first: {caught[0].message}"
        if not problem and left:
            problem = f"left behind: {', '.join(left)}"
        if not problem and noise:
            problem = f"noise: {noise[:200]!r}"
        if not problem and valid is not None and valid != (outcome == "accepted"):
            problem = f"{outcome}, which is wrong"
        return {"outcome": outcome, "problem": problem, "seconds": seconds, "memory": memory, "size": len(data)}

    def _settle(self) -> None:
        """Give memory back to the system and forget the most that was used."""
        gc.collect()
        self.libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def _heard(self) -> bytes:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.noise.seek(0)
        noise = self.noise.read(1000)
        self.noise.seek(0)
        self.noise.truncate()
        return noise


def _run(target: Target, path: Path) -> tuple[str, str]:
    from pcgen.errors import PcgenError

    try:
        target.load(path)
    except PcgenError as error:
        return f"refused: {error}", _wrong_message(str(error), path)
    except BaseException as error:  # noqa: BLE001 -- whatever else it is, is what we look for
        import traceback

        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [
            f for f in traceback.extract_tb(error.__traceback__) if "pcgen" in f.filename or "datamodules" in f.filename
        ]
        where = ours[-1] if ours else last
        return (
            "raised",
            f"{type(error).__name__}: {str(error)[:300]} ({Path(where.filename).name}:{where.lineno} {where.name})",
        )
    return "accepted", ""


def _wrong_message(text: str, path: Path) -> str:
    if str(path) not in text and str(path.parent) not in text:
        return f"message without the file: {text[:300]!r}"
    if _CONTROL.search(text):
        return f"message of more than one line, or with control characters: {text[:300]!r}"
    if len(text) > _LONGEST_MESSAGE:
        return f"message of {len(text)} characters: {text[:200]!r}"
    return ""


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def main() -> None:
    """Serve: `scratch-folder seed pipe` on the command line, work on standard input."""
    scratch, seed, pipe = Path(sys.argv[1]), int(sys.argv[2]), os.fdopen(int(sys.argv[3]), "w", encoding="utf-8")
    known: dict[str, Target] = dict(TARGETS)
    if len(sys.argv) > 4:
        from tests.fuzzing.faults import FAULTS

        known |= FAULTS
    judge = Judge(scratch)
    warm: set[str] = set()
    for line in sys.stdin:
        name, first, last = line.split()
        target = known[name]
        files = starts(name, target, scratch)
        if name not in warm:  # what is imported and made once is nobody's memory
            for file, data in files:
                if not file.startswith("bad"):
                    judge(target, file, data, valid=None)
            warm.add(name)
            gc.collect()
            gc.freeze()  # what is there stays: a collection of all libraries' objects would take a tenth of a second
        pipe.write('"ready"\n')
        pipe.flush()
        for index in range(int(first), int(last)):
            file, data = input_of(name, target, files, index, seed)
            own = index < len(files) and not (CORPUS / name / file).exists()
            told = judge(target, file, data, valid=not file.startswith("bad") if own else None)
            pipe.write(json.dumps({"index": index, "file": file, **told}) + "\n")
            pipe.flush()


if __name__ == "__main__":
    main()
