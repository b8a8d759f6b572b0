"""Models of images through sample, reconstruct, interpolate and predict, and the files that images are in."""

import re

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import pcgen
from pcgen.cli.images import holds_images, read_images
from pcgen.metrics import draw


def test_samples_are_the_models_in_any_file(cli, digits, tmp_path):
    expected = draw(pcgen.load(digits), 70, seed=3).numpy()  # two chunks
    for suffix in (".npy", ".npz", ".h5"):
        result = cli("sample", digits, "-n", 70, "--seed", 3, "--out", f"a{suffix}")
        assert result.err == f"70 images of 28 × 28 pixels: a{suffix}\n"
        cli("sample", digits, "-n", 70, "--seed", 3, "--out", f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
        found = read_images(tmp_path / f"a{suffix}", (1, 28, 28)).images
        np.testing.assert_array_equal(found, expected)
        assert found.flags.writeable
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["images"], expected)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["images"][()], expected)


def test_a_grid_of_samples(cli, digits, tmp_path):
    assert cli("sample", digits, "-n", 5, "--png", "a.png").status == 0
    assert cli("sample", digits, "-n", 5, "--png", "b.png", "--out", "b.npy").status == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").width > 5 * 28


def test_samples_are_drawn_and_written_in_chunks(cli, digits, monkeypatch):
    from pcgen.models import VAE

    asked, sample = [], VAE.sample
    monkeypatch.setattr(VAE, "sample", lambda self, n, **how: asked.append(n) or sample(self, n, **how))
    cli("sample", digits, "-n", 150, "--out", "a.npy")
    assert asked == [64, 64, 22]
    asked.clear()
    cli("sample", digits, "-n", 100_000, "--png", "a.png")  # draws no more than it shows
    assert asked == [64]


def test_what_lies_beyond_an_image_is_cut_and_what_is_no_number_refused(cli, digits, monkeypatch, tmp_path):
    from pcgen.models import VAE

    values = torch.tensor([-0.5, 0.25, 1.5]).view(3, 1, 1, 1).expand(3, 1, 28, 28)
    monkeypatch.setattr(VAE, "sample", lambda self, n, **_: values)
    cli("sample", digits, "-n", 3, "--out", "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy")[:, 0, 0, 0], [0, 0.25, 1])
    monkeypatch.setattr(VAE, "sample", lambda self, n, **_: values * torch.nan)
    for suffix in (".npy", ".npz", ".h5"):
        assert "NaN" in cli("sample", digits, "-n", 3, "--out", f"b{suffix}").error
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_reconstructions_of_the_training_datas_test_split(cli, digits, tmp_path):
    result = cli("reconstruct", digits, "--out", "r.h5", "--png", "r.png")
    model = pcgen.load(digits)
    x = pcgen.datamodules.MNIST(**model.data_info["recipe"]["init_args"]).take("test").x
    y = read_images(tmp_path / "r.h5")
    np.testing.assert_allclose(y.images, model.reconstruct(x), rtol=1e-5, atol=1e-6)
    assert y.name[:2] == ("test_00000", "test_00001")
    told = float(re.search(r"mean squared error of 30 images, over their pixels: ([\d.e+-]+)", result.err)[1])
    assert told == pytest.approx(np.mean((x.numpy() - y.images).astype(np.float64) ** 2), rel=1e-4)


def pngs(folder, pixels):
    folder.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.png")


@pytest.mark.parametrize("kind", ["bytes.npy", "flat.npy", "x.npz", "x.h5", "folder"])
def test_images_of_any_origin(cli, digits, tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    x = pixels[:, None].astype(np.float32) / 255
    np.save(tmp_path / "bytes.npy", pixels[:, None])
    np.save(tmp_path / "flat.npy", x[:, 0])
    np.savez_compressed(tmp_path / "x.npz", images=x.astype(np.float64))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", data=pixels[:, None], compression="gzip")
    pngs(tmp_path / "folder", pixels)
    assert cli("reconstruct", digits, kind, "-n", 4, "--out", "r.npy").status == 0
    expected = pcgen.load(digits).reconstruct(torch.from_numpy(x[:4]))
    np.testing.assert_allclose(np.load(tmp_path / "r.npy"), expected, rtol=1e-5, atol=1e-6)
    pngs(tmp_path / "one", pixels[:1])
    assert cli("reconstruct", digits, "one/0.png", "--out", "one.npy").status == 0
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), expected[:1], rtol=1e-5, atol=1e-6)


