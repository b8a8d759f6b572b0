"""ModelNet from its tree: conversion once, again when stale, download from a server on this machine."""

import functools
import hashlib
import os
import threading
import warnings
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from pcgen.datamodules import ModelNet, modelnet
from pcgen.errors import ConfigurationError, DataError

CUBE = """OFF
8 12 0
0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n1 0 1\n1 1 1\n0 1 1
3 0 2 1\n3 0 3 2\n3 4 5 6\n3 4 6 7\n3 0 1 5\n3 0 5 4\n3 1 2 6\n3 1 6 5\n3 2 3 7\n3 2 7 6\n3 3 0 4\n3 3 4 7
"""


def plant(root, *, stretch=1.0):
    for name in ("chair", "table"):
        for split, count in (("train", 5), ("test", 2)):
            folder = root / "ModelNet10" / name / split
            folder.mkdir(parents=True)
            for i in range(count):
                height = stretch * (1 + i)
                head, *lines = CUBE.splitlines()
                vertices = [f"{x} {y} {float(z) * height}" for x, y, z in (v.split() for v in lines[1:9])]
                text = "\n".join([head, lines[0], *vertices, *lines[9:]]) + "\n"
                (folder / f"{name}_{i:04d}.off").write_text(text, encoding="ascii")
    return root


def make(root, **arguments):
    return ModelNet(str(root), **{"num_points": 64, "stored_points": 128} | arguments)


def test_points_of_the_tree_and_its_splits(tmp_path):
    data = make(plant(tmp_path), validation=0.2, scope="none")
    data.prepare_data()
    data.setup("fit")
    assert data.class_names == ("chair", "table")
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [8, 2, 4]
    assert (data.sample_shape, data.up_axis) == ((64, 3), 2)
    x = data.take("test").x
    on_a_face = torch.isclose(x, torch.tensor(0.0), atol=1e-5).any(-1) | torch.isclose(
        x[..., :2], torch.tensor(1.0)
    ).any(-1)
    top = torch.isclose(x[..., 2], x[..., 2].amax(1, keepdim=True), atol=1e-4)
    assert (on_a_face | top).all()
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob("*tmp*"))


def stamp(data):
    return data.file.stat().st_mtime_ns, data.file.stat().st_ino


def test_conversion_happens_once_and_again_when_stale(tmp_path):
    data = make(plant(tmp_path))
    data.prepare_data()
    first = stamp(data)
    make(tmp_path, num_points=32, seed=3, scope="set").prepare_data()  # these need no other points
    assert stamp(data) == first
    mesh = tmp_path / "ModelNet10/chair/train/chair_0000.off"
    os.utime(mesh, ns=(1, 1))
    data.prepare_data()
    assert stamp(data) != first
    second = stamp(data)
    mesh.unlink()
    data.prepare_data()
    assert stamp(data) != second
    data.setup()
    assert sum(len(data.split(s)) for s in ("train", "val", "test")) == 13
    other = make(tmp_path, stored_points=256)
    assert other.file != data.file


def test_the_tree_may_go_once_it_is_converted(tmp_path):
    data = make(plant(tmp_path), cache=str(tmp_path / "cache"))
    data.prepare_data()
    (tmp_path / "ModelNet10").rename(tmp_path / "elsewhere")
    data.prepare_data()
    assert data.take("test").x.shape == (4, 64, 3)


def test_a_tree_that_is_not_there_says_where_and_what_to_do(tmp_path):
    with pytest.raises(DataError, match="download: true") as caught:
        make(tmp_path).prepare_data()
    assert str(tmp_path / "ModelNet10") in str(caught.value)
    assert "pcgen data prepare" in str(caught.value)


def test_a_damaged_mesh_is_left_out_with_a_warning(tmp_path):
    plant(tmp_path)
    (tmp_path / "ModelNet10/chair/train/chair_0001.off").write_text("OFF\n3 1 0\n0 0", encoding="ascii")
    data = make(tmp_path)
    with pytest.warns(UserWarning, match=r"1 of 14 meshes.*chair_0001\.off"):
        data.prepare_data()
    data.setup()
    assert sum(len(data.split(s)) for s in ("train", "val", "test")) == 13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": 20}, "10 or 40"),
        ({"classes": ["chair", "spoon"]}, "no class 'spoon'; it has bathtub, bed"),
        ({"num_points": 256}, "stored_points is 128"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        make(tmp_path, **arguments)


def test_classes_are_known_before_anything_is_read(tmp_path):
    assert len(ModelNet(str(tmp_path), 40).class_names) == 40
    assert ModelNet(str(tmp_path), classes=["sofa", "bed"]).class_names == ("sofa", "bed")


@pytest.fixture
def server(tmp_path):
    """A server on the loopback with an archive of a tree, and a list of what was asked of it."""
    site, asked = tmp_path / "site", []
    tree = plant(tmp_path / "origin")
    site.mkdir()
    with zipfile.ZipFile(site / "ModelNet10.zip", "w") as archive:
        for path in sorted(tree.rglob("*.off")):
            archive.write(path, path.relative_to(tree))
        archive.writestr("__MACOSX/ModelNet10/._chair", "x")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/ModelNet10.zip", site / "ModelNet10.zip", asked
    http.shutdown()
    http.server_close()
    thread.join()


def test_download_unpacks_once_and_leaves_nothing_else(tmp_path, server):
    url, archive, asked = server
    root = tmp_path / "data"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    data = make(root, download=True, url=url, sha256=digest)
    with pytest.warns(UserWarning, match=r"14 meshes in the archive, but ModelNet10 was published with 4899") as caught:
        data.prepare_data()
    assert len(caught) == 1
    assert sorted(p.name for p in root.iterdir()) == ["ModelNet10", data.file.name]
    assert asked == ["/ModelNet10.zip"]
    make(root, download=True, url=url).prepare_data()
    assert len(asked) == 1
    assert data.take("test").x.shape == (4, 64, 3)


def test_a_whole_archive_is_no_matter_for_a_warning(tmp_path, server, monkeypatch):
    assert modelnet.MESHES == {10: 3991 + 908, 40: 9843 + 2468}
    monkeypatch.setitem(modelnet.MESHES, 10, 14)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(tmp_path / "data", download=True, url=server[0]).prepare_data()
    assert all(url.startswith("https://") for url in modelnet.URLS.values())


def test_a_wrong_archive_leaves_no_tree(tmp_path, server):
    url, archive, _ = server
    root = tmp_path / "data"
    with pytest.raises(DataError, match="sha256"):
        make(root, download=True, url=url, sha256="0" * 64).prepare_data()
    assert not (root / "ModelNet10").exists()
    with zipfile.ZipFile(archive, "w") as other:
        other.writestr("ShapeNet/readme.txt", "x")
    with pytest.raises(DataError, match="no folder ModelNet10 in the archive; there is ShapeNet"):
        make(root, download=True, url=url).prepare_data()
    assert not (root / "ModelNet10").exists()


def test_real_meshes(real_data, tmp_path):
    tree = real_data / "off"
    data = make(tree, cache=str(tmp_path), classes=["sofa", "chair"], batch_size=4)
    data.prepare_data()
    data.setup()
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [6, 2, 4]
    batch = next(iter(data.train_dataloader()))
    assert batch.x.shape == (4, 64, 3)
    undone = data.denormalize("test", np.arange(4), data.take("test").x)
    assert (undone.amax((1, 2)) > 5).all()  # raw ModelNet units
