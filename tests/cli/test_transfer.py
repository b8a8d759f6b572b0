"""`pcgen transfer` with tiny deforming autoencoders: its numbers against the truth of the data, and its errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pcgen.base import GenerativeModel
from pcgen.datamodules import Patterns, Shapes
from pcgen.models import DeformingAutoencoder

from .conftest import fit

PATTERNS = """\
name: patterns
model:
  class_path: DeformingAutoencoder
  init_args:
    encoder: {class_path: ResNetEncoder, init_args: {image_shape: [3, 16, 16], channels: [4, 8]}}
    template:
      class_path: DecodedTemplate
      init_args:
        decoder: {class_path: ResNetDecoder, init_args: {latent_dim: 2, image_shape: [3, 16, 16], channels: [8, 4]}}
    deformation:
      class_path: GridDeformation
      init_args:
        decoder: {class_path: ResNetDecoder, init_args: {latent_dim: 4, image_shape: [2, 16, 16], channels: [8, 4]}}
data:
  class_path: Patterns
  init_args: {image_size: 16, train_size: 60, val_size: 10, test_size: 12, batch_size: 10}
trainer: {accelerator: cpu, max_epochs: 3, log_every_n_steps: 1, enable_model_summary: false}
"""


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("patterns"), PATTERNS)


@pytest.fixture
def shapes(learned):
    return learned


def ready(datamodule):
    datamodule.setup("test")
    return datamodule


def emblems():
    return ready(Patterns(image_size=16, train_size=60, val_size=10, test_size=12))


def furniture():
    kinds = ["chair", "table"]
    return ready(Shapes(num_points=64, train_size=24, val_size=8, test_size=12, classes=kinds))


def pixels(found, true):
    """Mean distance in pixels of images of 16 × 16."""
    return float(np.linalg.norm((found - true) * 7.5, axis=-1).mean())


# ── images ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_errors_are_distances_to_the_true_landmarks_beside_marks_left_where_they_were(cli, patterns):
    result = cli("transfer", patterns, "--labelled", 4, "--json", "-", "--out", "found.npz", "--png", "picture.png")
    assert result.status == 0, result.err
    scores, found = json.loads(result.out), np.load("found.npz")
    known = emblems()
    true, marked = (known.truth(*of)["landmarks"].numpy() for of in (("test",), ("train", 4)))
    assert found["landmarks"].shape == true.shape
    assert scores["error"]["transferred"] == pytest.approx(pixels(found["landmarks"], true), abs=1e-5)
    assert scores["error"]["identity"] == pytest.approx(pixels(marked.mean(0)[None], true), abs=1e-5)
    assert scores["num_images"] == 12
    assert scores["num_landmarks"] == true.shape[1] == len(scores["each"]["transferred"])
    assert np.mean(scores["each"]["identity"]) == pytest.approx(scores["error"]["identity"])
    assert scores["marks"] == "marked in 4 training images"
    assert Image.open("picture.png").width > 500
    assert {path.name for path in Path.cwd().iterdir()} == {"found.npz", "picture.png"}


def test_marks_of_one_image_are_found_in_all_others(cli, patterns):
    result = cli("transfer", patterns, "--source", "test_00002", "-n", 4, "--json", "scores.json", "--out", "found.npz")
    assert result.status == 0, result.err
    assert "left where they are" in result.out
    scores, found = json.loads(Path("scores.json").read_text()), np.load("found.npz")
    true = emblems().truth("test")["landmarks"].numpy()
    others = [0, 1, 3, 4]
    assert found["name"].tolist() == [f"test_{k:05d}" for k in others]
    assert scores["error"]["identity"] == pytest.approx(pixels(true[2][None], true[others]), abs=1e-5)
    assert scores["error"]["transferred"] == pytest.approx(pixels(found["landmarks"], true[others]), abs=1e-5)


def test_the_first_n_are_those_after_the_source(cli, patterns):
    result = cli("transfer", patterns, "-n", 1, "--source", 0, "--out", "found.npz")
    assert result.status == 0, result.err
    assert np.load("found.npz")["name"].tolist() == ["test_00001"]


def test_labelled_images_are_not_measured(cli, patterns):
    result = cli("transfer", patterns, "--split", "train", "--labelled", 4, "--json", "-", "--out", "found.npz")
    scores, found = json.loads(result.out), np.load("found.npz")
    true = emblems().truth("train")["landmarks"].numpy()
    assert found["name"].tolist() == [f"train_{k:05d}" for k in range(4, 60)]
    assert scores["num_images"] == 56
    assert scores["error"]["transferred"] == pytest.approx(pixels(found["landmarks"], true[4:]), abs=1e-5)
    assert scores["error"]["identity"] == pytest.approx(pixels(true[:4].mean(0)[None], true[4:]), abs=1e-5)
    assert "left out, for they are labelled: 4 of Patterns (train)" in result.err


def test_given_marks_of_the_template_lie_where_the_warp_has_them(cli, patterns):
    """Nothing but the warp decides: W at the places found is the mark."""
    from pcgen import load
    from pcgen.ops import warp_points

    result = cli("transfer", patterns, "--marks=-0.1,0.2;0.3,0", "--out", "found.npz", "--png", "picture.png")
    assert result.status == 0, result.err
    assert result.out == ""
    found = np.load("found.npz")
    marks = torch.tensor([[-0.1, 0.2], [0.3, 0.0]])
    torch.testing.assert_close(torch.from_numpy(found["template"]), marks)
    model = load(patterns)
    grid = model.decompose(model.encode(emblems().take("test").x)).deformation
    there = warp_points(grid, torch.from_numpy(found["landmarks"]))
    torch.testing.assert_close(there, marks.expand_as(there), atol=1e-4, rtol=0)


def test_a_model_that_knows_the_true_warp_makes_no_error(cli, patterns, monkeypatch):
    """The measure has no floor of its own: with the true grids the error is that of lines between pixels."""
    known = emblems()
    grids = {split: known.truth(split)["grid"] for split in ("train", "test")}
    images = {split: known.take(split).x for split in ("train", "test")}
    decompose = DeformingAutoencoder.decompose

    def encode(self, x):
        """Codes are row numbers: of the training split from 1000 on."""
        rows = []
        for image in x:
            for split, first in (("train", 1000), ("test", 0)):
                same = (images[split] == image).all((1, 2, 3)).nonzero()
                rows += [first + int(same[0])] if len(same) else []
        return torch.tensor(rows, dtype=torch.float32)[:, None].expand(-1, self.latent_dim).clone()

    def true_warp(self, z):
        rows = z[:, 0].long().tolist()
        grid = torch.stack([grids["train"][r - 1000] if r >= 1000 else grids["test"][r] for r in rows])
        return decompose(self, z)._replace(deformation=grid)

    monkeypatch.setattr(DeformingAutoencoder, "encode", encode)
    monkeypatch.setattr(DeformingAutoencoder, "decompose", true_warp)
    for words in ((), ("--source", 3)):
        scores = json.loads(cli("transfer", patterns, "--json", "-", *words).out)
        assert scores["error"]["transferred"] < 0.05
        assert scores["error"]["identity"] > 0.5


# ── clouds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_accuracies_are_shares_of_points_with_their_true_part(cli, shapes):
    result = cli("transfer", shapes, "--labelled", 6, "--json", "-", "--out", "found.npz", "--png", "picture.png")
    assert result.status == 0, result.err
    scores, found, known = json.loads(result.out), np.load("found.npz"), furniture()
    true, labels = known.truth("test")["part"].numpy(), known.truth("train", 6)["part"].numpy()
    assert scores["accuracy"]["transferred"] == pytest.approx((found["part"] == true).mean())
    assert found["votes"].shape == (48, len(known.truth_names))
    assert (found["votes"].sum(1) == 6).all()
    frequent = np.bincount(labels.ravel()).argmax()
    assert scores["accuracy"]["frequent"] == pytest.approx((true == frequent).mean())
    each = scores["each"]["transferred"]
    assert set(each) == {known.truth_names[k] for k in np.unique(true)}
    for name, share in each.items():
        of_part = true == known.truth_names.index(name)
        assert share == pytest.approx((found["part"][of_part] == true[of_part]).mean())
    assert scores["mean_over_parts"]["transferred"] == pytest.approx(np.mean(list(each.values())))
    assert scores["mean_over_parts"]["frequent"] == pytest.approx(1 / len(each))
    assert scores["accuracy"]["nearest"] > scores["accuracy"]["frequent"]
    assert Image.open("picture.png").width > 1000


def test_labelled_clouds_are_not_measured(cli, shapes):
    words = ["--split", "train", "--class", "table", "--labelled", 3, "--json", "-", "--out", "found.npz"]
    result = cli("transfer", shapes, *words)
    scores, found, known = json.loads(result.out), np.load("found.npz"), furniture()
    rows = (known.take("train").label == 1).nonzero()[3:, 0]
    true = known.truth("train")["part"][rows].numpy()
    assert found["name"].tolist() == [f"train_{k:05d}" for k in rows]
    assert scores["num_clouds"] == len(rows) == 9
    assert scores["accuracy"]["transferred"] == pytest.approx((found["part"] == true).mean())
    assert scores["accuracy"]["nearest"] < 1  # as it is of what it knows
    assert "left out, for they are labelled: 3 of Shapes (train)" in result.err


def test_one_class_is_labelled_by_its_own_clouds(cli, shapes):
    result = cli("transfer", shapes, "--class", "table", "--labelled", 3, "--json", "-", "--out", "found.npz")
    scores, found, known = json.loads(result.out), np.load("found.npz"), furniture()
    rows = known.take("test").label == 1
    true = known.truth("test")["part"][rows].numpy()
    assert scores["num_clouds"] == rows.sum() == 6
    assert scores["accuracy"]["transferred"] == pytest.approx((found["part"] == true).mean())
    first = (known.take("train").label == 1).nonzero()[:3, 0]
    parts = known.truth("train")["part"][first].unique().tolist()
    assert set(np.nonzero(found["votes"].sum(0))[0]) <= set(parts)


def test_points_of_a_file_get_parts_too(cli, shapes, clouds):
    assert "nothing to measure: give --out" in cli("transfer", shapes, clouds).error
    words = ["--out", "found.npz", "--json", "a.json"]
    assert "--json a.json: the true parts" in cli("transfer", shapes, clouds, *words).error
    assert not Path("found.npz").exists()
    result = cli("transfer", shapes, clouds, "--out", "found.npz", "--png", "picture.png")
    assert result.status == 0, result.err
    assert result.out == ""
    assert np.load("found.npz")["part"].shape == (10, 32)


def test_the_points_that_have_parts_are_written_in_the_files_units(cli, shapes, clouds):
    """Of 80 points the model, whose clouds have 64, sees 64: which ones is said."""
    points = 5 + 3 * np.random.default_rng(1).normal(size=(4, 80, 3)).astype(np.float32)
    np.save("many.npy", points)
    result = cli("transfer", shapes, "many.npy", "--normalize", "ball", "--out", "found.npz")
    assert result.status == 0, result.err
    found = np.load("found.npz")
    assert found["points"].shape == (4, 64, 3)
    assert found["part"].shape == (4, 64)
    for written, own in zip(found["points"], points, strict=True):
        away = np.abs(written[:, None] - own).max(-1)  # (64, 80)
        assert away.min(1).max() < 1e-5
        assert len(set(away.argmin(1))) == 64
    assert cli("transfer", shapes, clouds, "--out", "before.npz").status == 0
    before = np.load("before.npz")
    np.save("again.npy", before["points"][:, ::-1])
    assert cli("transfer", shapes, "again.npy", "--out", "after.npz").status == 0
    np.testing.assert_array_equal(np.load("after.npz")["part"][:, ::-1], before["part"])
    assert cli("transfer", shapes, "-n", 3, "--out", "own.npz").status == 0
    np.testing.assert_array_equal(np.load("own.npz")["points"], furniture().take("test", 3).x)


def test_a_plain_autoencoder_is_the_control(cli, completer):
    result = cli("transfer", completer, "-n", 4, "--labelled", 2)
    assert result.status == 0, result.err
    assert "parts of 4 clouds, Shapes (test), by 2 labelled training clouds" in " ".join(result.out.split())


# ── what cannot be ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--marks", "0.1"], "--marks 0.1: give places x,y"),
        (["--marks", ";"], "give places x,y"),
        (["--marks", "0.1,a"], "--marks 0.1,a: give numbers"),
        (["--marks", "0.1,1.5", "--out", "a.npz"], "0.1,1.5 lies outside"),
        (["--marks", "0.1,0.5"], "nothing to measure: give --out"),
        (["--labelled", "0"], "--labelled 0: give at least 1"),
        (["-n", "0"], "-n 0: give at least 1"),
        (["--labelled", "2", "--source", "1"], "--labelled and --source both"),
        (["--labelled", "2", "--marks", "0,0"], "--labelled and --marks both"),
        (["--source", "90"], "--source 90: Patterns has rows 0 to 11"),
        (["--marks", "0,0", "--png", "a.png", "--json", "a.json"], "--json a.json: where these marks truly lie is not"),
        (["--split", "train", "--labelled", "60"], "--labelled 60: no others are left of Patterns (train)"),
        (["--out", "a.h5"], "--out a.h5: what belongs together"),
        (["--png", "a.jpg"], "must end in .png"),
        (["--class", "chair"], "--class chair: the classes of the labelled training data are none"),
    ],
)
def test_what_cannot_be_transferred_is_refused_in_one_line(cli, patterns, words, said):
    assert said in cli("transfer", patterns, *words).error
    assert not list(Path.cwd().iterdir())


def test_images_of_a_file_are_marked_by_labelled_training_images(cli, patterns):
    np.save("images.npy", emblems().take("test", 3).x.numpy())
    assert "nothing to measure: give --out" in cli("transfer", patterns, "images.npy").error
    words = ["--labelled", 5, "--out", "found.npz"]
    assert "--json a.json: where" in cli("transfer", patterns, "images.npy", *words, "--json", "a.json").error
    assert {path.name for path in Path.cwd().iterdir()} == {"images.npy"}
    result = cli("transfer", patterns, "images.npy", *words, "--png", "a.png")
    assert result.status == 0, result.err
    found = np.load("found.npz")
    assert cli("transfer", patterns, "-n", 3, *words).status == 0
    np.testing.assert_allclose(found["landmarks"], np.load("found.npz")["landmarks"], atol=1e-6)
    np.save("one.npy", emblems().take("test", 1).x.numpy())
    words = ["--source", 0, "--marks", "0,0", "--out", "b.npz"]
    assert "--source 0: no others are left of one.npy" in cli("transfer", patterns, "one.npy", *words).error


def test_images_of_which_nobody_knows_landmarks_need_marks(cli, patterns, monkeypatch):
    np.save("images.npy", emblems().take("test", 3).x.numpy())
    truth = Patterns.truth
    monkeypatch.setattr(Patterns, "truth", lambda *of: {k: v for k, v in truth(*of).items() if k != "landmarks"})
    assert (
        'no landmarks are known of images.npy, nor of the training data: mark some in the template, --marks "'
        in cli("transfer", patterns, "images.npy").error
    )
    assert "name them, --marks" in cli("transfer", patterns, "images.npy", "--source", "1").error
    result = cli("transfer", patterns, "images.npy", "--source", 1, "--marks", "0.2,0.3", "--png", "a.png")
    assert result.status == 0, result.err


def test_models_and_data_that_cannot_say_so(cli, shapes, dots, monkeypatch):
    assert "--marks is for images" in cli("transfer", shapes, "--marks", "0,0").error
    assert "--source is for images" in cli("transfer", shapes, "--source", "1").error
    assert "VAE cannot decompose; models that can: " in cli("transfer", dots).error
    monkeypatch.setattr(Shapes, "truth_names", ())
    assert "Shapes, which this model was trained on, does not know the parts" in cli("transfer", shapes).error
    monkeypatch.setattr(DeformingAutoencoder, "decode", GenerativeModel.decode)
    assert "cannot decode" in cli("transfer", shapes).error
