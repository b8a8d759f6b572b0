"""pcgen probe on checkpoints of models as small as can be, of clouds and of images."""

import json

import h5py
import numpy as np
import pytest
from PIL import Image

import pcgen
from pcgen.datamodules import Shapes
from pcgen.metrics.model_features import features_of, takes_any_number
from pcgen.metrics.probe import linear_probe
from pcgen.metrics.published import MODELNET10

from .conftest import CONFIG, fit

JUDGE = (
    CONFIG.split("model:")[0].replace("tiny", "judge")
    + """\
model:
  class_path: PointNetClassifier
  init_args:
    encoder: {class_path: PointNetEncoder, init_args: {widths: [8, 16], head_widths: [12]}}
    num_classes: 2
data:
  class_path: Shapes
  init_args: {num_points: 24, train_size: 24, val_size: 8, test_size: 8, batch_size: 8, classes: [table, chair]}
trainer: {accelerator: cpu, max_epochs: 1, log_every_n_steps: 1, enable_model_summary: false}
"""
)
FIXED = (
    CONFIG.split("trainer:")[0]
    .replace("tiny", "fixed")
    .replace("PointNetEncoder, init_args: {widths: [8, 16]}", "MLPEncoder, init_args: {num_points: 32, widths: [16]}")
    + JUDGE[JUDGE.index("trainer:") :]
)
QUICK = ["--kept", "1,.5", "--outliers", "0,.25", "--jitter", "0,.01"]


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """The folder of a classifier's run: clouds of fewer points, the same classes in another order."""
    return fit(tmp_path_factory.mktemp("judge"), JUDGE)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Clouds of chairs, tables and lamps in a file with two splits."""
    return _write(tmp_path_factory.mktemp("source") / "three.h5", ["chair", "lamp", "table"])


def _write(path, names, *, splits=("train", "test"), label=None):
    data = Shapes(num_points=40, train_size=60, val_size=3, test_size=30, classes=["chair", "lamp", "table"])
    parts = [data.take(split) for split in splits]
    with h5py.File(path, "w") as file:
        file["points"] = np.concatenate([part.x.numpy() for part in parts])
        file["split"] = np.concatenate(
            [np.full(len(part.x), split, "S5") for part, split in zip(parts, splits, strict=True)]
        )
        if names:
            labels = np.concatenate([part.label.numpy() for part in parts])
            file["label"] = labels if label is None else label(labels)
            file["class_names"] = [name.encode() for name in names]
    return path


def test_a_probe_is_that_of_the_models_own_clouds(cli, trained, judge, source, tmp_path):
    words = [f"vae={trained}", f"judge={judge}", "--data", source, "--json", "r.json", "--png", "r.png", *QUICK]
    result = cli(
        "probe", *words, "--confusion", "c.png", "--classes", "table,chair", "--costs", "0.001,.1", "--folds", 4
    )
    assert result.status == 0, result.err
    assert result.err.endswith("numbers: r.json\npicture: r.png\nconfusion: c.png\n")
    content = json.loads((tmp_path / "r.json").read_text())
    assert list(content["rows"]) == ["vae", "judge, own head", "judge"]
    protocol = content["protocol"]
    assert (protocol["class_names"], protocol["folds"], protocol["costs"]) == (["table", "chair"], 4, [0.001, 0.1])
    assert (protocol["train_split"], protocol["split"]) == ("train", "test")
    rows = content["rows"]
    assert [row["num_points"] for row in rows.values()] == [32, 24, 24]
    assert [row["features"] for row in rows.values()] == ["encode", "own head", "features"]
    assert (rows["vae"]["num_features"], rows["judge"]["num_features"]) == (4, 12)
    assert content["published"] == []
    assert any("cross-validation on the training split" in line for line in content["deviations_from_published"])
    assert any("outliers are points of the cloud" in line for line in content["deviations_from_published"])
    for row in rows.values():
        assert np.sum(row["confusion"]) == protocol["num_test"]
        assert np.trace(row["confusion"]) / protocol["num_test"] == pytest.approx(row["accuracy"])
        for curve in ("kept", "outliers", "jitter"):
            assert row["robustness"][curve][0]["accuracy"] == pytest.approx(row["accuracy"])
        assert f"{100 * row['accuracy']:.1f}" in result.out
    assert Image.open(tmp_path / "r.png").width > 1000
    assert Image.open(tmp_path / "c.png").width > 3 * 300


def test_numbers_are_those_of_the_functions(cli, judge, tmp_path):
    """Without --data a checkpoint's own datamodule gives the data."""
    result = cli("probe", judge, "--json", "-", "--no-robustness", "--folds", 3)
    assert result.status == 0, result.err
    content = json.loads(result.out)
    own, row = content["rows"].values()
    model = pcgen.load(judge)
    data = Shapes(**model.data_info["recipe"]["init_args"])
    train, test = data.take("train"), data.take("test")
    found = linear_probe(
        features_of(model, train.x), train.label, features_of(model, test.x), test.label, folds=3,
        class_names=["table", "chair"],
    )  # fmt: skip
    expected = found.to_plain()
    assert {name: row[name] for name in expected} == expected
    assert own["accuracy"] == (model.classify(test.x).argmax(1) == test.label).float().mean().item()
    assert row["robustness"] is own["robustness"] is None
    assert not any("outliers" in line for line in content["deviations_from_published"])


