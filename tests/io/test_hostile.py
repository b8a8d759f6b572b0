"""Files that ask for more than to be read; and our own PLY and PCD readers against Open3D's, on whole files."""

import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcgen.cli.images import read_images
from pcgen.errors import DataError
from pcgen.io import LazyClouds, describe_file, read_clouds, read_mesh
from pcgen.io.open3d import load_open3d
from pcgen.io.pcd import read_pcd, unpack_lzf
from pcgen.io.ply_body import polygons, read_ply

X = np.random.default_rng(0).normal(size=(3, 8, 3)).astype("f4")


def external_storage(f):
    f.create_dataset("points", X.shape, "f4", external=[(f"{f.filename}.secret", 0, X.nbytes)])


def virtual(f):
    layout = h5py.VirtualLayout(X.shape, "f4")
    layout[:] = h5py.VirtualSource("other.h5", "points", shape=X.shape)
    f.create_virtual_dataset("points", layout)


def external_link(f):
    f["points"] = h5py.ExternalLink("other.h5", "/points")


def column_link(f):
    f["points"], f["name"] = X, h5py.ExternalLink("other.h5", "/name")


def soft_link(f):
    f["points"] = h5py.SoftLink("/points")


def link_in_group(f):
    f.create_group("02691156")["train"] = h5py.ExternalLink("other.h5", "/points")


def twice_packed(f):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(X.shape)
    properties.set_deflate(9)
    properties.set_deflate(9)
    space = h5py.h5s.create_simple(X.shape)
    h5py.h5d.create(f.id, b"points", h5py.h5t.IEEE_F32LE, space, properties).write(h5py.h5s.ALL, h5py.h5s.ALL, X)


def swollen_chunk(f):
    points = f.create_dataset("points", X.shape, "f4", chunks=X.shape, compression="gzip")
    points.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(100 << 20)))


def same_text(f):
    f["points"] = np.zeros((2000, 1, 3), "f4")
    names = f.create_dataset("name", (2000,), h5py.string_dtype())
    names[0] = "x" * (1 << 20)
    f.flush()
    place = names.id.get_offset()
    with Path(f.filename).open("r+b") as file:  # every name becomes a reference to the first one
        file.seek(place)
        first = file.read(16)
        file.seek(place)
        file.write(first * 2000)


def compound(f):
    f["points"], f["label"] = X, np.zeros(3, [("a", "f4")])


def references(f):
    f["points"] = X
    f.create_dataset("label", data=[f["points"].ref] * 3, dtype=h5py.ref_dtype)


HOSTILE = [
    (external_storage, "points lies in other files"),
    (virtual, "points lies in other files"),
    (external_link, "points is a link to other.h5:/points"),
    (column_link, "name is a link to other.h5:/name"),
    (soft_link, "points is a link to /points"),
    (link_in_group, "train is a link to other.h5:/points"),
    (twice_packed, r"packed by the filters \[1, 1\]"),
    (swollen_chunk, "a chunk of /points unpacks to more than"),
    (same_text, "name announces .* bytes"),
    (compound, "label holds values of type"),
    (references, "label holds values of type"),
]


@pytest.mark.parametrize(("write", "word"), HOSTILE, ids=[w.__name__ for w, _ in HOSTILE])
def test_hdf5_is_read_for_what_lies_in_it(tmp_path, write, word):
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["points"], f["name"] = X, np.array([b"a", b"b", b"c"])
    path = tmp_path / "a.h5"
    (tmp_path / "a.h5.secret").write_bytes(X.tobytes())
    with h5py.File(path, "w", libver="latest") as f:
        write(f)
    tracemalloc.start()
    try:
        for read in (read_clouds, describe_file):
            with pytest.raises(DataError, match=word) as caught:
                read(path)
            assert str(path) in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 300_000_000
    finally:
        tracemalloc.stop()


def texts(f):
    f["points"], f["name"] = X, ["a", "b", "c"]


def texts_of_chunks(f):
    f["points"] = X
    f.create_dataset("name", data=["a", "b", "c"], dtype=h5py.string_dtype(), chunks=(2,), compression="gzip")


def fill_value(f):
    f["points"] = X
    f.create_dataset("name", (3,), h5py.string_dtype(), fillvalue="abc")


def attribute(f):
    f["points"], f["label"] = X, np.zeros(3, np.int64)
    f.attrs["class_names"] = ["chair"]


