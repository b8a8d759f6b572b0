"""Splits, normalisation, subsets: what every datamodule of clouds keeps."""

import h5py
import numpy as np
import pytest
import torch

from pcgen.base import Batch
from pcgen.datamodules import Jitter, ModelNet, PointClouds, RotateUp, Shapes
from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import build, describe


def names(data, split):
    return set(data.split(split).name)


def make(path, **arguments):
    data = PointClouds(str(path), **arguments)
    data.setup()
    return data


def test_splits_are_disjoint_whole_and_stratified(cloud_file):
    data = make(cloud_file, validation=0.25)
    parts = [names(data, s) for s in ("train", "val", "test")]
    assert [len(p) for p in parts] == [36, 12, 12]
    assert len(set.union(*parts)) == 60
    assert torch.bincount(data.take("val").label).tolist() == [4, 4, 4]


def test_what_is_held_out_depends_on_split_seed_alone(cloud_file):
    val = names(make(cloud_file), "val")
    assert names(make(cloud_file, seed=5, batch_size=7, num_points=20, scope="set", resample=True), "val") == val
    assert names(make(cloud_file, split_seed=1), "val") != val
    bowls = names(make(cloud_file, classes=["bowl"]), "val")
    assert bowls == {n for n in val if n.startswith("bowl")}


def test_without_validation_the_validation_split_is_the_test_split(cloud_file):
    data = make(cloud_file, validation=0.0)
    assert names(data, "val") == names(data, "test")
    assert len(data.split("train")) == 48


def test_a_source_without_splits_is_divided(tmp_path):
    np.save(tmp_path / "all.npy", np.random.default_rng(0).normal(size=(50, 20, 3)))
    data = make(tmp_path / "all.npy", validation=0.2, test=0.1)
    assert {k: len(data.split(k)) for k in ("train", "val", "test")} == {"train": 36, "val": 9, "test": 5}
    whole = make(tmp_path / "all.npy", validation=0.0, test=0.0)
    assert len(whole.split("train")) == 50
    with pytest.raises(DataError, match="no split 'test' in these data; there is train"):
        whole.take("test")
    assert whole.val_dataloader() == []


def test_classes_are_chosen_numbered_and_named(cloud_file):
    data = make(cloud_file, classes=["bowl", "cup"])
    assert data.class_names == ("bowl", "cup")
    for name, label in zip(data.split("test").name, data.take("test").label, strict=True):
        assert name.startswith(data.class_names[label])
    with pytest.raises(DataError, match=r"no class 'chair'; there are cup, vase, bowl"):
        make(cloud_file, classes=["chair"])


def test_take_is_fixed_and_spread_over_the_classes(cloud_file):
    data = make(cloud_file, augment=[Jitter(0.5)], num_points=20, resample=True)
    few = data.take("train", 6)
    assert isinstance(few, Batch)
    assert few.label.tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(few.x, data.take("train", 6).x)
    assert data.take("train", 1000).x.shape == (len(data.split("train")), 20, 3)
    assert data.take("train", 0).x.shape == (0, 20, 3)
    drawn = data.take("train", 10, seed=3)
    assert torch.equal(drawn.x, data.take("train", 10, seed=3).x)
    assert not torch.equal(drawn.x, data.take("train", 10, seed=4).x)
    everything = data.take("train").x
    assert all((everything == x).all(-1).all(-1).any() for x in drawn.x)
    with pytest.raises(ConfigurationError, match="n is -1"):
        data.take("train", -1)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("scope", ["shape", "set", "none"])
@pytest.mark.parametrize("region", ["ball", "box"])
def test_normalisation_is_right_and_undone(cloud_file, scope, region, in_memory):
    data = make(cloud_file, scope=scope, region=region, radius=0.5, in_memory=in_memory)
    with h5py.File(cloud_file) as file:
        raw = {n.decode(): p.astype(np.float64) for n, p in zip(file["name"], file["points"], strict=True)}
    original = np.stack([raw[n] for n in data.split("train").name])
    center, scale = np.zeros(3), 1.0
    axes = (1,) if scope == "shape" else (0, 1)
    if scope != "none" and region == "ball":
        center = original.mean(axes, keepdims=True)
        scale = np.linalg.norm(original - center, axis=-1).max(axes, keepdims=True)[..., None] / 0.5
    elif scope != "none":
        low, high = original.min(axes, keepdims=True), original.max(axes, keepdims=True)
        center, scale = (low + high) / 2, (high - low).max(-1, keepdims=True)
    x = data.take("train").x
    assert x.numpy() == pytest.approx((original - center) / scale, abs=1e-5)
    assert {"scope", "region", "radius"} <= set(data.normalization)
    test = data.take("test", seed=1)
    rows = np.random.default_rng(1).permutation(12)
    undone = data.denormalize("test", rows, test.x).numpy()
    expected = np.stack([raw[data.split("test").name[i]] for i in rows])
    assert undone == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert data.offsets("test")[0].shape == (12, 3)
    assert data.offsets("test")[1].shape == (12,)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_set_without_size_cannot_be_normalised(cloud_file, in_memory):
    with h5py.File(cloud_file, "r+") as file:
        file["points"][...] = 3
    with pytest.raises(DataError, match="all points of the set are equal"):
        make(cloud_file, scope="set", in_memory=in_memory)


