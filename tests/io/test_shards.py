"""Sets in shards: made, interrupted, gone on with, read."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcgen.errors import ConfigurationError, DataError
from pcgen.io import LazyClouds, catalog, converting, describe_file, is_stale, prepare, read_clouds, write_clouds
from pcgen.io.formats import read_file


def convert(source, out, **arguments):
    return prepare(source, out, **({"num_points": 32, "progress": False, "jobs": 1} | arguments))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def bad_tree(tree):
    """The tree with two bad meshes: rows 1 and 9 of ten."""
    (tree / "chair/test/chair_test_0001.off").write_text("OFF 1")
    (tree / "night_stand/train/night_stand_train_0002.off").write_text("OFF 2")
    return tree


class Killed(BaseException):
    """Ends the process's work at once, as far as Python can tell."""


@pytest.fixture
def killed(monkeypatch):
    """Make the conversion end at the n-th cloud, leaving behind what SIGKILL would."""

    def arm(at):
        left = [at]

        def read(path, *arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return read_file(path, *arguments, **named)

        monkeypatch.setattr(converting, "read_file", read)

    return arm


def test_shards_hold_what_one_file_holds(bad_tree, tmp_path):
    one = convert(bad_tree, tmp_path / "one.h5")
    many = convert(bad_tree, tmp_path / "many", shard_size=3)
    assert (many.converted, many.failed, many.counts) == (one.converted, one.failed, one.counts)
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == [
        "shard-00000-of-00004.h5", "shard-00001-of-00004.h5", "shard-00002-of-00004.h5", "shard-00003-of-00004.h5",
        "shards.json",
    ]  # fmt: skip
    a, b = read_clouds(tmp_path / "one.h5"), read_clouds(tmp_path / "many")
    for field in ("points", "label", "split"):
        assert np.array_equal(getattr(a, field), getattr(b, field)), field
    assert (a.name, a.class_names, a.up_axis) == (b.name, b.class_names, b.up_axis)
    first = read_clouds(tmp_path / "many" / "shard-00000-of-00004.h5")  # a file like any other
    assert np.array_equal(first.points, a.points[:2])
    assert describe_file(tmp_path / "many")["clouds"] == 8
    # the last shard's only mesh is bad: the shard is empty and does no harm
    assert json.loads((tmp_path / "many/shards.json").read_text())["shards"][-1]["clouds"] == 0


@pytest.mark.parametrize("at", [0, 1, 3, 5, 9])
@pytest.mark.parametrize("size", [None, 2])
def test_an_interrupted_run_is_gone_on_with(bad_tree, tmp_path, killed, monkeypatch, at, size):
    monkeypatch.setattr("pcgen.io.preparing._PART", 2)
    name = "set.h5" if size is None else "set"
    (tmp_path / "a").mkdir()
    whole = convert(bad_tree, tmp_path / "a" / name, shard_size=size)
    target = tmp_path / "b" / name
    killed(at)
    with pytest.raises(Killed):
        convert(bad_tree, target, shard_size=size)
    assert size or not target.exists()
    if size and at >= 2:
        with pytest.raises(DataError, match=f"unfinished, with {at // 2} of 5 shards: run the same"):
            catalog(target)
    (tmp_path / "b").mkdir(exist_ok=True)
    home = target if target.is_dir() else tmp_path / "b" / ".set.h5.parts"
    if home.is_dir():  # what only SIGKILL leaves
        (home / ".shard-00004-of-00005.h5.999.part.h5").write_bytes(b"half")
    killed(100)
    again = convert(bad_tree, target, shard_size=size)
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    assert again.found == 2 * (at // 2)
    assert (again.converted, again.failed, again.counts) == (whole.converted, whole.failed, whole.counts)


def test_what_is_finished_is_left_alone(bad_tree, tmp_path, killed):
    for target, size in ((tmp_path / "set.h5", None), (tmp_path / "set", 4)):
        first = convert(bad_tree, target, shard_size=size)
        assert not is_stale(target, bad_tree, num_points=32)
        killed(0)
        again = convert(bad_tree, target, shard_size=size)
        assert again.found == 10
        assert (again.converted, again.failed, again.counts) == (first.converted, first.failed, first.counts)
        killed(6)
        with pytest.raises(Killed):
            convert(bad_tree, target, shard_size=size, overwrite=True)
        killed(100)
        if size:
            with pytest.raises(DataError, match="unfinished"):
                read_clouds(target)
            assert is_stale(target, bad_tree, num_points=32)


def test_other_arguments_are_refused(tree, tmp_path, killed):
    killed(5)
    with pytest.raises(Killed):
        convert(tree, tmp_path / "set", shard_size=2)
    for other, said in (
        ({"num_points": 16}, "num_points 32 instead of 16"),
        ({"seed": 3}, "seed 0 instead of 3"),
        ({"shard_size": 5}, "shard_size 2 instead of 5"),
        ({"method": "poisson"}, "method uniform instead of poisson"),
    ):
        with pytest.raises(DataError, match=f"was begun with other arguments.*{said}.*--overwrite"):
            convert(tree, tmp_path / "set", **({"shard_size": 2} | other))
    killed(100)
    convert(tree, tmp_path / "set", shard_size=5, overwrite=True)
    assert len(list((tmp_path / "set").iterdir())) == 3
    (tree / "chair/train/chair_train_0000.off").write_text("OFF 1")
    with pytest.raises(DataError, match=r"already there.*files of the source that changed"):
        convert(tree, tmp_path / "set", shard_size=5)
    with pytest.raises(ConfigurationError, match="and a folder"):
        convert(tree, tmp_path / "set.h5", shard_size=5)
    with pytest.raises(ConfigurationError, match="shard_size is 0"):
        convert(tree, tmp_path / "new", shard_size=0)


def test_other_things_are_not_touched(tree, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    (tmp_path / "mine" / "shard-00000-of-00004.h5").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"holds other things \(thesis\.tex\)"):
            convert(tree, tmp_path / "mine", shard_size=3, overwrite=overwrite)
    assert len(contents(tmp_path / "mine")) == 2
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="no folder"):
        convert(tree, tmp_path / "file", shard_size=3, overwrite=True)


def test_nothing_good_and_stopping_leave_nothing(tree, tmp_path):
    (tree / "chair/test/chair_test_0000.off").write_text("OFF 1")
    with pytest.raises(DataError, match="numbers of vertices and faces"):
        convert(tree, tmp_path / "set", shard_size=4, on_error="raise")
    for path in tree.rglob("*.off"):
        path.write_text("OFF 1")
    with pytest.raises(DataError, match="none of 10 could be converted"):
        convert(tree, tmp_path / "set", shard_size=4)
    with pytest.raises(DataError, match="none of 10 could be converted"):
        convert(tree, tmp_path / "set.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tree"]


def test_one_process_at_a_time(tree, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path / "set"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="being prepared by another process"):
        convert(tree, folder, shard_size=3)
    os.close(descriptor)
    assert convert(tree, folder, shard_size=3).converted == 10


def test_a_folder_that_another_process_removes_is_made_again(tree, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    folder, opened, locked = tmp_path / "set", os.open, fcntl.flock
    left = {"open": 2, "flock": 2}

    def remove(when):
        left[when] -= 1
        if left[when] >= 0:
            folder.rmdir()

    def remove_and_open(path, *arguments, **named):
        if path == folder and arguments == (os.O_RDONLY,):
            remove("open")
        return opened(path, *arguments, **named)

    def lock_and_remove(*arguments):
        locked(*arguments)
        remove("flock")

    monkeypatch.setattr(os, "open", remove_and_open)
    monkeypatch.setattr(fcntl, "flock", lock_and_remove)
    assert convert(tree, folder, shard_size=3).converted == 10
    assert left["flock"] < 0
    shutil.rmtree(folder)
    left["open"] = 1000
    with pytest.raises(DataError, match="set is made and removed by other processes"):
        convert(tree, folder, shard_size=3)


def test_a_run_leaves_the_folder_that_took_the_place_of_its_own(tree, tmp_path, monkeypatch):
    """A run has made its file and removed its parts; before it ends, another one has begun parts of the same name."""
    pytest.importorskip("fcntl")
    parts, rmtree = tmp_path / ".set.h5.parts", shutil.rmtree

    def remove(folder, **named):
        rmtree(folder, **named)
        parts.mkdir()
        (parts / "shards.json").write_text("of another")

    monkeypatch.setattr("pcgen.io.preparing.shutil.rmtree", remove)
    convert(tree, tmp_path / "set.h5")
    assert (parts / "shards.json").read_text() == "of another"


def test_two_runs_on_one_file_do_no_harm(tree, tmp_path, monkeypatch):
    """While one makes the file anew, the other finds it there; then a third asks for the same work."""
    pytest.importorskip("fcntl")
    target, parts = tmp_path / "set.h5", tmp_path / ".set.h5.parts"
    convert(tree, target)
    expected = contents(tmp_path)
    monkeypatch.setattr("pcgen.io.preparing._PART", 2)
    here, on, left = threading.Event(), threading.Event(), [5]

    def read(*arguments, **named):
        left[0] -= 1
        if left[0] == 0:
            here.set()
            assert on.wait(30)
        return read_file(*arguments, **named)

    monkeypatch.setattr(converting, "read_file", read)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(convert, tree, target, overwrite=True)
        try:
            assert here.wait(30)
            before = contents(parts)
            assert convert(tree, target).found == 10
            assert contents(parts) == before
            assert len(before) == 4  # two parts, their index, and what is being written
            with pytest.raises(DataError, match="being prepared by another process"):
                convert(tree, target, overwrite=True)
        finally:
            on.set()
        assert first.result(30).converted == 10
    assert contents(tmp_path) == expected
    parts.mkdir()
    (parts / "shards.json").write_text("{}")
    convert(tree, target)  # what a run has left that was killed at its very end
    assert contents(tmp_path) == expected


@pytest.mark.parametrize("after", [0, 1, 2])
def test_making_anew_never_takes_old_shards(tree, tmp_path, monkeypatch, after):
    """Killed while it removes the former shards, of the same plan, a run leaves none that passes for a new one."""
    target, left = tmp_path / "set", [after]
    convert(tree, target, shard_size=5)
    unlink = Path.unlink

    def remove(path, **named):
        if path.parent == target and path.name.startswith("shard"):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
        unlink(path, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", remove)
        with pytest.raises(Killed):
            convert(tree, target, shard_size=5, overwrite=True)
    if after:
        with pytest.raises(DataError, match=r"without their shards\.json"):
            catalog(target)
        with pytest.raises(DataError, match="already there; pass overwrite=True"):
            convert(tree, target, shard_size=5)
    again = convert(tree, target, shard_size=5, overwrite=True)
    assert (again.found, again.converted) == (0, 10)


def test_damaged_sets_say_so(tree, tmp_path):
    convert(tree, tmp_path / "good", shard_size=3)

    def damaged(change, message):
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        change(tmp_path / "bad")
        with pytest.raises(DataError, match=message):
            catalog(tmp_path / "bad")
        shutil.rmtree(tmp_path / "bad")

    def rewrite(**changes):
        def change(folder):
            told = json.loads((folder / "shards.json").read_text())
            (folder / "shards.json").write_text(json.dumps(told | changes))

        return change

    shard = "shard-00001-of-00004.h5"
    damaged(lambda f: (f / shard).unlink(), f"{shard} is missing")
    damaged(lambda f: (f / "shards.json").unlink(), r"without their shards\.json")
    damaged(lambda f: (f / "shards.json").write_text("{"), r"shards\.json is damaged")
    damaged(lambda f: (f / "shards.json").write_text("[" * 100_000), r"shards\.json is damaged")
    damaged(rewrite(clouds=10**18), r"shards\.json is damaged")
    damaged(rewrite(shards=[{"file": "../../x.h5", "clouds": 10}]), "not those of its plan")
    nothing = [{"file": f"shard-{i:05d}-of-00004.h5", "clouds": 0} for i in range(4)]
    damaged(rewrite(shards=nothing), "0 clouds in 4 shards of up to 3")
    damaged(rewrite(shards=[{**s, "clouds": 4} for s in nothing]), "16 clouds in 4 shards of up to 3")
    damaged(rewrite(num_points="many"), r"shards\.json is damaged")
    damaged(lambda f: (f / shard).write_bytes((f / shard).read_bytes()[:-9]), "cut short")
    damaged(lambda f: shutil.copy(f / "shard-00003-of-00004.h5", f / shard), "has 1 clouds instead of 3")


def test_shards_of_another_set_are_refused(tree, tmp_path):
    convert(tree, tmp_path / "good", shard_size=3)
    shard, last = "shard-00001-of-00004.h5", "shard-00002-of-00004.h5"
    (tree / "chair").rename(tree / "zebra")  # as many clouds, of other classes
    convert(tree, tmp_path / "other", shard_size=3)
    convert(tree, tmp_path / "seed", shard_size=3, seed=1)

    def refused(change, message):
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        if isinstance(change, str):
            shutil.copy(tmp_path / change, tmp_path / "bad" / shard)
        else:
            with h5py.File(tmp_path / "bad" / shard, "r+") as file:
                change(file)
        with pytest.raises(DataError, match=message):
            catalog(tmp_path / "bad")
        shutil.rmtree(tmp_path / "bad")

    def renamed(file):
        del file["class_names"]
        file["class_names"] = [b"table", b"zebra"]

    refused(f"other/{shard}", "in fingerprint: they are not")
    refused(f"seed/{shard}", "in seed, fingerprint: they are not")
    refused(f"good/{last}", "in first, last: they are not")
    refused(lambda f: f.attrs.__delitem__("seed"), f"{shard} differs from shards.json in seed")
    refused(lambda f: f.attrs.__setitem__("last", np.arange(3)), "in last")
    refused(lambda f: f.attrs.__setitem__("method", "uniform"), "in method")  # of any length: in a heap, not read
    refused(renamed, "have different class_names: they are not of one set")
    refused(lambda f: f.__delitem__("split"), "have different columns")
    refused(lambda f: f.attrs.__setitem__("up_axis", 0), "have different up_axis")


def test_shards_with_other_numbers_of_factors_are_refused(tmp_path, rng):
    np.savez(tmp_path / "raw.npz", points=rng.normal(size=(6, 32, 3)), factors=rng.normal(size=(6, 2)))
    convert(tmp_path / "raw.npz", tmp_path / "set", shard_size=3)
    assert catalog(tmp_path / "set").factors.shape == (6, 2)
    with h5py.File(tmp_path / "set" / "shard-00001-of-00002.h5", "r+") as file:
        del file["factors"]
        file["factors"] = np.zeros((3, 4), "f4")
        if "factor_names" in file:
            del file["factor_names"]
    with pytest.raises(DataError, match=r"have different .*numbers of factors"):
        catalog(tmp_path / "set")


@pytest.mark.parametrize("finished", [False, True])
def test_a_short_index_costs_nothing(tree, tmp_path, monkeypatch, finished):
    convert(tree, tmp_path / "set", shard_size=3)
    path = tmp_path / "set" / "shards.json"
    told = json.loads(path.read_text()) | {"finished": finished, "shard_size": 1}
    path.write_text(json.dumps(told | {"clouds": 3_000_000}))
    with pytest.raises(DataError, match=r"damaged .3000000 clouds in shards of 1"):
        catalog(tmp_path / "set")
    path.write_text(json.dumps(told | {"clouds": 100_000}))
    stat, asked = os.stat, []
    monkeypatch.setattr(os, "stat", lambda *a, **k: asked.append(a) or stat(*a, **k))
    with pytest.raises(DataError, match="not those of its plan" if finished else "with 0 of 100000 shards"):
        catalog(tmp_path / "set")
    assert len(asked) < 100
    monkeypatch.setattr("pcgen.io.preparing.MOST_SHARDS", 3)
    with pytest.raises(ConfigurationError, match=r"10 shards of 1 clouds .* a shard_size of at least 4"):
        convert(tree, tmp_path / "new", shard_size=1)
    convert(tree, tmp_path / "one.h5")


def test_a_damaged_shard_of_an_unfinished_set_is_made_anew(tree, tmp_path, killed):
    convert(tree, tmp_path / "whole", shard_size=3)
    killed(7)
    with pytest.raises(Killed):
        convert(tree, tmp_path / "set", shard_size=3)
    shard = tmp_path / "set" / "shard-00000-of-00004.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    killed(100)
    assert convert(tree, tmp_path / "set", shard_size=3).found == 3
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_clouds_of_many_files_are_gathered_in_any_order(tmp_path, rng, monkeypatch):
    write_clouds(tmp_path / "raw.npy", rng.normal(size=(50, 32, 3)))
    convert(tmp_path / "raw.npy", tmp_path / "set", shard_size=4)
    expected = read_clouds(tmp_path / "set").points
    monkeypatch.setattr("pcgen.io.lazy._OPEN", 3)  # of 13
    lazy = LazyClouds(tmp_path / "set")
    for _ in range(20):
        rows = rng.integers(0, 50, 17)
        assert np.array_equal(lazy.gather(rows), expected[rows])
        assert len(lazy._files._open) <= 3
    some = lazy.take(np.array([40, 3, 22]))
    assert np.array_equal(some.gather([2, 0, 1, -1]), expected[[22, 40, 3, 22]])
    with h5py.File(tmp_path / "set" / "shard-00002-of-00013.h5", "r+") as file:
        file["points"][1, 5] = np.nan
    with pytest.raises(DataError, match=r"shard-00002-of-00013\.h5: the cloud at row 1 holds NaN"):
        lazy.gather([1, 9])
    lazy.close()
    path = tmp_path / "set" / "shard-00005-of-00013.h5"
    path.unlink()
    with pytest.raises(DataError, match=r"shard-00005-of-00013\.h5 cannot be read any more"):
        lazy.gather([20])


def test_other_folders_of_hdf5_are_gathered_too(tmp_path, rng):
    points = rng.normal(size=(9, 8, 3)).astype("f4")
    (tmp_path / "modelnet").mkdir()
    for i, kind in enumerate(({"compression": "gzip"}, {"chunks": (1, 8, 3)}, {})):
        with h5py.File(tmp_path / "modelnet" / f"ply_data_train{i}.h5", "w") as file:
            file.create_dataset("data", data=points[3 * i : 3 * i + 3].astype("f8" if i == 2 else "f4"), **kind)
            file["label"] = np.zeros((3, 1))
    lazy = LazyClouds(tmp_path / "modelnet")
    order = rng.permutation(9)
    assert np.array_equal(lazy.gather(order), points[order])
    with h5py.File(tmp_path / "modelnet" / "ply_data_train3.h5", "w") as file:
        file["data"], file["label"] = points[:, :5], np.zeros((9, 1))
    with pytest.raises(DataError, match="clouds of 5 to 8 points"):
        LazyClouds(tmp_path / "modelnet")