def test_pictures_beside_clouds_make_no_images(cli, trained, clouds, tmp_path):
    pngs(tmp_path / "folder", np.zeros((2, 8, 8), np.uint8))
    assert holds_images(tmp_path / "folder")
    np.save(tmp_path / "folder" / "a.npy", np.load(clouds)[0])
    assert not holds_images(tmp_path / "folder")


def test_colours_are_read_as_red_green_and_blue(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    pngs(tmp_path / "folder", pixels)
    for shape in (None, (3, 5, 7)):
        found = read_images(tmp_path / "folder", shape)
        np.testing.assert_allclose(found.images, pixels.transpose(0, 3, 1, 2) / 255, atol=1e-7)
        assert found.name == ("0", "1")


def test_split_and_classes_of_a_file_of_images(cli, digits, tmp_path):
    x = np.random.default_rng(0).random((6, 1, 28, 28), dtype=np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = x
        file["label"] = [0, 1, 0, 1, 0, 1]
        file["split"] = [b"train"] * 2 + [b"test"] * 4
        file["class_names"] = [b"cat", b"dog"]
        file["name"] = [f"pet_{i}".encode() for i in range(6)]
    model = pcgen.load(digits)
    for words, rows in (([], [2, 3, 4, 5]), (["--classes", "dog"], [3, 5]), (["--split", "train"], [0, 1])):
        assert cli("reconstruct", digits, "x.h5", "--out", "r.h5", *words).status == 0
        assert read_images(tmp_path / "r.h5").name == tuple(f"pet_{i}" for i in rows)
        found = read_images(tmp_path / "r.h5").images
        np.testing.assert_allclose(found, model.reconstruct(torch.from_numpy(x[rows])), rtol=1e-5, atol=1e-6)
    error = cli("reconstruct", digits, "x.h5", "--out", "r.h5", "--classes", "cow").error
    assert error == "x.h5: there is no class 'cow'; there are cat, dog"


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_walk_between_two_images(cli, digits, tmp_path, path):
    words = ["--from", 2, "--to", "test_00007", "--steps", 5, "--path", path, "--out", "w.npy", "--png", "w.png"]
    assert cli("interpolate", digits, *words).status == 0
    model = pcgen.load(digits)
    x = pcgen.datamodules.MNIST(**model.data_info["recipe"]["init_args"]).take("test").x
    walk = model.interpolate(x[2], x[7], 5, path=path)
    np.testing.assert_allclose(np.load(tmp_path / "w.npy"), walk, rtol=1e-5, atol=1e-6)


def test_a_walk_of_clouds_on_a_great_circle(cli, trained, clouds, tmp_path):
    x = torch.from_numpy(np.load(clouds))
    model = pcgen.load(trained)
    for path in ("linear", "spherical"):
        assert cli("interpolate", trained, clouds, "--path", path, "--out", f"{path}.npy").status == 0
        walk = model.interpolate(x[0], x[1], 8, path=path)
        np.testing.assert_allclose(np.load(tmp_path / f"{path}.npy"), walk, rtol=1e-5, atol=1e-6)
        words = ["--from", 3, "--to", 3, "--path", path, "--png", f"{path}.png"]
        assert cli("interpolate", trained, clouds, *words).status == 0
    straight, great = ((tmp_path / f"{path}.png").read_bytes() for path in ("linear", "spherical"))
    assert straight != great  # one and the same cloud all the way: the words above say how
    assert not np.array_equal(np.load(tmp_path / "linear.npy"), np.load(tmp_path / "spherical.npy"))


def test_predictions_are_images(cli, digits, tmp_path):
    words = ["--config", digits / "config.yaml", "--ckpt_path", digits / "checkpoints" / "last.ckpt"]
    assert cli("predict", *words).status == 0
    (written,) = tmp_path.rglob("predictions.h5")
    model = pcgen.load(digits)
    x = pcgen.datamodules.MNIST(**model.data_info["recipe"]["init_args"]).take("test").x
    np.testing.assert_allclose(read_images(written).images, model.reconstruct(x), rtol=1e-4, atol=1e-5)


BAD = {
    "images as points": ("sample RUN --out a.ply", ["a.ply", ".npy"]),
    "a picture of the wrong size": ("reconstruct RUN small.npy --out a.npy", ["small.npy", "(2, 1, 8, 8)", "28, 28"]),
    "clouds": ("reconstruct RUN clouds.npy --out a.npy", ["clouds.npy", "(10, 32, 3)"]),
    "images for a model of clouds": ("reconstruct CLOUDS small.npy --out a.npy", ["small.npy", "(2, 1, 8, 8)"]),
    "numbers beyond an image": ("reconstruct RUN bright.npy --out a.npy", ["bright.npy", "0 to 255", "[0, 1]"]),
    "no images": ("reconstruct RUN none.npy --out a.npy", ["none.npy holds no images", "(0, 1, 28, 28)"]),
    "NaN": ("reconstruct RUN nan.npy --out a.npy", ["nan.npy", "images hold NaN"]),
    "no array of images": ("reconstruct RUN other.npz --out a.npy", ["other.npz", "images", "y"]),
    "a file cut short": ("reconstruct RUN short.npy --out a.npy", ["short.npy"]),
    "no numbers": ("reconstruct RUN words.npy --out a.npy", ["words.npy", "<U3"]),
    "another kind of file": ("reconstruct RUN a.txt --out a.npy", ["a.txt", ".png"]),
    "a PNG that is none": ("reconstruct RUN bad.png --out a.npy", ["bad.png"]),
    "a PNG of another size": ("reconstruct RUN small.png --out a.npy", ["small.png", "9 × 8"]),
    "a folder without images": ("reconstruct RUN empty --out a.npy", ["empty", ".png"]),
    "labels of other images": ("reconstruct RUN label.npz --out a.npy", ["label.npz", "2 images", "3 entries"]),
    "a split that is not there": ("reconstruct RUN good.npy --split val --out a.npy", ["good.npy", "not split"]),
    "a normalisation": ("reconstruct RUN good.npy --normalize ball --out a.npy", ["--normalize", "images"]),
    "an unknown path": ("interpolate RUN --path round --out a.npy", ["'round'", "linear"]),
    "no such file": ("reconstruct RUN no.npy --out a.npy", ["no.npy"]),
}


@pytest.mark.parametrize(("line", "parts"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(cli, trained, digits, clouds, tmp_path, line, parts):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("no image")
    (tmp_path / "bad.png").write_text("no image")
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "small.png")
    good = np.full((2, 1, 28, 28), 0.5, np.float32)
    np.save(tmp_path / "good.npy", good)
    np.save(tmp_path / "small.npy", good[:, :, :8, :8])
    np.save(tmp_path / "bright.npy", np.arange(2 * 784).reshape(2, 1, 28, 28) % 256)
    np.save(tmp_path / "nan.npy", good * np.nan)
    np.save(tmp_path / "none.npy", good[:0])
    np.save(tmp_path / "words.npy", np.full((2, 1, 28, 28), "one"))
    np.savez(tmp_path / "other.npz", y=good, z=good)
    np.savez(tmp_path / "label.npz", images=good, label=[0, 1, 2])
    (tmp_path / "short.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:1000])
    before = sorted(tmp_path.rglob("*"))
    places = {"RUN": digits, "CLOUDS": trained}
    error = cli(*[places.get(word, word) for word in line.split()]).error
    assert [part for part in parts if part not in error] == []
    assert sorted(tmp_path.rglob("*")) == before