def test_all_classes_of_the_data_take_part_and_a_head_of_others_has_no_row(cli, judge, source):
    result = cli("probe", judge, "--data", source, "--no-robustness", "--json", "-", "-n", 25)
    assert result.status == 0, result.err
    content = json.loads(result.out)
    assert content["protocol"]["class_names"] == ["chair", "lamp", "table"]
    assert (content["protocol"]["num_train"], content["protocol"]["num_test"]) == (25, 25)
    assert len(content["rows"]) == 1
    assert (
        "no row for its own predictions: it was trained on the classes table, chair, the data have others" in result.err
    )


def test_published_accuracies_stand_below_modelnet10(cli, trained, tmp_path):
    names = ["bathtub", "bed", *MODELNET10[2:]]
    path = _write(tmp_path / "ten.h5", names, label=lambda labels: np.arange(len(labels)) % 10)
    result = cli("probe", f"vae={trained}", "--data", path, "--no-robustness", "--json", "r.json")
    assert result.status == 0, result.err
    assert "Generative PointNet" in result.out
    assert "93.7" in result.out
    published = json.loads((tmp_path / "r.json").read_text())["published"]
    assert {"FoldingNet", "3D-GAN"} <= {one["method"] for one in published}


def test_a_model_of_one_number_of_points_keeps_it(cli, source, tmp_path):
    folder = fit(tmp_path, FIXED)
    result = cli("probe", folder, "--data", source, "--json", "r.json", *QUICK)
    assert result.status == 0, result.err
    (row,) = json.loads((tmp_path / "r.json").read_text())["rows"].values()
    assert row["robustness"]["same_number"]
    assert "the model takes clouds of 32 points alone" in " ".join(result.out.split())
    assert takes_any_number(pcgen.load(folder), Shapes(num_points=32).take("test", 2).x) is False


def test_images_are_probed_whole(cli, digits, tmp_path):
    result = cli("probe", digits, "--json", "r.json", "--png", "r.png", "--folds", 2)
    assert result.status == 0, result.err
    (row,) = json.loads((tmp_path / "r.json").read_text())["rows"].values()
    assert (row["num_points"], row["features"], row["robustness"]) == (None, "encode", None)
    assert "no curves of damage: they are for clouds, and these are images" in row["remarks"]
    assert "no picture of damage: it is for clouds" in result.err
    assert not (tmp_path / "r.png").exists()


def test_the_same_seed_gives_the_same(cli, trained, source, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        words = ["--data", source, "-n", 40, "--seed", seed, "--json", f"{name}.json", "--jitter", "0,.5"]
        assert cli("probe", f"vae={trained}", *words).status == 0
    a, b, c = ((tmp_path / f"{name}.json").read_text() for name in "abc")
    assert a == b
    assert json.loads(a)["rows"] != json.loads(c)["rows"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--folds", "1"], "--folds 1: cross-validation wants at least 2"),
        (["-n", "1"], "-n 1: a probe tells at least two data apart"),
        (["--costs", "a"], "--costs a: give numbers"),
        (["--costs", "0.1,0"], "--costs: each C is above 0"),
        (["--kept", "0,1"], "kept is [0.0, 1.0]; give shares above 0"),
        (["--outlier-std", "0"], "--outlier-std 0.0"),
        (["--png", "a.jpg"], "the picture's name must end in .png"),
        (["--no-robustness", "--png", "a.png"], "--png draws the accuracies on damaged clouds, which --no-robustness"),
        (["--seed", "-1"], "--seed -1"),
        (["--split", "train"], "a probe is fitted to a training split and tested on another"),
        (["--classes", "chair"], "all training data are of class chair; a probe tells at least two classes apart"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(cli, trained, source, tmp_path, words, says):
    assert says in cli("probe", trained, "--data", source, *words, "--json", "r.json").error
    assert not (tmp_path / "r.json").exists()


def test_data_without_labels_or_splits_are_refused(cli, trained, clouds, tmp_path):
    assert "give data with splits" in cli("probe", trained, "--data", clouds).error
    path = _write(tmp_path / "bare.h5", [])
    assert "has no labels, and a probe tells classes apart" in cli("probe", trained, "--data", path).error


def test_models_of_different_data_want_the_data_named(cli, trained, judge):
    assert "judge was trained on other data than the first" in cli("probe", f"vae={trained}", f"judge={judge}").error


def test_a_model_without_features_is_refused(cli, trained, monkeypatch):
    from pcgen.models import VAE

    monkeypatch.setattr(VAE, "can", classmethod(lambda cls, name: False))
    assert "VAE has no features; models that can: " in cli("probe", trained).error
