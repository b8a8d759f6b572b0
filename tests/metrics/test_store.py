"""The store of matrices: what is found is right, whatever happens to its files."""

import os
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError
from pcgen.metrics import evaluate_sets, pairs
from pcgen.metrics.pairs import Distance, distance_matrix
from pcgen.metrics.store import Store, cache_folder, fingerprint
from pcgen.ops import pairwise_chamfer_distance


def clouds(n, seed, points=24):
    return torch.rand(n, points, 3, generator=torch.Generator().manual_seed(seed)) - 0.5


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


@pytest.fixture
def counted(monkeypatch):
    """Counts the matrices that are really computed."""
    calls = []

    def counting(a, b, progress=None):
        calls.append((len(a), len(b)))
        return pairwise_chamfer_distance(a, b, progress=progress)

    monkeypatch.setitem(pairs.DISTANCES, "cd", pairs.DISTANCES["cd"]._replace(pairwise=counting))
    return calls


def test_what_was_put_is_got(store):
    tensors = {"d": torch.rand(3, 4), "n": torch.tensor(7)}
    assert store.get({"a": 1}) is None
    store.put({"a": 1}, tensors)
    found = store.get({"a": 1})
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert found["n"].dtype == torch.int64
    assert store.get({"a": 2}) is None
    assert store.contents().files == 1


def test_fingerprints_see_values_shape_and_dtype():
    x = clouds(4, 0)
    others = [x + 1e-7, x.flip(0), x.view(8, 12, 3), x.double(), x[:3], -0.0 * x, 0.0 * x]
    assert len({fingerprint(each) for each in [x, *others]}) == 8
    assert fingerprint(x.clone()) == fingerprint(x) == fingerprint(x.transpose(0, 1).contiguous().transpose(0, 1))


def test_second_question_computes_nothing(store, counted):
    s, r, o = clouds(5, 0), clouds(5, 1), clouds(5, 2)
    first = evaluate_sets(s, r, oracle=o, draws=20, store=store)
    assert len(counted) == 5  # within the reference once
    counted.clear()
    seen = []
    again = evaluate_sets(s, r, oracle=o, draws=20, store=store, progress=lambda done, total: seen.append(done / total))
    assert not counted
    assert again.to_json() == first.to_json()
    assert seen[-1] == 1.0
    other = evaluate_sets(s, r, draws=50, level=0.5, both_orientations=True, store=store)
    assert not counted
    assert other.values["mmd_cd_swapped"] == evaluate_sets(r, s, draws=0).values["mmd_cd"]
    counted.clear()
    evaluate_sets(clouds(5, 3), r, store=store)
    assert len(counted) == 2  # the reference's own is there


def test_another_version_or_definition_is_another_matrix(store, counted, monkeypatch):
    s, r = clouds(3, 0), clouds(3, 1)
    evaluate_sets(s, r, draws=0, store=store)
    there = store.contents().files
    was = pairs.DISTANCES["cd"]
    for change in ({"version": 2}, {"definition": "another"}):
        monkeypatch.setitem(pairs.DISTANCES, "cd", was._replace(**change))
        evaluate_sets(s, r, draws=0, store=store)
        there += 3
        assert store.contents().files == there
    monkeypatch.setitem(pairs.DISTANCES, "cd", was)
    evaluate_sets(s, r, draws=0, store=store)
    assert store.contents().files == there
    assert len(counted) == 9


def test_searches_and_what_is_known_are_kept(store, monkeypatch):
    made = []

    class Known:
        def __init__(self, reference, tensors):
            made.append(dict(tensors))

        def to_tensors(self):
            return {"bounds": torch.full((2,), float(len(made)))}

    calls = []

    def search(generated, reference, *, known=None, progress=None):
        calls.append(known)
        both = [(generated, generated), (generated, reference), (reference, reference)]
        return pairs.SetDistances(*(pairwise_chamfer_distance(*each) for each in both), 5, 9)

    monkeypatch.setitem(pairs.DISTANCES, "s", Distance("s", pairwise_chamfer_distance, search, Known))
    s, r = clouds(3, 0), clouds(3, 1)
    first = evaluate_sets(s, r, distances=["s"], draws=0, store=store)
    again = evaluate_sets(s, r, distances=["s"], draws=0, store=store)
    assert len(calls) == 1
    assert first.pairs == again.pairs == {"s": (5, 9)}
    assert first.values == again.values
    evaluate_sets(clouds(3, 2), r, distances=["s"], draws=0, store=store)
    assert made[0] == {}
    assert made[1]["bounds"].tolist() == [1.0, 1.0]  # from the first evaluation


