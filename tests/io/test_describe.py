import json

import h5py
import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.io import describe_file, write_clouds


def test_hdf5(tmp_path, rng):
    points = rng.uniform(-1, 1, (6, 30, 3)).astype("f4") * np.array([1, 2, 3, 4, 5, 6], dtype="f4")[:, None, None]
    points[4, 0, 0] = np.inf
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["points"], f["labels"], f["split"] = points, [0, 1, 1, 0, 0, 1], np.array([0, 0, 0, 1, 1, 2], dtype="u1")
        f["class_names"] = ["bed", "sofa"]
        f.attrs["up_axis"] = 1
    facts = describe_file(tmp_path / "a.h5")
    json.dumps(facts)
    assert facts["clouds"] == 6
    assert facts["points"] == 30
    assert facts["classes"] == {"bed": {"train": 1, "test": 2}, "sofa": {"train": 2, "val": 1}}
    assert facts["splits"] == {"train": 3, "val": 1, "test": 2}
    assert (facts["up_axis"], facts["up axis"]) == (1, "y")
    assert facts["non_finite"] == 1
    good = points[[0, 1, 2, 3, 5]]
    assert np.allclose(facts["low"], good.min((0, 1)))
    assert np.allclose(facts["high"], good.max((0, 1)))
    sides = (good.max(1) - good.min(1)).max(1)
    assert np.allclose(facts["sizes"], [sides.min(), np.median(sides), sides.max()])


def test_tree_with_a_bad_mesh(tree):
    (tree / "chair/test/chair_test_0000.off").write_text("OFF 1")
    facts = describe_file(tree)
    json.dumps(facts)
    assert facts["meshes"]
    assert facts["points"] == 2048
    assert facts["kind"] == "a ModelNet tree of classes"
    assert facts["splits"] == {"train": 6, "test": 4}
    assert facts["looked_at"] == 9
    assert "chair_test_0000" in facts["unreadable"][0][0]
    assert facts["low"] == [0, 0, 0]


def test_clouds_of_several_sizes_and_nothing_finite(tmp_path, rng):
    for n in (10, 30):
        write_clouds(tmp_path / "c" / f"{n}.xyz", rng.normal(size=(n, 3)))
    facts = describe_file(tmp_path / "c")
    assert facts["points"] == [10, 30]
    assert facts["classes"] == {}
    assert facts["splits"] == {"all": 2}
    np.save(tmp_path / "n.npy", np.full((2, 5, 3), np.nan))
    facts = describe_file(tmp_path / "n.npy")
    assert facts["non_finite"] == 2
    assert facts["low"] is None
    json.dumps(facts)


def test_an_up_axis_that_nobody_told_is_unknown(tmp_path, rng):
    with h5py.File(tmp_path / "a.h5", "w") as f:  # as the field writes it, `modelnet10.h5` too
        f["points"], f["labels"] = rng.normal(size=(4, 30, 3)), [0, 1, 1, 0]
    facts = describe_file(tmp_path / "a.h5")
    assert (facts["up_axis"], facts["up axis"]) == (None, "unknown")


def test_missing(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        describe_file(tmp_path / "none.h5")
