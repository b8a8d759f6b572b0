"""Sizes that a file announces are not believed: what cannot be true costs no memory."""

import io
import math
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.io import LazyClouds, describe_file, read_clouds, write_clouds

X = np.ones((3, 5, 3), dtype="f4")
MANY = 400_000_000


def with_column(name, shape, dtype="u1", **options):
    def write(path):
        with h5py.File(path, "w") as f:
            f["points"] = X
            f.create_dataset(name, shape, dtype, chunks=tuple(min(n, 1_000_000) for n in shape), **options)

    return write


def never_written(shape):
    def write(path):
        with h5py.File(path, "w") as f:
            f.create_dataset("points", shape, "f4", chunks=(1, 64, 3), fillvalue=0.5)

    return write


def packed(shape, chunk):
    """Points of which every chunk is stored, of zeros that gzip packs 1000 : 1."""

    def write(path):
        block = zlib.compress(bytes(4 * math.prod(chunk)))
        with h5py.File(path, "w") as f:
            points = f.create_dataset("points", shape, "f4", chunks=chunk, maxshape=(None, None, 3), compression="gzip")
            for start in range(0, shape[0], chunk[0]):
                points.id.write_direct_chunk((start, 0, 0), block)

    return write


def packed_npz(**arrays):
    return lambda path: np.savez_compressed(path, **arrays)


def boastful_npz(path):
    buffer = io.BytesIO()
    np.save(buffer, X)
    told = buffer.getvalue().replace(b"(3, 5, 3), }        ", b"(3, 500000000, 3), }")
    assert len(told) == len(buffer.getvalue())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points.npy", told)


def boastful_npy(path):
    np.save(path, X)
    path.write_bytes(path.read_bytes().replace(b"(3, 5, 3), }        ", b"(3, 500000000, 3), }"))


PCD = b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA binary\n"
BODY = bytes(24)
HUGE = PCD.replace(b"POINTS 2", b"POINTS 100000000000")


def pcd(data):
    return lambda path: path.write_bytes(data)


HOSTILE = [
    ("a.h5", with_column("label", (MANY,)), "3 clouds but 400000000 entries in label"),
    ("a.h5", with_column("label", (MANY,), compression="gzip"), "3 clouds but 400000000 entries in label"),
    ("a.h5", with_column("label", (3, MANY)), "3 clouds but 1200000000 entries in label"),
    ("a.h5", with_column("split", (MANY,)), "3 clouds but 400000000 entries in split"),
    ("a.h5", with_column("names", (MANY,), "S3"), "3 clouds but 400000000 entries in names"),
    ("a.h5", with_column("name", (3,), "S400000000"), "name announces 1200000000 bytes, but only 0 are stored"),
    ("a.h5", with_column("factors", (MANY, 2)), "3 clouds but 400000000 entries in factors"),
    ("a.h5", with_column("factors", (3, MANY)), "factors announces 1200000000 bytes, but only 0 are stored"),
    ("a.h5", with_column("class_names", (MANY,), "S3"), "400000000 entries in class_names; at most 65536"),
    ("a.h5", with_column("factor_names", (MANY,), "S3"), "400000000 entries in factor_names; at most 65536"),
    ("a.h5", with_column("up_axis", (MANY,)), "400000000 entries in up_axis"),
    ("a.h5", never_written((10**9, 334, 3)), "bytes are stored"),
    ("a.h5", never_written((2**40, 2**24, 3)), "bytes are stored"),  # 2^66 · 3 bytes: nothing in 64 bits
    ("a.h5", packed((20_000, 1000, 3), (1000, 1000, 3)), "points announces 240000000 bytes, but only"),
    ("a.h5", packed((2, 1000, 3), (6000, 1000, 3)), "points announces 72000000 bytes, but only"),
    ("a.npy", boastful_npy, "not a .npy"),
    ("a.npz", boastful_npz, "'points' cannot be read .*which 308 bytes do not hold"),
    ("a.npz", packed_npz(points=np.zeros((4, 500_000, 3))), "'points' announces 48000128 bytes, but only"),
    ("a.npz", packed_npz(points=X, label=np.zeros(48_000_000, "u1")), "'label' announces 48000128 bytes, but only"),
    ("a.npz", packed_npz(points=X, label=np.zeros(400_000, "u1")), "3 clouds but 400000 entries in label"),
    ("a.pcd", pcd(HUGE + BODY), "announces 100000000000 points"),
    ("a.pcd", pcd(HUGE.replace(b"binary", b"binary_compressed") + BODY), "announces 100000000000 points"),
    ("a.pcd", pcd(HUGE.replace(b"COUNT 1 1 1", b"COUNT 0 0 0") + BODY), "counts .0, 0, 0."),
    ("a.pcd", pcd(HUGE.replace(b"SIZE 4 4 4", b"SIZE 4 4 -8") + BODY), "sizes .4, 4, -8."),
    ("a.pcd", pcd(HUGE.replace(b"SIZE 4 4 4", b"SIZE 0 0 0") + BODY), "sizes .0, 0, 0."),
    ("a.pcd", pcd(HUGE.replace(b"SIZE 4 4 4", b"SIZE 4 4") + BODY), "3 fields of sizes .4, 4. and"),
    ("a.pcd", pcd(HUGE + BODY + b"\nPOINTS 2\n"), "announces 100000000000 points"),
    ("a.pcd", pcd(HUGE.replace(b"DATA", b"POINTS 2\nDATA") + BODY), "cannot be understood"),
    ("a.pcd", pcd(HUGE.replace(b"POINTS", b" POINTS") + BODY), "announces 100000000000 points"),
    ("a.pcd", pcd(PCD.replace(b"WIDTH", b"#" * 1020 + b"\nPOINTSX 9\nWIDTH") + BODY), "cannot be understood"),
]


@pytest.mark.parametrize("read", [read_clouds, describe_file])
@pytest.mark.parametrize(("name", "write", "word"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_claim_that_cannot_be_true_costs_no_memory(tmp_path, read, name, write, word):
    path = tmp_path / name
    write(path)
    tracemalloc.start()
    try:
        if read is describe_file and name == "a.pcd":
            assert len(read(path)["unreadable"]) == 1  # told, where one file of many may be bad
        else:
            with pytest.raises(DataError, match=word) as caught:
                read(path)
            assert str(path) in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_lazy_clouds_do_not_believe_it_either(tmp_path):
    packed((20_000, 1000, 3), (1000, 1000, 3))(tmp_path / "a.h5")
    with pytest.raises(DataError, match="points announces 240000000 bytes"):
        LazyClouds(tmp_path / "a.h5")


def test_what_is_true_is_read(tmp_path, rng):
    points = np.repeat(rng.normal(size=(4, 1, 3)), 5000, axis=1).astype("f4")  # packs well, and is small
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset("points", data=points, compression="gzip")
        f["label"], f["factors"] = np.zeros((4, 1), "u1"), rng.normal(size=(4, 2))
        f.create_dataset("split", (4,), "u1")  # never written: all 0, which is train
    clouds = read_clouds(tmp_path / "a.h5")
    assert np.array_equal(clouds.points, points)
    assert clouds.split.tolist() == ["train"] * 4
    np.savez_compressed(tmp_path / "a.npz", points=points, label=[0, 1, 1, 0], class_names=["a", "b"])
    clouds = read_clouds(tmp_path / "a.npz")
    assert np.array_equal(clouds.points, points)
    assert (clouds.label.tolist(), clouds.class_names) == ([0, 1, 1, 0], ("a", "b"))
    assert np.array_equal(read_clouds(write_clouds(tmp_path / "b.npz", clouds)).points, points)
