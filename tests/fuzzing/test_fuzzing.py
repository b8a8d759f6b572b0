"""Some hundred damaged files into every reader, and readers with faults that must be found."""

import os
import re
import subprocess
import sys

import pytest

TOLD = {
    "none": "which is wrong", "crash": "died with status -11", "hang": "no answer within 1 s, twice",
    "error": "RuntimeError: unforeseen", "exit": "SystemExit", "nameless": "without the file",
    "lines": "more than one line", "escape": "control characters", "memory": "MiB, the bound is 64",
    "noise": "noise: b'hello'",
    "file": "left behind: left.tmp", "warnings": "warnings: 50",
}  # fmt: skip


def run(root, *words):
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", *words], cwd=root, env=environment, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux tells it")
def test_damaged_files_are_read_or_refused(root, tmp_path):
    ran = run(root, "--inputs", "80", "--seed", "1", "--findings", str(tmp_path / "findings"))
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}"
    rows = re.findall(r"^(\S+) +80 +(\d+) +(\d+) +0 ", ran.stdout, re.MULTILINE)
    assert {"ply", "pcd", "hdf5", "npz", "config", "idx", "off", "obj"} <= {name for name, *_ in rows}
    assert all(int(accepted) > 0 and int(refused) > 0 for _, accepted, refused in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux tells it")
def test_every_fault_is_found(root):
    ran = run(root, "--target", *(f"fault-{name}" for name in TOLD), "--inputs", "1", "--seconds", "1")
    assert ran.returncode == 1
    for name, word in TOLD.items():
        assert re.search(rf"fault-{name} input 0: .*{re.escape(word)}", ran.stdout), (name, ran.stdout)
