"""`python -m tests.fuzzing [--target ply …] [--inputs 10000] [--seed 0]`: damaged files into every reader.

Each reader must accept an input, or refuse it with a `PcgenError` of one line that names the file: within 5 seconds,
within its bound of memory, without a word on the standard streams, and without leaving a file. All else is a finding,
whose input is kept in the folder `--findings`. Exits with status 1 if there is one.
"""

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_SECONDS_TO_START = 120
_HEAD = (
    f"{'target':12s} {'inputs':>7s} {'accepted':>8s} {'refused':>8s} {'findings':>8s} {'slowest':>9s} {'memory':>9s}"
)


class Server:
    """A worker process, started anew whenever it dies or hangs."""

    def __init__(self, scratch: Path, seed: int, *, faults: bool = False) -> None:
        self.scratch, self.seed, self.faults = scratch, seed, faults
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe = -1
        self.rest = b""

    def _start(self) -> None:
        reader, writer = os.pipe()
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        words = [str(self.scratch), str(self.seed), str(writer), *["faults"] * self.faults]
        # its own folder is where a reader that leaves files in the working directory would leave them
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzzing.worker", *words], stdin=subprocess.PIPE, pass_fds=[writer],
            env=environment, cwd=self.scratch / "place",
        )  # fmt: skip
        os.close(writer)
        self.pipe, self.rest = reader, b""

    def stop(self) -> None:
        """End the worker."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdin is not None
            self.process.stdin.close()
            os.close(self.pipe)
            self.process = None

    def _line(self, seconds: float) -> Any:
        """Give what the worker says next; None where it is dead, and "hangs" where it says nothing."""
        while b"\n" not in self.rest:
            if not select.select([self.pipe], [], [], seconds)[0]:
                return "hangs"
            block = os.read(self.pipe, 1 << 16)
            if not block:
                return None
            self.rest += block
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)

    def run(self, name: str, first: int, last: int, seconds: float) -> Iterator[dict[str, Any]]:
        """Give the judgement of every input, those of inputs that killed the worker too."""
        again = False
        while first < last:
            if self.process is None:
                self._start()
            assert self.process is not None and self.process.stdin is not None  # noqa: PT018 -- for the type checker
            self.process.stdin.write(f"{name} {first} {last}\n".encode())
            self.process.stdin.flush()
            if (said := self._line(_SECONDS_TO_START)) != "ready":
                self.stop()
                raise SystemExit(f"the worker does not start on {name}: {said}")
            while first < last and self.process is not None:
                told = self._line(seconds)
                if isinstance(told, dict):
                    yield told
                elif told == "hangs" and not again:  # perhaps the machine was busy: only what hangs twice does
                    again = True
                    self.stop()
                    continue
                else:
                    problem = f"no answer within {seconds:g} s, twice" if told else self._death()
                    waited = seconds if told else 0.0
                    yield {"index": first, "outcome": "died", "seconds": waited, "memory": 0, "problem": problem}
                    self.stop()
                first, again = first + 1, False

    def _death(self) -> str:
        assert self.process is not None
        return f"the process died with status {self.process.wait()}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fuzz(server: Server, name: str, inputs: int, seconds: float, findings: Path | None) -> dict[str, Any]:
    """Fuzz a target and print its row."""
    row = {"target": name, "inputs": inputs, "accepted": 0, "refused": 0, "findings": 0, "slowest": 0.0, "memory": 0}
    for told in server.run(name, 0, inputs, seconds):
        kind = str(told["outcome"]).partition(":")[0]
        if told["problem"]:
            row["findings"] += 1
            _say(f"  {name} input {told['index']}: {told['problem']}")
            if findings is not None:
                _keep(server, name, told, findings)
        elif kind in row:
            row[kind] += 1
        row["slowest"] = max(row["slowest"], told["seconds"])
        row["memory"] = max(row["memory"], told["memory"])
    _say(
        f"{name:12s} {inputs:7d} {row['accepted']:8d} {row['refused']:8d} {row['findings']:8d} "
        f"{row['slowest']:7.2f} s {row['memory'] / 2**20:5.0f} MiB"
    )
    return row


def _keep(server: Server, name: str, told: dict[str, Any], findings: Path) -> None:
    """Make the input again, here, and keep it."""
    from tests.fuzzing.targets import TARGETS
    from tests.fuzzing.worker import input_of, starts

    if name not in TARGETS:
        return
    target = TARGETS[name]
    file, data = input_of(name, target, starts(name, target, server.scratch), told["index"], server.seed)
    folder = findings / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{server.seed}-{told['index']}-{file}").write_bytes(data)


def main() -> int:
    """Run."""
    from tests.fuzzing.faults import FAULTS
    from tests.fuzzing.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", choices=[*TARGETS, *FAULTS], default=list(TARGETS), metavar="NAME")
    parser.add_argument("--inputs", type=int, default=10_000, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5, help="that an input may take")
    parser.add_argument("--findings", type=Path, help="folder for the inputs of findings")
    arguments = parser.parse_args()
    _say(_HEAD)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "place").mkdir()
        server = Server(Path(scratch), arguments.seed, faults=bool(set(arguments.target) & set(FAULTS)))
        try:
            rows = [
                fuzz(server, name, arguments.inputs, arguments.seconds, arguments.findings) for name in arguments.target
            ]
        finally:
            server.stop()
    return 1 if any(row["findings"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
