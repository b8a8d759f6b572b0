"""Foreign classes out of the source of the training data, normalised as these."""

import h5py
import numpy as np
import pytest
import torch

from pcgen.datamodules import MNIST, Dots, PointClouds, Shapes
from pcgen.errors import ConfigurationError
from pcgen.metrics import foreign_data

CLASSES = ("bed", "chair", "lamp")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Sixty clouds of three classes, each at a place and of a size of its own; lamps are all for training."""
    path, rng = tmp_path_factory.mktemp("foreign") / "clouds.h5", np.random.default_rng(0)
    label = np.arange(60) % 3
    test = (np.arange(60) % 10 < 3) & (label < 2)
    with h5py.File(path, "w") as handle:
        handle["points"] = (rng.normal(size=(60, 40, 3)) * (1 + label)[:, None, None] + label[:, None, None]).astype(
            "f4"
        )
        handle["label"], handle["split"] = label, np.where(test, "test", "train").astype("S5")
        handle["name"] = [f"{CLASSES[k]}_{i:04d}".encode() for i, k in enumerate(label)]
        handle["class_names"] = [name.encode() for name in CLASSES]
    return path


def raw(file, name):
    with h5py.File(file) as handle:
        return handle["points"][[n.decode() for n in handle["name"]].index(name)]


def info(**arguments):
    datamodule = PointClouds(**arguments)
    datamodule.setup()
    return datamodule.info()


@pytest.mark.parametrize("scope", ["set", "shape", "none"])
def test_clouds_are_normalised_by_the_training_datas_statistics(file, scope):
    chairs = PointClouds(str(file), classes=["chair"], scope=scope, region="box", radius=0.5)
    train = chairs.take("train").x
    found = foreign_data(chairs.info(), ["bed"], "test")["bed"]
    assert len(found.x) == 6
    center, scale = (offsets[0] for offsets in chairs.offsets("train"))
    for x, name in zip(found.x.numpy(), found.name, strict=True):
        points = raw(file, name).astype(np.float64)
        if scope == "shape":
            low, high = points.min(0), points.max(0)
            center, scale = (low + high) / 2, (high - low).max() / 2 / 0.5
        np.testing.assert_allclose(x, (points - center) / scale, rtol=1e-4, atol=1e-5)
    assert torch.equal(train, chairs.take("train").x)


def test_names_and_rows_lead_back_to_the_data(file):
    found = foreign_data(info(path=str(file), classes=["lamp"], scope="none"), ["chair", "bed"], "train", 5, seed=3)
    assert list(found) == ["chair", "bed"]
    for name, data in found.items():
        alone = PointClouds(str(file), classes=[name], scope="none")
        assert len(data.x) == len(set(data.row)) == 5
        assert torch.equal(data.x, alone.take("train").x[list(data.row)])
        assert data.name == tuple(alone.split("train").name[i] for i in data.row)
        np.testing.assert_array_equal(data.x[0], raw(file, data.name[0]))


def test_the_seed_chooses(file):
    known = info(path=str(file), classes=["chair"])
    rows = [foreign_data(known, ["bed"], "train", 5, seed=seed)["bed"].row for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_all_are_all_others(file):
    chairs = info(path=str(file), classes=["chair"])
    assert list(foreign_data(chairs, None, "train", 1)) == ["bed", "lamp"]
    shapes = Shapes(num_points=16, classes=["lamp", "chair"], train_size=8, val_size=6, test_size=1)
    found = foreign_data(shapes.info(), None, "val", 1)
    assert list(found) == ["bed", "desk", "shelf", "sofa", "stool", "table"]
    assert all(data.x.shape == (1, 16, 3) for data in found.values())


def test_digits(real_data):
    eights = MNIST(str(real_data), classes=["8"])
    found = foreign_data(eights.info(), None, "val", 7)
    assert "".join(found) == "012345679"
    alone = MNIST(str(real_data), classes=["5"]).take("val").x
    assert torch.equal(found["5"].x, alone[list(found["5"].row)])
    assert found["5"].name[0] == f"val_{found['5'].row[0]:05d}"


def refused(known, classes, split="train"):
    with pytest.raises(ConfigurationError) as error:
        foreign_data(known, classes, split)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_what_is_not_there_is_refused(file, tmp_path):
    chairs = info(path=str(file), classes=["chair"])
    assert "no class 'sofa'; there are bed, chair, lamp" in refused(chairs, ["bed", "sofa"])
    assert "chair is not foreign: trained on are chair" in refused(chairs, ["bed", "chair"])
    assert "there is no lamp in the split 'test'" in refused(chairs, ["bed", "lamp"], "test")
    assert "all that the source has (bed, chair, lamp)" in refused(info(path=str(file)), None)
    assert "Shapes has no class 'bathtub'" in refused(Shapes(num_points=8, classes=["chair"]).info(), ["bathtub"])
    assert "Dots cannot be told which classes" in refused(Dots().info(), ["3"])
    np.save(tmp_path / "plain.npy", np.random.default_rng(0).normal(size=(20, 8, 3)).astype(np.float32))
    assert "no labels" in refused(info(path=str(tmp_path / "plain.npy")), ["lamp"])
    assert "all that the source has (none)" in refused(info(path=str(tmp_path / "plain.npy")), None)