def attribute_of_many(f):
    attribute(f)
    for i in range(20):  # more than are kept beside each other
        f.attrs[f"more_{i}"] = i


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"userblock_size": 1024}])
@pytest.mark.parametrize("write", [texts, texts_of_chunks, fill_value, attribute, attribute_of_many])
@pytest.mark.timeout(30)  # HDF5 itself would look for the end of the heap for ever
def test_a_heap_of_texts_without_an_end_is_refused(tmp_path, write, options):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", **options) as f:
        write(f)
    assert len(read_clouds(path)) == 3
    content = bytearray(path.read_bytes())
    assert content.count(b"GCOL\1") == 1
    at = content.index(b"GCOL\1") + 16
    while any(content[at : at + 2]):  # texts, up to the free space
        at += 16 + -(-int.from_bytes(content[at + 8 : at + 16], "little") // 8) * 8
    content[at + 8 : at + 16] = bytes(8)
    content[content.index(b"GCOL\1") + 6] = 1  # a byte that means nothing
    path.write_bytes(content)
    for read in (read_clouds, describe_file):
        with pytest.raises(DataError, match=rf"a.h5: its heap of texts at byte {content.index(b'GCOL')} is damaged"):
            read(path)


@pytest.mark.timeout(30)
def test_heaps_within_heaps_are_refused_at_once(tmp_path):
    n = 4000
    records = np.zeros((n, 32), np.uint8)  # each an object of the heaps before it, and the beginning of one
    for k in range(n):
        inner = b"GCOL\1\0\0\0" + (32 * (n - k) - 16).to_bytes(8, "little")
        records[k] = np.frombuffer(b"\1" + bytes(7) + (16).to_bytes(8, "little") + inner, np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as f:
        texts(f)
        f["more"] = records
    with pytest.raises(DataError, match=r"a.h5: its heap of texts at byte \d+ is damaged"):
        read_clouds(tmp_path / "a.h5")


def test_a_group_in_the_place_of_a_dataset_is_refused(tmp_path):
    for name in ("name", "label", "split"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as f:
            f["points"] = X
            f.create_group(name)
        with pytest.raises(DataError, match=f"{name}.h5: .*{name}"):
            read_clouds(tmp_path / f"{name}.h5")
    with h5py.File(tmp_path / "images.h5", "w") as f:
        f.create_group("images")
    with pytest.raises(DataError, match=r"images.h5: .*images is a group"):
        read_images(tmp_path / "images.h5")


def test_lazy_clouds_open_no_other_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        virtual(f)
    with pytest.raises(DataError, match="lies in other files"):
        LazyClouds(tmp_path / "a.h5")


def test_large_gzip_chunks_and_texts_are_still_read(tmp_path):
    points = np.random.default_rng(0).normal(size=(4, 20_000, 3)).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as f:
        f.create_dataset(
            "points", data=points, chunks=(2, 20_000, 3), compression="gzip", shuffle=True, fletcher32=True
        )
        f.create_dataset("name", data=["a", "bé", "c", "d"], dtype=h5py.string_dtype())
    clouds = read_clouds(tmp_path / "a.h5")
    assert np.array_equal(clouds.points, points)
    assert tuple(clouds.name) == ("a", "bé", "c", "d")


@pytest.mark.parametrize("ascii_", [True, False])
def test_ply_and_pcd_as_open3d_has_them(tmp_path, ascii_):
    open3d = load_open3d()
    rng = np.random.default_rng(1)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(rng.normal(size=(500, 3))))
    cloud.normals = open3d.utility.Vector3dVector(rng.normal(size=(500, 3)))
    cloud.colors = open3d.utility.Vector3dVector(rng.uniform(size=(500, 3)))
    for suffix, packed in ((".ply", False), (".pcd", False), (".pcd", True)):
        path = tmp_path / f"a{suffix}"
        open3d.io.write_point_cloud(str(path), cloud, write_ascii=ascii_, compressed=packed)
        points = read_pcd(path) if suffix == ".pcd" else read_ply(path)[0]
        assert np.array_equal(points, np.asarray(open3d.io.read_point_cloud(str(path)).points))
    mesh = open3d.geometry.TriangleMesh.create_icosahedron()
    open3d.io.write_triangle_mesh(str(tmp_path / "m.ply"), mesh, write_ascii=ascii_)
    ours = read_mesh(tmp_path / "m.ply")
    theirs = open3d.io.read_triangle_mesh(str(tmp_path / "m.ply"))
    assert np.array_equal(ours.vertices, np.asarray(theirs.vertices))
    assert np.array_equal(ours.faces, np.asarray(theirs.triangles))


def test_polygons_of_all_sizes():
    lengths = np.array([4, 2, 3, 0, 5])
    found = polygons(lengths, np.arange(14))
    expected, start = [], 0
    for n in lengths:
        expected += [(start, start + i, start + i + 1) for i in range(1, n - 1)]
        start += n
    assert found.tolist() == [list(t) for t in expected]
    assert polygons(np.zeros(0, np.int64), np.zeros(0, np.int64)).shape == (0, 3)


def test_lzf():
    assert unpack_lzf(b"\x02abc" + bytes([0x20 | 0, 2]), 6) == b"abcabc"  # three bytes, of three before
    assert unpack_lzf(b"\x00a" + bytes([0xE0, 10, 0]), 20) == b"a" * 20  # a run that makes itself
    for data, size in ((b"\x02abc", 4), (b"\x02abc", 2), (bytes([0x20, 5]), 3)):
        with pytest.raises(ValueError, match="packed bytes"):
            unpack_lzf(data, size)
