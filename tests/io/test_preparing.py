import io
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcgen import __version__
from pcgen.errors import ConfigurationError, DataError
from pcgen.io import converting, describe_file, is_stale, prepare, read_clouds, write_clouds
from pcgen.io.formats import check_cloud, read_file
from pcgen.io.parallel import in_order


def convert(source, out, **arguments):
    return prepare(source, out, **({"num_points": 32, "progress": False, "jobs": 1} | arguments))


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_file())


def test_what_comes_out_is_what_would_be_read(tree, tmp_path):
    summary = convert(tree, tmp_path / "c.h5")
    assert (summary.converted, summary.failed) == (10, [])
    assert summary.counts["chair", "train"] == 3
    assert summary.counts["night_stand", "test"] == 2
    prepared, direct = read_clouds(tmp_path / "c.h5"), read_clouds(tree, num_points=32)
    for field in ("points", "label", "split"):
        assert np.array_equal(getattr(prepared, field), getattr(direct, field)), field
    assert prepared.name == direct.name
    assert prepared.class_names == direct.class_names
    assert prepared.up_axis == direct.up_axis == 2
    with h5py.File(tmp_path / "c.h5") as f:
        assert f["points"].chunks is None  # one read a cloud
        assert f["points"].compression is None
        told = {k: f.attrs[k] for k in ("num_points", "method", "seed", "version")}
        assert told == {"num_points": 32, "method": "uniform", "seed": 0, "version": __version__}
        assert len(f.attrs["fingerprint"]) == 64


@pytest.mark.parametrize("method", ["uniform", "poisson"])
def test_processes_make_no_difference(tree, tmp_path, method):
    (tree / "chair/train/chair_train_0001.off").write_text("OFF 1")
    one = convert(tree, tmp_path / "one.h5", method=method)
    two = convert(tree, tmp_path / "two.h5", method=method, jobs=2)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    assert one.failed == two.failed
    convert(tree, tmp_path / "other.h5", method=method, seed=1)
    assert not np.array_equal(read_clouds(tmp_path / "other.h5").points, read_clouds(tmp_path / "one.h5").points)


def test_bad_meshes_are_left_out_with_their_reason(tree, tmp_path):
    (tree / "chair/train/chair_train_0001.off").write_text("OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n")
    (tree / "night_stand/test/night_stand_test_0000.off").write_bytes(b"")
    summary = convert(tree, tmp_path / "c.h5")
    assert summary.converted == 8
    assert [p.rsplit("/", 1)[1] for p, _ in summary.failed] == ["chair_train_0001.off", "night_stand_test_0000.off"]
    assert "has an area" in summary.failed[0][1]
    assert "not an OFF mesh" in summary.failed[1][1]
    clouds = read_clouds(tmp_path / "c.h5")
    assert "chair_train_0001" not in clouds.name
    direct = read_clouds(tree, num_points=32, classes="night_stand", split="train")
    assert np.array_equal(clouds.select(classes="night_stand", split="train").points, direct.points)
    assert "has an area" in shown(summary.table())
    with pytest.raises(DataError, match="has an area"):
        convert(tree, tmp_path / "d.h5", on_error="raise")
    assert names(tmp_path) == ["c.h5"]


