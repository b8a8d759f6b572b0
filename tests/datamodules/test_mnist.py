"""MNIST from its files: layouts, splits, damage, and download from a server on this machine."""

import functools
import gzip
import hashlib
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

import pcgen.datamodules.mnist as room
from pcgen.datamodules import MNIST
from pcgen.datamodules._idx import read_idx
from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import build


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def arrays(K):
    """Images whose first pixel tells which one they are."""
    pixels = np.random.default_rng(K).integers(0, 256, (K, 28, 28), dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(K)
    return pixels, (np.arange(K) * 7 % 10).astype(np.uint8)


def plant(folder, *, packed=True, train=100, test=30):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, K in (("train", train), ("t10k", test)):
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays(K), strict=True):
            content = idx(array)
            name = f"{prefix}-{kind}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return folder


def ids(data, split):
    return (data.take(split).x[:, 0, 0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize("layout", ["", "MNIST/raw", "mnist", "raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_images_labels_and_splits(tmp_path, layout, packed):
    plant(tmp_path / layout, packed=packed)
    data = MNIST(str(tmp_path), validation=0.2)
    data.prepare_data()
    data.setup()
    assert (data.sample_shape, data.class_names, data.up_axis) == ((1, 28, 28), tuple("0123456789"), None)
    train, val = ids(data, "train"), ids(data, "val")
    assert sorted(train + val) == list(range(100))
    assert len(val) == 20
    pixels, digit = arrays(30)
    batch = data.take("test")
    assert batch.x.dtype == torch.float32
    np.testing.assert_array_equal(batch.x[:, 0].numpy(), pixels.astype(np.float32) / 255)
    np.testing.assert_array_equal(batch.label.numpy(), digit)
    assert torch.bincount(data.take("val").label).tolist() == [2] * 10


def test_what_is_held_out_depends_on_the_split_seed_alone(tmp_path):
    plant(tmp_path)
    whole = ids(MNIST(str(tmp_path)), "val")
    assert ids(MNIST(str(tmp_path), batch_size=3, seed=9), "val") == whole
    assert ids(MNIST(str(tmp_path), split_seed=1), "val") != whole
    some = MNIST(str(tmp_path), classes=["7", "3"])
    digit = arrays(100)[1]
    assert ids(some, "val") == [i for i in whole if digit[i] in (3, 7)]
    batch = some.take("train")
    numbers = (batch.x[:, 0, 0, 0] * 255).round().int().numpy()
    assert some.class_names == ("7", "3")
    np.testing.assert_array_equal(np.array([7, 3])[batch.label.numpy()], digit[numbers])
    without = MNIST(str(tmp_path), validation=0.0)
    assert ids(without, "val") == ids(without, "test")
    assert len(ids(without, "train")) == 100


def test_take_is_spread_over_the_classes_or_random_by_a_seed(tmp_path):
    data = MNIST(str(plant(tmp_path)))
    assert data.take("test", 10).label.tolist() == list(range(10))
    assert len(data.take("test", 1000).x) == 30
    first = data.take("train", 12, seed=1)
    assert torch.equal(first.x, data.take("train", 12, seed=1).x)
    assert not torch.equal(first.x, data.take("train", 12, seed=2).x)


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(tmp_path):
    data = MNIST(str(plant(tmp_path)), batch_size=16)

    def epoch(number, of=data):
        loader = of.train_dataloader()
        loader.sampler.set_epoch(number)
        return [(batch.x[:, 0, 0, 0] * 255).round().int().tolist() for batch in loader]

    first = epoch(0)
    assert [len(batch) for batch in first] == [16] * 5 + [10]
    assert sorted(i for batch in first for i in batch) == sorted(ids(data, "train"))
    assert epoch(0) == first != epoch(1)
    assert epoch(0, MNIST(str(tmp_path), batch_size=16, seed=1)) != first
    assert epoch(0, MNIST(str(tmp_path), batch_size=16, num_workers=1)) == first
    assert len(epoch(0, MNIST(str(tmp_path), batch_size=16, drop_last=True))) == 5
    tested = torch.cat([batch.x for batch in data.test_dataloader()])
    assert torch.equal(tested, data.take("test").x)
    again = build(data.info()["recipe"])
    assert ids(again, "val") == ids(data, "val")


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_missing_files_are_named_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\(.gz\) is not in .* set download: true"):
        MNIST(str(tmp_path)).setup()
    (plant(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="t10k-labels"):
        MNIST(str(tmp_path)).prepare_data()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file: it begins with nothing"),
        (b"<html>", "is not an IDX file: it begins with 3c 68 74 6d"),
        (idx(np.zeros(5, np.uint8)), "has 1 axes where 3 were expected"),
        (idx(np.zeros((2, 28, 28), np.uint8))[:-1], "announces 1568 bytes .* only 1567"),
        (idx(np.zeros((2, 28, 28), np.uint8)) + b"x", "announces 1568 bytes .* holds more"),
        (gzip.compress(idx(np.zeros((99, 28, 28), np.uint8)))[:-12], "is damaged"),
        (b"\0\0\x0d\3" + struct.pack(">3I", 1, 28, 28) + b"\0" * 3136, "values of type 0x0d"),
        (b"\0\0\x08\3" + struct.pack(">3I", 60000, 2800, 2800), "announces 470400000000 bytes"),
    ],
    ids=["empty", "a page", "labels", "short", "long", "cut gzip", "floats", "a claim"],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    file = tmp_path / "images"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(file, 3)
    assert str(file) in str(caught.value)


def test_images_and_labels_that_do_not_belong_together(tmp_path):
    plant(tmp_path, train=40)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(39, np.uint8))))
    with pytest.raises(DataError, match="39 labels"):
        MNIST(str(tmp_path)).setup()
    data = MNIST(str(plant(tmp_path)))
    with pytest.raises(DataError, match="no split 'dev' in these data; there is train, val, test"):
        data.take("dev")


def test_a_class_without_an_image_in_a_split_is_named(tmp_path):
    plant(tmp_path)
    with pytest.raises(DataError, match=r"no image of class 3, 7 in its val split: leave it out of classes, or"):
        MNIST(str(tmp_path), classes=["3", "7"], validation=0.01).setup()
    digit = arrays(30)[1]
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.where(digit == 7, 1, digit))))
    with pytest.raises(DataError, match=rf"{tmp_path} has no image of class 7 in its test split"):
        MNIST(str(tmp_path), classes=["3", "7"]).setup()
    assert len(MNIST(str(tmp_path), classes=["3", "1"]).split("test")) == 9
    with pytest.raises(DataError, match=r"validation 0\.01 of 100 images in .* is none: raise it, or give 0"):
        MNIST(str(tmp_path), validation=0.01).setup()
    assert len(MNIST(str(tmp_path)).split("test")) == 30  # nobody asked for sevens


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["10"]}, "classes is"),
        ({"classes": []}, "classes is"),
        ({"classes": ["3", "3"]}, "different digits"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"split_seed": -1}, "split_seed is -1"),
        ({"validation": 1.0}, "validation is 1.0"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        MNIST(**arguments)


# ── download ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A mirror on this machine: its address and its folder."""
    folder = plant(tmp_path / "mirror")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()


@pytest.fixture
def known(server, monkeypatch):
    """Makes the mirror's files the ones that are expected."""
    for name in room.MD5:
        content = (server[1] / f"{name}.gz").read_bytes()
        monkeypatch.setitem(room.MD5, name, hashlib.md5(content).hexdigest())


def test_download_fills_torchvisions_layout_and_happens_once(server, known, tmp_path):
    url, folder = server
    data = MNIST(str(tmp_path / "here"), download=True, urls=[f"{url}/nothing", url])
    data.prepare_data()
    assert sorted(p.name for p in (tmp_path / "here/MNIST/raw").iterdir()) == sorted(f"{n}.gz" for n in room.MD5)
    assert len(ids(data, "test")) == 30
    for file in folder.iterdir():
        file.unlink()
    data.prepare_data()


def test_a_mirror_with_other_bytes_leaves_nothing(server, tmp_path):
    url, _ = server
    data = MNIST(str(tmp_path / "here"), download=True, urls=[url])
    with pytest.raises(DataError, match=r"no mirror gave train-images.*md5 is"):
        data.prepare_data()
    assert not list((tmp_path / "here").rglob("*ubyte*"))


def test_the_sums_are_those_of_the_real_files(real_data):
    for name, md5 in room.MD5.items():
        assert hashlib.md5((real_data / "mnist" / f"{name}.gz").read_bytes()).hexdigest() == md5
    data = MNIST(str(real_data))
    assert [len(data.split(s).digit) for s in ("train", "val", "test")] == [54000, 6000, 10000]
    assert data.take("train").label.bincount().sum() == 54000
    assert data.take("test", 4, seed=0).x.max() == 1.0
