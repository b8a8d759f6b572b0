"""evaluate and compare for images: FID and KID beside the training images', and what is of clouds alone."""

import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import pcgen
from pcgen.metrics import Scores, draw, extractor
from pcgen.metrics.store import Store


def fid(x, y):
    x, y = (np.asarray(extractor("cnn-mnist-v1")(t), np.float64) for t in (x, y))
    a, b = np.cov(x.T), np.cov(y.T)
    return (
        ((x.mean(0) - y.mean(0)) ** 2).sum()
        + np.trace(a + b)
        - 2 * np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    )


def kid(x, y):
    x, y = (np.asarray(extractor("cnn-mnist-v1")(t), np.float64) for t in (x, y))
    xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return within - 2 * xy.mean()


def data(run):
    module = pcgen.datamodules.MNIST(**pcgen.load(run).data_info["recipe"]["init_args"])
    return module.take("train").x, module.take("test").x


def test_a_model_against_its_own_data_beside_the_training_images(cli, digits, tmp_path):
    result = cli("evaluate", digits, "--json", "a.json", "--png", "a.png", "--seed", 2)
    assert result.status == 0, result.err
    assert "FID(cnn-mnist-v1)" in result.out
    assert "oracle" in result.out
    assert "from no more images than the 128 features" in " ".join(result.out.split())
    for word in ("MMD", "COV", "JSD", "outside ball"):
        assert word not in result.out
    train, test = data(digits)
    generated = draw(pcgen.load(digits), 30, seed=2).clamp(0, 1)
    oracle = train[np.random.default_rng(2).permutation(len(train))[:30]]
    scores = Scores.load(tmp_path / "a.json")
    for values, x in ((scores.values, generated), (scores.oracle, oracle)):
        assert values == {
            "fid": pytest.approx(fid(x, test), rel=1e-4),  # singular: the tolerance is of this root
            "kid": pytest.approx(kid(x, test), rel=1e-6),
        }
    protocol = scores.protocol
    assert (protocol.data, protocol.split) == ("MNIST (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)", "test")
    assert (protocol.num_generated, protocol.num_reference, protocol.image_shape) == (30, 30, [1, 28, 28])
    assert (protocol.seed, protocol.chunk, protocol.num_points, protocol.level) == (2, 64, None, None)
    assert protocol.extractor == f"cnn-mnist-v1:{extractor('cnn-mnist-v1').identity[:12]}"
    assert "num points" not in protocol.describe()
    assert Image.open(tmp_path / "a.png").width > 8 * 28


def test_a_file_of_samples_has_the_scores_of_its_model(cli, digits, tmp_path):
    np.save(tmp_path / "test.npy", data(digits)[1])
    cli("sample", digits, "-n", 30, "--out", "a.npy")
    cli("evaluate", digits, "--json", "model.json", "--no-oracle")
    assert cli("evaluate", "a.npy", "--reference", "test.npy", "--json", "file.json").status == 0
    model, file = Scores.load(tmp_path / "model.json"), Scores.load(tmp_path / "file.json")
    assert file.values == model.values
    assert file.protocol.reference == model.protocol.reference
    assert "data" in cli("compare", "model.json", "file.json").error
    out = cli("compare", "model.json", "file.json", "--ignore", "data,split,chunk").out
    assert "FID(cnn-mnist-v1)" in out


def test_a_file_with_splits_has_an_oracle(cli, digits, tmp_path):
    train, test = data(digits)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = torch.cat([train, test]).numpy()
        file["split"] = [b"train"] * len(train) + [b"test"] * len(test)
    np.save(tmp_path / "a.npy", train[:20])
    result = cli("evaluate", "a.npy", "--reference", "x.h5", "--json", "a.json")
    assert "20 of the 30 reference images are taken, at random" in result.err
    scores = Scores.load(tmp_path / "a.json")
    order = np.random.default_rng(0).permutation(30)[:20]
    assert scores.values["kid"] == pytest.approx(kid(train[:20], test[order]), rel=1e-6)
    assert scores.oracle.keys() == scores.values.keys()
    cli("evaluate", "a.npy", "--reference", "x.h5", "--json", "b.json", "--unequal")
    assert Scores.load(tmp_path / "b.json").protocol.num_reference == 30
    assert "no oracle row" in cli("evaluate", "a.npy", "--reference", "a.npy").err


