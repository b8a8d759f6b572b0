import time

import numpy as np
import pytest

from pcgen.errors import ConfigurationError, DataError
from pcgen.io import CloudSet, read_clouds, write_clouds


@pytest.fixture
def clouds(rng):
    return CloudSet(
        rng.normal(size=(5, 8, 3)).astype(np.float32),
        label=np.array([0, 1, 2, 0, 1]),
        split=np.array(["train", "val", "test", "train", "test"]),
        name=("a", "bé", "c", "d", "e"),
        class_names=("bed", "chair", "sofa"),
        factors=rng.normal(size=(5, 2)).astype(np.float32),
        factor_names=("height", "width"),
        up_axis=2,
    )


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".npz"])
def test_everything_comes_back(tmp_path, clouds, suffix):
    path = write_clouds(tmp_path / "new" / f"c{suffix}", clouds)
    back = read_clouds(path)
    for field in ("points", "label", "split", "factors"):
        assert np.array_equal(getattr(back, field), getattr(clouds, field)), field
    for field in ("name", "class_names", "factor_names", "up_axis"):
        assert getattr(back, field) == getattr(clouds, field), field


@pytest.mark.parametrize("suffix", [".npy", ".ply", ".xyz"])
def test_points_come_back_exactly(tmp_path, clouds, suffix):
    path = write_clouds(tmp_path / f"c{suffix}", clouds)
    assert path == (tmp_path / "c.npy" if suffix == ".npy" else tmp_path / "c")
    assert np.array_equal(read_clouds(path).points, clouds.points)
    one = write_clouds(tmp_path / f"one{suffix}", clouds.points[0])
    assert one.is_file()
    assert np.array_equal(read_clouds(one).points, clouds.points[:1])


def test_the_same_content_gives_the_same_bytes(tmp_path, clouds):
    def contents():
        return {s: write_clouds(tmp_path / f"c{s}", clouds).read_bytes() for s in (".h5", ".npz", ".npy")}

    first = contents()
    time.sleep(2.1)  # zip counts in steps of two seconds
    assert contents() == first


def test_numbered_clouds_replace_their_like_and_nothing_else(tmp_path, clouds):
    folder = write_clouds(tmp_path / "c.ply", clouds)
    assert len(list(folder.iterdir())) == 5
    write_clouds(tmp_path / "c.ply", clouds.points[:2])
    assert sorted(p.name for p in folder.iterdir()) == ["00000.ply", "00001.ply"]
    (folder / "thesis.tex").write_text("dear")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        write_clouds(tmp_path / "c.ply", clouds)
    assert (folder / "thesis.tex").read_text() == "dear"


def test_nothing_half_written_stays(tmp_path, clouds, monkeypatch):
    write_clouds(tmp_path / "c.h5", clouds)
    before = (tmp_path / "c.h5").read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pcgen.io.writing.put", fail)
    with pytest.raises(DataError, match=r"c\.h5 cannot be written: No space left"):
        write_clouds(tmp_path / "c.h5", clouds.points[:1])
    assert [p.name for p in tmp_path.iterdir()] == ["c.h5"]
    assert (tmp_path / "c.h5").read_bytes() == before


def test_wrong_arguments(tmp_path, clouds):
    with pytest.raises(ConfigurationError, match=r"'\.stl' is not written; \.h5"):
        write_clouds(tmp_path / "c.stl", clouds)
    with pytest.raises(DataError, match="shape"):
        write_clouds(tmp_path / "c.h5", np.zeros((3, 4)))
    with pytest.raises(DataError, match="NaN"):
        write_clouds(tmp_path / "c.h5", np.full((3, 4, 3), np.nan))
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        write_clouds(tmp_path / "folder.h5", clouds)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_clouds(tmp_path / "file" / "c.h5", clouds)