def test_statistics_come_from_the_training_split(cloud_file):
    before = make(cloud_file, scope="set").normalization
    with h5py.File(cloud_file, "r+") as file:
        file["points"][48:] = file["points"][48:] * 100
    assert make(cloud_file, scope="set").normalization == before


@pytest.mark.parametrize(
    "arguments", [{}, {"num_points": 20}, {"num_points": 20, "resample": True}, {"num_points": 80}]
)
@pytest.mark.filterwarnings("ignore:.*points are repeated")
def test_memory_and_file_give_the_same(cloud_file, arguments):
    memory = make(cloud_file, **arguments, classes=["vase", "cup"], augment=[RotateUp(axis=1)])
    lazy = make(cloud_file, **arguments, classes=["vase", "cup"], augment=[RotateUp(axis=1)], in_memory=False)
    for split in ("train", "val", "test"):
        for a, b in zip(memory.take(split)[:2], lazy.take(split)[:2], strict=True):
            assert torch.equal(a, b)
    for a, b in zip(memory.train_dataloader(), lazy.train_dataloader(), strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.label, b.label)


def test_fresh_subsets_change_by_epoch_and_evaluation_does_not(cloud_file):
    data = make(cloud_file, num_points=20, resample=True, scope="none")
    loader, points = data.train_dataloader(), {}
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for x in batch.x:
                points.setdefault(epoch, set()).update(map(tuple, x.tolist()))
    assert points[0] != points[1] != points[2]
    stored = set(map(tuple, data.split("train").points.points.reshape(-1, 3).tolist()))
    assert points[0] | points[1] | points[2] <= stored
    twice = [torch.cat([b.x for b in data.test_dataloader()]) for _ in range(2)]
    assert torch.equal(*twice)
    assert torch.equal(twice[0], data.take("test").x)


def test_too_few_points_are_repeated_with_a_warning(cloud_file):
    for in_memory in (True, False):
        with pytest.warns(UserWarning, match="points are repeated"):
            data = make(cloud_file, num_points=70, in_memory=in_memory)
        assert data.take("test").x.shape == (12, 70, 3)


def test_reading_lazily_needs_hdf5(tmp_path):
    np.save(tmp_path / "all.npy", np.random.default_rng(0).normal(size=(50, 20, 3)))
    with pytest.raises(ConfigurationError, match=r"all\.npy is not HDF5"):
        make(tmp_path / "all.npy", in_memory=False)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "one.npy", np.random.default_rng(0).normal(size=(20, 3)))
    with pytest.raises(ConfigurationError, match=r"one\.npy is not HDF5"):
        make(tmp_path / "folder", in_memory=False)


def test_the_up_axis_is_the_datas_own_or_the_arguments(cloud_file):
    assert make(cloud_file).up_axis is None
    assert make(cloud_file, up_axis=1).up_axis == 1
    with h5py.File(cloud_file, "r+") as file:
        file.attrs["up_axis"] = 2
    assert make(cloud_file).up_axis == 2
    assert make(cloud_file, up_axis=1).up_axis == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_points": 0}, "num_points is 0"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"test": -0.1}, "test is -0.1"),
        ({"up_axis": 3}, "up_axis is 3"),
        ({"resample": True}, "say num_points"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        PointClouds("clouds.h5", **arguments)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.h5"):
        make(tmp_path / "nowhere.h5")


def test_what_a_checkpoint_remembers_is_plain_and_makes_the_data_again(cloud_file):
    data = make(cloud_file, scope="set", augment=[Jitter(0.02)])
    info = data.info()
    assert info["sample_shape"] == [50, 3]
    assert info["normalization"]["scale"] > 0
    again = build(describe(data))
    again.setup()
    assert torch.equal(again.take("val").x, data.take("val").x)
    assert all(torch.equal(a.x, b.x) for a, b in zip(again.train_dataloader(), data.train_dataloader(), strict=True))


def test_real_chairs(real_data):
    data = make(real_data / "modelnet10.h5", classes=["chair"], num_points=256, in_memory=False)
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [800, 89, 100]
    batch = next(iter(data.train_dataloader()))
    assert batch.x.shape == (32, 256, 3)
    assert batch.x.norm(dim=-1).amax(1).sub(1).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("variant", "common"),
    [
        (10, ["bed", "chair", "desk", "sofa", "table"]),
        (40, ["bed", "chair", "desk", "lamp", "sofa", "stool", "table"]),
    ],
)
def test_one_list_of_classes_serves_shapes_and_modelnet(tmp_path, variant, common):
    assert sorted(set(Shapes().class_names) & set(ModelNet(str(tmp_path), variant).class_names)) == common
    backwards = common[::-1]  # labels follow the list that was asked for
    assert Shapes(classes=backwards).class_names == tuple(backwards)
    assert ModelNet(str(tmp_path), variant, classes=backwards).class_names == tuple(backwards)