def test_a_set_against_itself_is_at_no_distance(cli, digits, tmp_path):
    np.save(tmp_path / "test.npy", data(digits)[1])
    cli("evaluate", "test.npy", "--reference", "test.npy", "--json", "a.json")
    values = Scores.load(tmp_path / "a.json").values
    assert values["fid"] == pytest.approx(0, abs=1e-3)
    assert values["kid"] < 0  # unbiased, and the cross term has the diagonal


def test_features_are_kept_and_ten_thousand_samples_are_not(cli, digits, monkeypatch):
    from pcgen.models import VAE

    asked, sample = [], VAE.sample
    monkeypatch.setattr(VAE, "sample", lambda self, n, **how: asked.append(n) or sample(self, n, **how))
    assert cli("evaluate", digits, "-n", 200, "--unequal", "--no-oracle").status == 0
    assert asked == [64, 64, 64, 8]
    assert Store().contents().files == 1  # the reference's
    assert cli("evaluate", digits, "--no-cache").status == 0
    assert Store().contents().files == 1


def test_real_digits_pass_for_digits_and_blots_do_not(cli, digits, tmp_path, real_data):
    module = pcgen.datamodules.MNIST(str(real_data / "mnist"))
    np.save(tmp_path / "real.npy", module.take("val", 300).x)
    np.save(tmp_path / "test.npy", module.take("test", 300).x)
    np.save(tmp_path / "blots.npy", data(digits)[0].repeat(4, 1, 1, 1)[:300])
    values = {}
    for name in ("real", "blots"):
        assert cli("evaluate", f"{name}.npy", "--reference", "test.npy", "--json", f"{name}.json").status == 0
        values[name] = json.loads((tmp_path / f"{name}.json").read_text())["values"]
    assert values["real"]["fid"] < values["blots"]["fid"] / 10
    assert values["real"]["kid"] < values["blots"]["kid"] / 10


BAD = {
    "a distance": ("RUN --distances cd", ["--distances", "FID"]),
    "a radius and an axis": ("RUN --radius 1 --up-axis z", ["--radius and --up-axis are of clouds"]),
    "intervals": ("RUN --draws 10", ["--draws is of clouds"]),
    "a distance of a file": ("test.npy --reference test.npy --distances cd", ["test.npy holds images"]),
    "no network": ("RUN --extractor none", ["--extractor none"]),
    "a network of clouds": ("RUN --extractor pointnet-modelnet10-v1", ["takes clouds"]),
    "an unknown network": ("RUN --extractor vgg", ["vgg", "cnn-mnist-v1"]),
    "no reference": ("test.npy", ["test.npy", "--reference"]),
    "images of another size": ("small.npy --reference small.npy", ["(1, 8, 8)", "(1, 28, 28)", "pcgen export"]),
    "a reference of another size": ("RUN --reference small.npy", ["small.npy", "(2, 1, 8, 8)"]),
    "generated ones of another size": ("small.npy --reference test.npy", ["test.npy", "(K, 1, 8, 8)"]),
    "a model of images of another size": ("DOTS", ["(1, 16, 16)", "(1, 28, 28)", "pcgen export"]),
    "no such file": ("no.npy --reference test.npy", ["no.npy"]),
    "a single image": ("RUN -n 1", ["at least 2 images"]),
    "more than there are": ("RUN -n 31", ["-n 31", "30 images"]),
    "clouds for a reference": ("RUN --reference clouds.npy", ["clouds.npy", "(10, 32, 3)"]),
    "images against clouds": ("test.npy --reference clouds.npy", ["clouds.npy", "(10, 32, 3)"]),
    "a number and all of them": ("test.npy --reference test.npy -n 3 --unequal", ["contradict"]),
}


@pytest.mark.parametrize(("line", "parts"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(cli, digits, dots, clouds, tmp_path, line, parts):
    np.save(tmp_path / "test.npy", data(digits)[1])
    np.save(tmp_path / "small.npy", np.full((2, 1, 8, 8), 0.5, np.float32))
    words = [{"RUN": digits, "DOTS": dots}.get(word, word) for word in line.split()]
    error = cli("evaluate", *words, "--json", "a.json", "--no-cache").error
    assert [part for part in parts if part not in error] == []
    assert not (tmp_path / "a.json").exists()
