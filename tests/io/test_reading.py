import subprocess
import sys
import warnings

import h5py
import numpy as np
import pytest

from pcgen.errors import ConfigurationError, DataError
from pcgen.io import CloudSet, read_clouds, write_clouds
from pcgen.io.synsets import SYNSETS


def test_aliases_mean_the_same(tmp_path, rng):
    points = rng.normal(size=(4, 9, 3))
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["data"], f["labels"], f["names"] = points, np.array([[0], [1], [1], [0]], dtype="u1"), ["a", "b", "c", "d"]
        f["split"], f["class_names"] = np.array([0, 1, 2, 0], dtype="u1"), ["bed", "sofa"]
    clouds = read_clouds(tmp_path / "a.h5")
    assert np.array_equal(clouds.points, points.astype(np.float32))
    assert clouds.label.tolist() == [0, 1, 1, 0]
    assert clouds.split.tolist() == ["train", "test", "val", "train"]
    assert clouds.name == ("a", "b", "c", "d")
    assert clouds.class_names == ("bed", "sofa")
    with h5py.File(tmp_path / "a.h5", "r+") as f:
        del f["split"]
        f["split"] = np.array([b"test", b"val", b"train", b"val"])
    assert read_clouds(tmp_path / "a.h5", split="val", classes="sofa").name == ("b",)


def test_modelnet40_folder(tmp_path, rng):
    first, second = rng.normal(size=(5, 16, 3)).astype("f4"), rng.normal(size=(2, 16, 3)).astype("f4")
    for name, points, label in (("train0", first, [0, 2, 1, 1, 2]), ("test0", second, [1, 0])):
        with h5py.File(tmp_path / f"ply_data_{name}.h5", "w") as f:
            f["data"], f["label"] = points, np.array(label, dtype="u1")[:, None]
    clouds = read_clouds(tmp_path)
    assert np.array_equal(clouds.points, np.concatenate([second, first]))  # sorted by file name
    assert clouds.split.tolist() == ["test"] * 2 + ["train"] * 5
    assert clouds.up_axis == 1
    (tmp_path / "shape_names.txt").write_text("airplane\nbathtub\nbed\n")
    assert read_clouds(tmp_path, classes="bed", split="train").name == (
        "ply_data_train0/00001",
        "ply_data_train0/00004",
    )
    assert read_clouds(tmp_path / "ply_data_train0.h5").split.tolist() == ["train"] * 5