def test_whatever_one_mesh_brings_about_the_others_are_converted(tree, tmp_path, monkeypatch):
    def read(path, *arguments, **named):
        if path.stem == "chair_test_0001":
            raise ZeroDivisionError("nobody thought of this")
        return read_file(path, *arguments, **named)

    monkeypatch.setattr(converting, "read_file", read)
    summary = convert(tree, tmp_path / "c.h5")
    assert summary.converted == 9
    assert summary.failed == [
        (f"{tree}/chair/test/chair_test_0001.off",
         f"{tree}/chair/test/chair_test_0001.off: ZeroDivisionError('nobody thought of this')"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="nobody thought of this"):
        convert(tree, tmp_path / "d.h5", on_error="raise")


def test_whatever_one_row_brings_about_its_neighbours_are_converted(tmp_path, rng, monkeypatch):
    write_clouds(tmp_path / "raw.npy", rng.normal(size=(5, 40, 3)))

    def check(cloud, source):
        if source.endswith("[3]"):
            raise ZeroDivisionError
        return check_cloud(cloud, source)

    monkeypatch.setattr(converting, "check_cloud", check)
    summary = convert(tmp_path / "raw.npy", tmp_path / "c.h5")
    assert summary.converted == 4
    assert [reason for _, reason in summary.failed] == [f"{tmp_path / 'raw.npy'}[3]: ZeroDivisionError()"]


def test_a_damaged_first_file_does_not_stop_the_others(tmp_path, cube):
    folder = tmp_path / "meshes"
    folder.mkdir()
    (folder / "a.ply").write_text("ply\nnonsense")
    (folder / "b.off").write_text(cube)
    summary = convert(folder, tmp_path / "c.h5", method="poisson", jobs=None)
    assert summary.converted == 1
    assert "a.ply" in summary.failed[0][1]


def shown(renderable):
    from rich.console import Console

    console = Console(width=300, file=io.StringIO(), record=True)
    console.print(renderable)
    return console.export_text()


def test_nothing_good_gives_nothing(tree, tmp_path):
    for path in tree.rglob("*.off"):
        path.write_text("OFF 1")
    with pytest.raises(DataError, match="none of 10 could be converted, the first because"):
        convert(tree, tmp_path / "c.h5")
    assert names(tmp_path) == []


def test_clouds_are_prepared_too(tmp_path, rng):
    points = rng.normal(size=(40, 50, 3)).astype("f4")
    points[17, 3] = np.nan
    with h5py.File(tmp_path / "raw.h5", "w") as f:
        f["data"], f["label"], f["factors"] = points, np.arange(40) % 3, rng.normal(size=(40, 2))
        f["split"] = np.arange(40, dtype="u1") % 2
        f["factor_names"] = ["a", "b"]
    summary = convert(tmp_path / "raw.h5", tmp_path / "c.h5")
    assert summary.converted == 39
    assert "[17]" in summary.failed[0][0]
    assert "NaN" in summary.failed[0][1]
    clouds = read_clouds(tmp_path / "c.h5")
    keep = np.arange(40) != 17
    assert np.array_equal(clouds.label, (np.arange(40) % 3)[keep])
    assert clouds.factors.shape == (39, 2)
    assert clouds.factor_names == ("a", "b")
    for whole, part in zip(points[keep], clouds.points, strict=True):
        rows = {tuple(p) for p in part.tolist()}
        assert len(rows) == 32
        assert rows <= {tuple(p) for p in whole.tolist()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_repeated_points_are_told_once(tmp_path, rng, jobs):
    for i in range(3):
        write_clouds(tmp_path / "clouds" / f"{i}.npy", rng.normal(size=(20, 3)))
    with pytest.warns(UserWarning, match=r"0\.npy: 32 points asked for.*as few as 20.*3 such clouds") as caught:
        convert(tmp_path / "clouds", tmp_path / "c.h5", jobs=jobs)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(tmp_path / "clouds", tmp_path / "d.h5", num_points=20, jobs=jobs)


def test_staleness(tree, tmp_path):
    out = tmp_path / "c.h5"
    options = {"num_points": 32}
    assert is_stale(out, tree, **options)
    convert(tree, out)
    assert not is_stale(out, tree, **options)
    assert is_stale(out, tree, num_points=64)
    assert is_stale(out, tree, num_points=32, seed=1)
    assert is_stale(out, tree, num_points=32, method="poisson")
    mesh = tree / "chair/train/chair_train_0000.off"
    os.utime(mesh, ns=(1, 1))
    assert is_stale(out, tree, **options)
    convert(tree, out, overwrite=True)
    assert not is_stale(out, tree, **options)
    mesh.rename(mesh.with_name("renamed.off"))
    assert is_stale(out, tree, **options)
    convert(tree, out, overwrite=True)
    out.write_bytes(out.read_bytes()[:-100])
    assert is_stale(out, tree, **options)
    out.write_bytes(b"")
    assert is_stale(out, tree, **options)
    with pytest.raises(DataError, match="does not exist"):
        is_stale(out, tmp_path / "none")


def test_a_source_that_changes_while_it_is_converted_is_stale(tree, tmp_path, monkeypatch):
    mesh = tree / "chair/train/chair_train_0000.off"

    def read(path, *arguments, **named):
        points = read_file(path, *arguments, **named)
        if path == mesh:
            os.utime(mesh, ns=(1, 1))  # somebody writes it anew right after it was read
        return points

    monkeypatch.setattr(converting, "read_file", read)
    convert(tree, tmp_path / "c.h5")
    assert is_stale(tmp_path / "c.h5", tree, num_points=32)


def test_wrong_arguments(tree, tmp_path):
    with pytest.raises(ConfigurationError, match=r"name it c\.h5"):
        convert(tree, tmp_path / "c.npy")
    with pytest.raises(ConfigurationError, match="jobs is 0"):
        convert(tree, tmp_path / "c.h5", jobs=0)
    with pytest.raises(ConfigurationError, match="'fancy'"):
        convert(tree, tmp_path / "c.h5", method="fancy")
    with pytest.raises(DataError, match="does not exist"):
        convert(tmp_path / "none", tmp_path / "c.h5")
    (tmp_path / "c.h5").write_text("mine")
    with pytest.raises(DataError, match="--overwrite"):
        convert(tree, tmp_path / "c.h5")
    assert (tmp_path / "c.h5").read_text() == "mine"


SLOW = """
import signal
import sys
from pcgen.io import prepare
if __name__ == "__main__":
    # A shell lets what it runs in the background ignore SIGINT, and children inherit that: this process must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("ready", flush=True)
    prepare(sys.argv[1], sys.argv[2], num_points=60_000, method="poisson", jobs=int(sys.argv[3]), progress=False)
"""


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_interrupted_leaves_nothing_that_looks_finished(tree, tmp_path, kind):
    out = tmp_path / "out" / "c.h5"
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tree), str(out), "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 30
    while not (out.parent.is_dir() and children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    workers = children(process.pid)
    assert workers
    process.send_signal(getattr(signal, kind))
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not out.exists()
    left = [] if not out.parent.exists() else names(out.parent)
    assert all(n.startswith(".") for n in left)
    if kind != "SIGKILL":
        assert left == []
    deadline = time.monotonic() + 30
    while any(alive(w) for w in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(w) for w in workers)


def double_or_die(task):
    if 3 in task:
        os._exit(1)
    time.sleep(0.05)
    return [2 * x for x in task]


def test_a_worker_that_dies_takes_only_its_piece_along():
    tasks = [[0, 1], [2, 3, 4], [5], [6, 7]]
    results = in_order(double_or_die, tasks, 2, pieces=lambda t: [[x] for x in t], died=lambda t: f"{t} died")
    assert list(results) == [0, 2, 4, "[3] died", 8, 10, 12, 14]


def test_a_script_without_a_guard_is_told(tree, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SLOW.replace('if __name__ == "__main__":', "if True:"))
    run = subprocess.run(
        [sys.executable, str(script), str(tree), str(tmp_path / "c.h5"), "2"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode != 0
    assert "__name__ == '__main__'" in run.stderr.splitlines()[-1]
    assert names(tmp_path) == ["script.py"]


def test_memory_does_not_grow_with_the_number_of_meshes(tree, tmp_path):
    code = """
import resource, sys
from pcgen.io import prepare
prepare(sys.argv[1], sys.argv[2], num_points=20_000, jobs=1, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak(source, out):
        run = subprocess.run(
            [sys.executable, "-c", code, str(source), str(out)], capture_output=True, text=True, check=True
        )
        return int(run.stdout) * 1024

    few = peak(tree, tmp_path / "few.h5")
    for path in sorted(tree.rglob("*.off")):
        for i in range(30):
            path.with_name(f"{path.stem}_{i}.off").write_bytes(path.read_bytes())
    many = peak(tree, tmp_path / "many.h5")
    written = (tmp_path / "many.h5").stat().st_size
    assert written > 310 * 20_000 * 12
    assert many - few < 0.25 * written  # of 74 MB: the rows are not kept


def test_real_meshes(shared_data, tmp_path):
    summary = prepare(shared_data / "off/ModelNet10", tmp_path / "c.h5", num_points=512, jobs=1, progress=False)
    assert (summary.converted, summary.failed) == (60, [])
    facts = describe_file(tmp_path / "c.h5")
    assert facts["classes"]["chair"] == {"train": 4, "test": 2}
    assert facts["points"] == 512