DAMAGES = {
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a bit": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "of another kind": lambda data: b"PK but no archive" * 9,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_computed_anew_with_one_notice(store, counted, damage):
    s, r = clouds(5, 0), clouds(5, 1)
    expected = evaluate_sets(s, r, draws=0, store=store).values
    for path in store.folder.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    counted.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert evaluate_sets(s, r, draws=0, store=store).values == expected
    assert len(counted) == len(caught) == 3  # each of the three files is told of once
    assert all("damaged and its distances are computed anew" in str(w.message) for w in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate_sets(s, r, draws=0, store=store).values == expected
    assert len(counted) == 3


def test_a_matrix_of_other_clouds_under_the_name_is_not_believed(store):
    store.put({"a": 1}, {"d": torch.zeros(2, 2)})
    with pytest.warns(UserWarning, match="other tensors"):
        assert store.get({"a": 1}, lambda tensors: tensors["d"].shape == (3, 3)) is None
    assert store.contents().files == 0


def test_a_pickle_is_never_run(store, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    store.put({"a": 1}, {"d": torch.zeros(1)})
    (path,) = store.folder.iterdir()
    with path.open("wb") as file:
        np.savez(file, d=np.array([Trap()], dtype=object))
    with pytest.warns(UserWarning, match="damaged"):
        assert store.get({"a": 1}) is None
    assert not (tmp_path / "sprung").exists()


def test_size_is_bounded_and_the_longest_unused_go_first(tmp_path):
    store = Store(tmp_path, limit=3 * 4500)
    for i in range(3):
        store.put({"i": i}, {"d": torch.zeros(1000)})
        os.utime(store._path({"i": i}), (i, i))  # long ago
    assert store.get({"i": 0}) is not None  # used now
    store.put({"i": 3}, {"d": torch.zeros(1000)})
    assert [store.get({"i": i}) is not None for i in range(4)] == [True, False, True, True]
    assert store.contents().size <= store.limit
    store.put({"i": 4}, {"d": torch.zeros(10**6)})  # larger than everything: not kept, and nothing goes for it
    assert store.contents().files == 3


def test_clearing_leaves_what_is_not_the_stores(tmp_path):
    store = Store(tmp_path)
    store.put({"a": 1}, {"d": torch.zeros(1)})
    (tmp_path / "mine.npz").write_text("mine")
    (tmp_path / "thesis.pairs").write_text("mine")
    (tmp_path / "folder").mkdir()
    removed = store.clear()
    assert removed.files == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "mine.npz", "thesis.pairs"]
    assert store.clear().files == 0
    assert Store(tmp_path / "nowhere").clear().files == 0


def test_abandoned_unfinished_files_are_removed_and_fresh_ones_left(tmp_path):
    store = Store(tmp_path)
    store.put({"a": 1}, {"d": torch.zeros(1)})
    name = store._path({"a": 1}).name
    old, new = (tmp_path / f".{name}.{pid}.part.pairs" for pid in (1, 2))
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.put({"a": 2}, {"d": torch.zeros(1)})
    assert not old.exists()
    assert new.exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_told_of_once(tmp_path):
    tmp_path.chmod(0o500)
    _check_unwritable(Store(tmp_path / "deep"))
    tmp_path.chmod(0o700)


def test_a_file_in_the_folders_way(tmp_path):
    (tmp_path / "way").write_text("")
    _check_unwritable(Store(tmp_path / "way" / "deep"))
    with pytest.raises(ConfigurationError, match="way is a file"):
        Store(tmp_path / "way")


def _check_unwritable(store):
    s, r = clouds(3, 0), clouds(3, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = evaluate_sets(s, r, draws=0, store=store).values
    assert values == evaluate_sets(s, r, draws=0).values
    assert ["not kept" in str(w.message) and "PCGEN_CACHE" in str(w.message) for w in caught] == [True]


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PCGEN_CACHE", str(tmp_path / "there"))
    assert Store().folder == tmp_path / "there" / "distances"
    monkeypatch.delenv("PCGEN_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "pcgen"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "pcgen"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "pcgen"


WRITER = """
import sys, torch, warnings
warnings.simplefilter("error")
from pcgen.metrics.store import Store
store = Store(sys.argv[1], limit=30_000)
for i in range(150):
    key = {"i": i % 7}
    found = store.get(key)
    assert found is None or found["d"].eq(i % 7).all()
    store.put(key, {"d": torch.full((1500,), float(i % 7))})
"""


def test_processes_write_the_same_files_at_once(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for writer in writers:
            _, err = writer.communicate(timeout=120)
            assert writer.returncode == 0, err
    finally:
        for writer in writers:
            writer.kill()
    assert 0 < Store(tmp_path).contents().size <= 30_000 + 2 * 6_500  # two may be a file late in counting
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_ranks_do_without(store):
    from pcgen.metrics.matrices import ReferenceDistances
    from pcgen.metrics.ranks import Ranks

    class Apart(Ranks):
        def _reduce(self, mine, how):
            return mine

    s, r = clouds(4, 0), clouds(4, 1)
    found = ReferenceDistances(r, ["cd"], store).between("cd", s, ranks=Apart(0, 2))
    assert store.contents().files == 0
    assert torch.equal(found.sr, distance_matrix(pairwise_chamfer_distance, s, r, ranks=Apart(0, 2)))
