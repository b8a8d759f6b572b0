import warnings

import numpy as np
import pytest

from pcgen.errors import ConfigurationError, DataError
from pcgen.io import CloudSet


@pytest.fixture
def clouds(rng):
    return CloudSet(
        rng.normal(size=(6, 20, 3)).astype(np.float32),
        label=np.array([0, 1, 2, 0, 1, 2]),
        split=np.array(["train", "train", "train", "test", "test", "train"]),
        name=tuple("abcdef"),
        class_names=("bed", "chair", "sofa"),
        factors=rng.normal(size=(6, 2)).astype(np.float32),
        factor_names=("height", "width"),
        source="some.h5",
    )


def test_select(clouds):
    chosen = clouds.select(split="train", classes=["sofa", "bed"])
    assert chosen.name == ("a", "c", "f")
    assert chosen.class_names == ("sofa", "bed")
    assert chosen.label.tolist() == [1, 0, 0]
    assert np.array_equal(chosen.points, clouds.points[[0, 2, 5]])
    assert np.array_equal(chosen.factors, clouds.factors[[0, 2, 5]])
    assert len(clouds.select(classes="chair")) == 2


def test_what_is_not_there_is_named(clouds):
    with pytest.raises(DataError, match=r"some\.h5: there is no split 'val'; there is train, test"):
        clouds.select(split="val")
    with pytest.raises(DataError, match=r"no class 'chairs'; there are bed, chair, sofa"):
        clouds.select(classes=["chairs"])
    with pytest.raises(DataError, match=r"no cloud of the classes sofa in split 'test'"):
        clouds.select(split="test", classes="sofa")
    bare = CloudSet(clouds.points)
    with pytest.raises(DataError, match="not split"):
        bare.select(split="train")
    with pytest.raises(DataError, match="no labels"):
        bare.select(classes="bed")
    with pytest.raises(ConfigurationError, match="each once"):
        clouds.select(classes=["bed", "bed"])


def test_resample_takes_a_subset_without_repeats(clouds):
    few = clouds.resample(7, seed=3)
    assert few.points.shape == (6, 7, 3)
    for whole, part in zip(clouds.points, few.points, strict=True):
        rows = {tuple(p) for p in part.tolist()}
        assert len(rows) == 7
        assert rows <= {tuple(p) for p in whole.tolist()}
    assert np.array_equal(few.points, clouds.resample(7, seed=3).points)
    assert not np.array_equal(few.points, clouds.resample(7, seed=4).points)
    assert clouds.resample(20) is clouds


def test_resample_and_select_commute(clouds):
    a = clouds.resample(7, seed=3).select(split="test")
    b = clouds.select(split="test").resample(7, seed=3)
    assert np.array_equal(a.points, b.points)


def test_too_few_points_repeat_with_one_warning(clouds):
    with pytest.warns(UserWarning, match=r"some\.h5: 45 points asked for, but 6 clouds .* 20") as caught:
        many = clouds.resample(45)
    assert len(caught) == 1
    for whole, cloud in zip(clouds.points, many.points, strict=True):
        counts = np.array([(cloud == p).all(1).sum() for p in whole])
        assert counts.sum() == 45
        assert set(counts.tolist()) == {2, 3}  # as evenly as can be
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clouds.resample(20)
    with pytest.raises(ConfigurationError, match="num_points is 0"):
        clouds.resample(0)


@pytest.mark.parametrize(
    ("points", "word"),
    [
        (np.zeros((4, 3)), "shape"),
        (np.zeros((4, 5, 2)), "shape"),
        (np.zeros((0, 5, 3)), "0 clouds"),
        (np.zeros((4, 0, 3)), "of 0 points"),
        (np.zeros((4, 5, 3), dtype="S3"), "type"),
        (np.full((2, 5, 3), 1e60), "infinity"),
        (np.where(np.arange(30).reshape(2, 5, 3) == 20, np.nan, 0), "1 of 2 clouds hold NaN or infinity.* row 1"),
    ],
)
def test_bad_points(points, word):
    with pytest.raises(DataError, match=word):
        CloudSet(points)


def test_bad_fields(rng):
    points = rng.normal(size=(3, 4, 3))
    with pytest.raises(DataError, match="3 clouds but 2 entries in label"):
        CloudSet(points, label=np.array([0, 1]))
    with pytest.raises(DataError, match="run from 0 to 7, but there are 2 class names"):
        CloudSet(points, label=np.array([0, 1, 7]), class_names=("a", "b"))
    with pytest.raises(DataError, match="unknown split 'dev'"):
        CloudSet(points, split=np.array(["train", "dev", "test"]))
    with pytest.raises(DataError, match="up_axis is 3"):
        CloudSet(points, up_axis=3)
    assert CloudSet(points, label=np.array([0, 2, 1])).class_names == ("0", "1", "2")
    assert CloudSet(points).name == ("00000", "00001", "00002")
