import multiprocessing
import pickle

import h5py
import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.io import LazyClouds, write_clouds


@pytest.fixture
def points(rng):
    return rng.normal(size=(40, 6, 3)).astype(np.float32)


@pytest.fixture(params=["contiguous", "rows", "gzip"])
def path(request, tmp_path, points):
    path = tmp_path / "c.h5"
    if request.param == "contiguous":
        return write_clouds(path, points)
    with h5py.File(path, "w") as f:
        if request.param == "rows":
            f.create_dataset("points", data=points, chunks=(1, 6, 3))
        else:
            f.create_dataset("data", data=points.astype("f8"), compression="gzip", chunks=(16, 6, 3))
    return path


@pytest.mark.parametrize("indices", [[3], [5, 4, 3], [39, 0, 7, 7, 8, 9, 39], list(range(40)), []])
def test_gather_in_any_order(path, points, indices):
    lazy = LazyClouds(path)
    assert lazy.shape == (40, 6, 3)
    batch = lazy.gather(indices)
    assert batch.dtype == np.float32
    assert np.array_equal(batch, points[np.array(indices, dtype=int)])


def test_rows_choose_and_order(path, points):
    rows = np.array([30, 2, 2, 17])
    lazy = LazyClouds(path, rows)
    assert lazy.shape == (4, 6, 3)
    assert len(lazy) == 4
    assert np.array_equal(lazy.gather([3, 0, 1]), points[[17, 30, 2]])


def test_pickle_drops_the_handle(path, points):
    lazy = LazyClouds(path)
    lazy.gather([0])
    copy = pickle.loads(pickle.dumps(lazy))
    assert not copy._files._open
    assert np.array_equal(copy.gather([1, 5]), points[[1, 5]])
    lazy.close()
    assert np.array_equal(lazy.gather([2]), points[[2]])


def read_often(lazy, seed, queue):
    rng = np.random.default_rng(seed)
    good = True
    for _ in range(100):
        index = rng.integers(0, 40, 8)
        good &= bool((lazy.gather(index)[:, 0, 0] == lazy.expected[index]).all())
    queue.put((good, lazy._files._pid))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_two_processes_read_at_once(tmp_path, points, method):
    path = write_clouds(tmp_path / "c.h5", points)
    lazy = LazyClouds(path)
    lazy.expected = points[:, 0, 0]
    lazy.gather([0])  # the handle is open when the process forks
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    others = [context.Process(target=read_often, args=(lazy, s, queue)) for s in (1, 2)]
    for p in others:
        p.start()
    read_often(lazy, 3, queue)
    results = [queue.get(timeout=60) for _ in range(3)]
    for p in others:
        p.join(60)
    assert all(good for good, _ in results)
    assert len({pid for _, pid in results}) == 3


def test_errors(tmp_path, points):
    path = write_clouds(tmp_path / "c.h5", points)
    with pytest.raises(DataError, match="rows 5 to 40 asked for, but it has 40"):
        LazyClouds(path, [5, 40])
    with pytest.raises(IndexError):
        LazyClouds(path).gather([40])
    with h5py.File(path, "r+") as f:
        f["points"][7, 2, 1] = np.nan
    lazy = LazyClouds(path, np.arange(5, 15))
    assert len(lazy.gather([0, 1, 3])) == 3
    with pytest.raises(DataError, match="row 7 holds NaN"):
        lazy.gather([0, 2])
    with pytest.raises(DataError, match="does not exist"):
        LazyClouds(tmp_path / "none.h5")