@pytest.mark.parametrize(
    ("content", "expected"), [(b"\xff\xfe\x00", "is not a text file"), (b"a\n" * (1 << 20), "has 2097152 bytes")]
)
def test_a_list_of_class_names_that_is_none(tmp_path, rng, content, expected):
    with h5py.File(tmp_path / "ply_data_train0.h5", "w") as file:
        file["data"] = rng.random((2, 8, 3)).astype("f4")
        file["label"] = np.zeros((2, 1), "u1")
    (tmp_path / "shape_names.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"shape_names.txt {expected}"):
        read_clouds(tmp_path)


def test_pc15k_tree(tmp_path, rng):
    arrays = {}
    for synset, split, name in (
        ("03001627", "train", "x"), ("03001627", "val", "y"), ("02691156", "train", "z"), ("02691156", "test", "x"),
    ):  # fmt: skip
        folder = tmp_path / synset / split
        folder.mkdir(parents=True)
        arrays[synset, split] = rng.normal(size=(50, 3))
        np.save(folder / f"{name}.npy", arrays[synset, split])
    clouds = read_clouds(tmp_path, num_points=50)
    assert clouds.class_names == ("airplane", "chair")
    assert clouds.name == ("02691156/test/x", "02691156/train/z", "03001627/train/x", "03001627/val/y")
    assert clouds.up_axis == 1
    chairs = read_clouds(tmp_path, split="val", classes=["chair"])
    assert np.array_equal(chairs.points[0], arrays["03001627", "val"].astype("f4"))
    assert len(SYNSETS) == 55


def test_shapenet_hdf5(tmp_path, rng):
    with h5py.File(tmp_path / "shapenet.hdf5", "w") as f:
        for synset in ("03001627", "02691156"):
            for split, n in (("train", 3), ("val", 1), ("test", 2)):
                f[f"{synset}/{split}"] = rng.normal(size=(n, 12, 3)).astype("f4")
        wanted = f["03001627/test"][:]
    clouds = read_clouds(tmp_path / "shapenet.hdf5", classes="chair", split="test")
    assert np.array_equal(clouds.points, wanted)
    everything = read_clouds(tmp_path / "shapenet.hdf5")
    assert len(everything) == 12
    assert everything.class_names == ("airplane", "chair")


def test_modelnet_tree(tree):
    clouds = read_clouds(tree, num_points=64)
    assert clouds.points.shape == (10, 64, 3)
    assert clouds.class_names == ("chair", "night_stand")
    assert clouds.up_axis == 2
    assert (clouds.split == "train").sum() == 6
    assert "chair_train_0001" in clouds.name
    # what is read beside a mesh does not change its points
    alone = read_clouds(tree, num_points=64, classes="night_stand", split="test")
    chosen = clouds.select(classes="night_stand", split="test")
    assert np.array_equal(alone.points, chosen.points)
    assert not np.array_equal(clouds.points, read_clouds(tree, num_points=64, seed=1).points)


def test_a_common_folder_is_no_class(tree, tmp_path):
    (tmp_path / "outer").mkdir()
    tree.rename(tmp_path / "outer" / "ModelNet")
    assert read_clouds(tmp_path / "outer", num_points=8).class_names == ("chair", "night_stand")


def test_files_without_a_split_count_as_train_with_a_warning(tree, cube):
    (tree / "chair" / "odd.off").write_text(cube)
    with pytest.warns(UserWarning, match=r"1 of 11 files lie in no train, val or test folder, .*odd\.off"):
        clouds = read_clouds(tree, num_points=8)
    assert (clouds.split == "train").sum() == 7


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".ply", ".pcd", ".xyz", ".txt", ".pts", ".csv.txt", ".obj"])
def test_single_files(tmp_path, rng, suffix):
    points = rng.normal(size=(30, 3)).astype(np.float32)
    path = tmp_path / f"cloud{suffix}"
    text = "\n".join(f"{x:.9g} {y:.9g} {z:.9g} 255 0 0" for x, y, z in points)
    if suffix in (".npy", ".npz", ".ply", ".xyz"):
        write_clouds(path, points)
    elif suffix == ".pcd":
        head = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 30\nHEIGHT 1\n"
        path.write_bytes((head + "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 30\nDATA binary\n").encode() + points.tobytes())
    elif suffix == ".obj":
        path.write_text("".join(f"v {line}\n" for line in text.split("\n")))
    else:
        text = text.replace(" ", ",") if "csv" in suffix else f"# a comment\n{text}"
        path.write_text(f"30\n{text}" if suffix == ".pts" else text)
    clouds = read_clouds(path)
    assert clouds.points.shape == (1, 30, 3)
    assert np.array_equal(clouds.points[0], points)


def test_clouds_of_different_sizes(tmp_path, rng):
    for n in (30, 20, 25):
        write_clouds(tmp_path / f"c{n}.ply", rng.normal(size=(n, 3)))
    with pytest.warns(UserWarning, match="20 to 30 points; 20 of each") as caught:
        clouds = read_clouds(tmp_path)
    assert clouds.points.shape == (3, 20, 3)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=r"c20\.ply: 27 points asked for.*and 1 more") as caught:
        assert read_clouds(tmp_path, num_points=27).points.shape == (3, 27, 3)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_clouds(tmp_path, num_points=10).points.shape == (3, 10, 3)


def damaged(tmp_path, name, content):
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    return path


def hdf5(**columns):
    def write(path):
        with h5py.File(path, "w") as f:
            for name, value in columns.items():
                f[name] = value

    return write


def cut_hdf5(path):
    write_clouds(path, np.ones((50, 20, 3)))
    path.write_bytes(path.read_bytes()[:-5000])


