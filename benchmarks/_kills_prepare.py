"""Killing `pcgen data prepare` at random moments: what can be read in between, and what stands there in the end."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pcgen.errors import DataError
from pcgen.io import describe_file

_MESHES, _CLOUDS, _POINTS = 360, 240, 512
_KINDS = ("shards", "file")
_DEADLINE = 300  # seconds that one run may take
_ORPHANS_END = 20  # seconds after their parent's death, by which its workers must have ended by themselves


def trials(n: int, folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Kill the conversion of a tree of meshes and clouds, go on until it is done, and compare.

    Shards and one file take turns, and so do one process and two. Half of the moments are drawn uniformly from the
    time that an uninterrupted run takes, and half from the time in which its shards appear; half of the runs that go on
    are killed too. A run is killed with all its workers, except in every third trial, of two processes, where the next
    run begins at once beside the orphans, which must end by themselves.

    Args:
        n: How many trials.
        folder: An empty folder to work in.
        seed: Decides the moments.

    Returns:
        For each trial: `kind`, `jobs`, `parent_only`, `kills`, `moments` (seconds), `shards_after` (whole ones, or
        parts of what becomes one file, after each kill), `orphans` (workers that outlived their parent's death at
        first, for each kill) and `faults`: what could be read although it was not whole, what differs in the end from
        the uninterrupted result by a byte, what should not be there, and orphans that had to be killed.
    """
    rng = random.Random(seed)
    source = folder / "source"
    _make(source, seed)
    whole: dict[tuple[str, int], tuple[dict[str, str], float, float]] = {}
    results = []
    for number in range(n):
        parent_only = number % 3 == 2
        key = _KINDS[number % 2], 2 if parent_only else 1 + number // 2 % 2
        if key not in whole:
            whole[key] = _uninterrupted(source, folder / f"whole-{key[0]}-{key[1]}", *key)
        results.append(_trial(source, folder / f"trial-{number:03d}", *key, *whole[key], rng, parent_only))
    return results


def _make(source: Path, seed: int) -> None:
    """Write boxes as OFF meshes and spheres as NumPy clouds, a few of them bad."""
    rng = np.random.default_rng(seed)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    told = "\n".join(f"4 {a} {b} {c} {d}" for a, b, c, d in faces)
    for i in range(_MESHES):
        box = source / "box" / ("test" if i % 5 == 0 else "train")
        box.mkdir(parents=True, exist_ok=True)
        vertices = "\n".join(" ".join(map(str, v)) for v in (corners * rng.uniform(1, 9, 3)).tolist())
        (box / f"box_{i:04d}.off").write_text("OFF 1" if i % 100 == 7 else f"OFF\n8 6 12\n{vertices}\n{told}\n")
    for i in range(_CLOUDS):
        ball = source / "ball" / ("test" if i % 5 == 0 else "train")
        ball.mkdir(parents=True, exist_ok=True)
        points = rng.normal(size=(2 * _POINTS, 3))
        np.save(ball / f"ball_{i:04d}.npy", (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32))


def _command(source: Path, place: Path, kind: str, jobs: int) -> list[str]:
    more = ["--shard-size", "40"] if kind == "shards" else []
    target = place / ("set" if kind == "shards" else "set.h5")
    words = ["data", "prepare", source, target, "--points", _POINTS, "--jobs", jobs, "--allow-failures", *more]
    return [sys.executable, "-m", "pcgen", *map(str, words)]


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    # no pipe: orphans would hold it open
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=quiet
    )


def _finish(command: list[str]) -> None:
    if status := _start(command).wait(_DEADLINE):
        raise RuntimeError(f"the conversion ended with {status}: {' '.join(command)}")