def empty_promise(path):
    with h5py.File(path, "w") as f:
        f.create_dataset("points", (10**9, 2048, 3), "f4", chunks=(1, 2048, 3))


def absurd_npy(path):
    write_clouds(path, np.ones((2, 5, 3)))
    path.write_bytes(path.read_bytes().replace(b"(2, 5, 3)", b"(900000000, 5, 3)")[:200])


def cut_npz(path):
    write_clouds(path, np.ones((2, 5, 3)))
    path.write_bytes(path.read_bytes()[:-40])


def nan_ply(path):
    from pcgen.io.ply import ply_bytes

    path.write_bytes(ply_bytes(np.array([[0, 0, np.nan], [1, 1, 1]], dtype="f4")))


PCD = b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA ascii\n"
X = np.ones((3, 5, 3), dtype="f4")
BAD = [
    ("a.h5", b"", "not an HDF5 file"),
    ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "cut short|not an HDF5"),
    ("a.h5", cut_hdf5, "cut short"),
    ("a.h5", empty_promise, "bytes are stored"),
    ("a.h5", hdf5(cloud=X), "no dataset points or data in it; there is cloud"),
    ("a.h5", hdf5(points=X[0]), r"shape \(5, 3\)"),
    ("a.h5", hdf5(points=X[..., :2]), r"shape \(3, 5, 2\)"),
    ("a.h5", hdf5(points=X[:0]), r"shape \(0, 5, 3\)"),
    ("a.h5", hdf5(points=X * np.inf), "3 of 3 clouds hold NaN or infinity"),
    ("a.h5", hdf5(points=X, label=[0, 1]), "3 clouds but 2 entries in label"),
    ("a.h5", hdf5(points=X, label=[0, 1, 2], class_names=["a", "b"]), "labels run from 0 to 2"),
    ("a.h5", hdf5(points=X, label=[0.5, 1, 2]), "whole numbers"),
    ("a.h5", hdf5(points=X, split=[0, 1, 3]), "row 2 is in split"),
    ("a.h5", hdf5(points=X, split=[b"train", b"dev", b"test"]), "row 1 is in split"),
    ("a.h5", hdf5(points=X, factors=[1, 2, 3]), "factors of shape"),
    ("a.npy", b"", "not a .npy"),
    ("a.npy", absurd_npy, "not a .npy"),
    ("a.npy", lambda p: np.save(p, np.array([{}], dtype=object)), "not a .npy"),
    ("a.npy", lambda p: np.save(p, np.zeros((0, 3))), r"shape \(0, 3\)"),
    ("a.npy", lambda p: np.save(p, np.zeros((4, 6))), r"shape \(4, 6\)"),
    ("a.npy", lambda p: np.save(p, np.full((4, 3), np.nan)), "4 of 4 points are NaN"),
    ("a.npz", b"PK", "not a .npz"),
    ("a.npz", cut_npz, "not a .npz"),
    ("a.npz", lambda p: np.savez(p, a=X, b=X), "no array points or data in it; there is a, b"),
    ("a.ply", nan_ply, "1 of 2 points are NaN or infinite, the first is 0"),
    ("a.pcd", b"", "not a PCD"),
    ("a.pcd", PCD, "announces 2 points"),
    ("a.pcd", PCD.replace(b"POINTS 2", b"POINTS 9999999999") + b"0 0 0\n1 1 1\n", "announces 9999999999"),
    ("a.pcd", PCD.replace(b"x y z", b"a b c") + b"0 0 0\n1 1 1\n", "no fields x, y and z"),
    ("a.pcd", PCD + b"0 0 0\n1 nan 1\n", "1 of 2 points are NaN"),
    ("a.xyz", b"", "empty"),
    ("a.xyz", b"# nothing\n\n", "empty"),
    ("a.xyz", b"0 0\n1 1\n", "2 columns"),
    ("a.xyz", b"0 0 0\n1 1\n", "not a text of points"),
    ("a.xyz", b"0 0 0\nx y z\n", "not a text of points"),
    ("a.xyz", b"\xff\xfe\x00\x01", "not a text of points"),
    ("a.xyz", b"0 0 inf\n", "NaN or infinite"),
    ("a.off", b"OFF\n", "numbers of vertices"),
    ("a.jpg", b"", "'.jpg' are not read"),
    ("noending", b"", "no suffix"),
]