def _uninterrupted(source: Path, place: Path, kind: str, jobs: int) -> tuple[dict[str, str], float, float]:
    """Give digests of what is made, and the seconds until the first shard and until the end."""
    place.mkdir()
    began, first = time.monotonic(), 0.0
    process = _start(_command(source, place, kind, jobs))
    while process.poll() is None and time.monotonic() - began < _DEADLINE:
        if not first and any(place.rglob("shard-*.h5")):
            first = time.monotonic() - began
        time.sleep(0.01)
    seconds = time.monotonic() - began
    if process.poll() != 0:
        process.kill()
        raise RuntimeError(f"the conversion ended with {process.wait()}")
    return _bytes(place), first, seconds


def _bytes(place: Path) -> dict[str, str]:
    """Give a digest of every file below a folder, hidden ones too."""
    files = sorted(p for p in place.rglob("*") if p.is_file())
    return {p.relative_to(place).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _trial(
    source: Path, place: Path, kind: str, jobs: int, expected: dict[str, str], first: float, seconds: float,
    rng: random.Random, parent_only: bool,
) -> dict[str, Any]:  # fmt: skip
    place.mkdir()
    command = _command(source, place, kind, jobs)
    moments: list[float] = []
    faults: list[str] = []
    shards: list[int] = []
    sessions: list[int] = []
    orphans: list[int] = []
    while not moments or rng.random() < 0.5:
        moments.append(round(rng.uniform(first if rng.random() < 0.5 else 0, seconds), 3))
        sessions.append(_kill(command, moments[-1], parent_only=parent_only))
        orphans.append(len(_of_session(sessions[-1])))
        faults += [f"torn: {x}" for x in _torn(place, kind, expected)]
        shards.append(len(list(place.rglob("shard-*.h5"))))
    _finish(command)
    faults += [f"outlived its parent: {pid}" for session in sessions for pid in _end_orphans(session)]
    found = _bytes(place)
    faults += [f"differs: {name}" for name, digest in expected.items() if found.get(name) != digest]
    leftovers = {p.relative_to(place).as_posix() for p in place.rglob("*")} - set(expected) - {"set"}
    faults += [f"left over: {x}" for x in sorted(leftovers)]
    return {"kind": kind, "jobs": jobs, "parent_only": parent_only, "kills": len(moments), "moments": moments,
            "shards_after": shards, "orphans": orphans, "faults": faults}  # fmt: skip


def _kill(command: list[str], after: float, *, parent_only: bool) -> int:
    """Start a run and kill it, unless it is done before; return the number of its session."""
    process = _start(command)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        if parent_only:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_DEADLINE)
    return process.pid


def _of_session(session: int) -> list[int]:
    """Give the processes of a session that are not dead, as Linux tells them; none elsewhere."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, number = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:4]
            if int(number) == session and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def _end_orphans(session: int) -> list[int]:
    """Wait for the processes of a session to end; kill those that do not, and return them."""
    until = time.monotonic() + _ORPHANS_END
    while (left := _of_session(session)) and time.monotonic() < until:
        time.sleep(0.1)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def _torn(place: Path, kind: str, expected: dict[str, str]) -> list[str]:
    """Give what can be read although it is not whole."""
    target = place / ("set" if kind == "shards" else "set.h5")
    bad = [name for name, digest in _bytes(place).items() if _visible(name) and expected.get(name) != digest]
    bad = [name for name in bad if not name.endswith("shards.json")]  # which says so itself: see below
    if not target.exists():
        return bad
    try:
        facts = describe_file(target)
    except DataError as error:
        honest = "unfinished" in str(error) or (kind == "shards" and not any(target.glob("shard*")))
        return bad if honest else [*bad, f"{target.name}: {error}"]
    good = facts["clouds"] == _MESHES + _CLOUDS - sum(i % 100 == 7 for i in range(_MESHES)) and not facts["unreadable"]
    return bad if good else [*bad, f"{target.name} reads as {facts['clouds']} clouds"]


def _visible(name: str) -> bool:
    return not any(part.startswith(".") for part in name.split("/"))