@pytest.mark.parametrize(("name", "content", "word"), BAD, ids=range(len(BAD)))
def test_bad_files_give_one_clear_error(tmp_path, capfd, name, content, word):
    path = damaged(tmp_path, name, content)
    with pytest.raises(DataError, match=word) as caught:
        read_clouds(path)
    assert str(path) in str(caught.value)
    assert capfd.readouterr().out == ""


def test_missing_and_empty(tmp_path):
    with pytest.raises(DataError, match=r"none\.h5 does not exist"):
        read_clouds(tmp_path / "none.h5")
    with pytest.raises(DataError, match="no file of clouds or meshes"):
        read_clouds(tmp_path)
    with pytest.raises(ConfigurationError, match="num_points is 0"):
        read_clouds(tmp_path, num_points=0)


def test_a_bad_file_in_a_tree_is_named(tree):
    bad = tree / "chair" / "train" / "chair_train_0001.off"
    bad.write_text("OFF\n1 2")
    with pytest.raises(DataError, match="chair_train_0001"):
        read_clouds(tree, num_points=8)
    read_clouds(tree, num_points=8, split="test")  # not looked at


def test_modelnet10_as_it_stands(shared_data):
    clouds = read_clouds(shared_data / "modelnet10.h5", classes=["toilet", "chair"])
    assert len(clouds) == 889 + 100 + 344 + 100
    assert (clouds.split == "train").sum() == 889 + 344
    assert clouds.class_names == ("toilet", "chair")
    with h5py.File(shared_data / "modelnet10.h5") as f:
        names = f["names"][:]
        for name in ("chair_0001", "toilet_0444"):
            row = int(np.flatnonzero(names == name.encode())[0])
            assert np.array_equal(clouds.points[clouds.name.index(name)], f["points"][row])


def test_real_folders(shared_data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clouds = read_clouds(shared_data / "pcd")
        assert clouds.points.shape == (18, 1024, 3)
        assert clouds.class_names == ("chair", "table", "toilet")
        bunny = read_clouds(shared_data / "scans/stanford-bunny-points.ply")
        assert bunny.points.shape == (1, 34834, 3)
        meshes = read_clouds(shared_data / "off/ModelNet10", num_points=256)
    assert meshes.points.shape == (60, 256, 3)
    assert (meshes.split == "train").sum() == 40


def test_our_samples_lie_where_the_shared_ones_do(shared_data):
    """Two independent samplers of the same meshes: trimesh's points in the HDF5, Open3D's here."""
    from scipy.spatial import cKDTree

    ours = read_clouds(shared_data / "off/ModelNet10", num_points=2048)
    with h5py.File(shared_data / "modelnet10.h5") as f:
        names = f["names"][:].astype(str).tolist()
        for i in range(0, len(ours), 7):
            row = names.index(ours.name[i])
            theirs = f["points"][row] + f["center"][row]
            diagonal = np.linalg.norm(f["extent"][row])
            for a, b in ((ours.points[i], theirs), (theirs, ours.points[i])):
                assert cKDTree(a).query(b)[0].mean() < 0.03 * diagonal


def test_importing_costs_nothing():
    code = """
import sys, pcgen.io
from pcgen.io import CloudSet, Normalization, read_clouds, write_clouds, prepare, LazyClouds, read_mesh, download
heavy = {"open3d", "h5py", "torch", "rich", "matplotlib", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there(tmp_path):
    import pcgen.io

    for name in pcgen.io.__all__:
        assert getattr(pcgen.io, name).__name__ == name
    assert CloudSet is pcgen.io.CloudSet
    assert {"catalog", "resample", "warn_repeats"} <= set(pcgen.io.__all__)
    assert len(pcgen.io.catalog(write_clouds(tmp_path / "c.npy", np.ones((2, 5, 3))))) == 2  # the function, no module
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = pcgen.io.nothing
