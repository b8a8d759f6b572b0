import pickle

import numpy as np
import pytest

from pcgen.errors import ConfigurationError, DataError
from pcgen.io import Normalization
from pcgen.recipe import build, describe


@pytest.fixture
def clouds(rng):
    """ModelNet's trouble: sizes from 0.2 to 228 582, and far from the origin."""
    size = np.geomspace(0.2, 228_582, 9)[:, None, None]
    return rng.uniform(-1, 1, (9, 300, 3)) * size * [1, 0.5, 0.2] + rng.normal(size=(9, 1, 3)) * size


def test_ball_per_shape(clouds):
    x, center, scale = Normalization(radius=0.5).apply(clouds)
    assert x.dtype == np.float32
    assert np.allclose(np.linalg.norm(x.astype(float), axis=-1).max(1), 0.5, rtol=1e-6)
    assert np.allclose(x.mean(1, dtype=float), 0, atol=1e-6)
    for i, cloud in enumerate(clouds):  # the definition, one cloud at a time
        middle = cloud.mean(0)
        farthest = max(np.linalg.norm(p - middle) for p in cloud)
        assert np.allclose(center[i], middle, rtol=1e-12)
        assert scale[i] == pytest.approx(farthest / 0.5, rel=1e-12)


def test_box_per_shape(clouds):
    x, _, _ = Normalization(region="box").apply(clouds)
    low, high = x.min(1), x.max(1)
    assert np.allclose(low, -high, atol=1e-6)
    assert np.allclose(high.max(1), 1, atol=1e-6)


@pytest.mark.parametrize("region", ["ball", "box"])
@pytest.mark.parametrize("scope", ["shape", "set", "none"])
def test_undo_gives_back_what_was(clouds, scope, region):
    clouds = clouds.astype(np.float32)
    normalization = Normalization(scope=scope, region=region, radius=2).fit(clouds)
    x, center, scale = normalization.apply(clouds)
    assert center.shape == (9, 3)
    assert scale.shape == (9,)
    assert center.dtype == scale.dtype == np.float64
    back = normalization.undo(x, center, scale)
    error = np.abs(back - clouds).max((1, 2)) / (np.abs(clouds).max((1, 2)) if scope != "set" else np.abs(clouds).max())
    assert error.max() < 1e-6
    assert np.allclose(normalization.undo(x[3], center[3], scale[3]), back[3])


@pytest.mark.parametrize("region", ["ball", "box"])
@pytest.mark.parametrize("chunk", [1, 4, 600, 1000])
def test_fitting_by_chunks_is_fitting_at_once(rng, region, chunk):
    points = rng.normal(size=(600, 40, 3)).astype("f4") + 5
    unfitted = Normalization(scope="set", region=region, radius=0.5)
    fitted = unfitted.fit_chunks(lambda: (points[i : i + chunk] for i in range(0, 600, chunk)))
    middle = points.mean((0, 1), dtype=float) if region == "ball" else (points.min((0, 1)) + points.max((0, 1))) / 2
    distance = np.linalg.norm(points - middle, axis=-1) if region == "ball" else np.abs(points - middle)
    assert np.allclose(fitted.center, middle, rtol=1e-6)
    assert fitted.scale == pytest.approx(distance.max() / 0.5, rel=1e-6)
    at_once = unfitted.fit(points)
    assert np.allclose(fitted.center, at_once.center, rtol=1e-13)
    assert fitted.scale == pytest.approx(at_once.scale, rel=1e-13)


def test_fitting_by_chunks_refuses_what_fitting_at_once_refuses():
    normalization = Normalization(scope="set")
    with pytest.raises(DataError, match="all points of the set are equal"):
        normalization.fit_chunks(lambda: iter([np.ones((2, 5, 3)), np.ones((1, 5, 3))]))
    with pytest.raises(DataError, match="NaN"):
        normalization.fit_chunks(lambda: iter([np.ones((2, 5, 3)), np.full((1, 5, 3), np.nan)]))
    with pytest.raises(DataError, match="no cloud"):
        normalization.fit_chunks(lambda: iter([]))
    assert Normalization().fit_chunks(lambda: iter([])) == Normalization()


def test_set_scope_learns_from_training_alone_and_keeps_sizes(rng):
    train = rng.normal(size=(600, 40, 3)) + 5
    test = 3 * rng.normal(size=(20, 40, 3))
    fitted = Normalization(scope="set").fit(train)
    middle = train.reshape(-1, 3).mean(0)
    assert np.allclose(fitted.center, middle, atol=1e-12)
    assert fitted.scale == pytest.approx(np.linalg.norm(train - middle, axis=-1).max())
    x, _, _ = fitted.apply(train)
    assert np.linalg.norm(x, axis=-1).max() == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(fitted.apply(test)[0], axis=-1).max() > 1  # not clipped, not fitted anew
    box = Normalization(scope="set", region="box").fit(train)
    x, _, _ = box.apply(train)
    assert np.abs(x).max() == pytest.approx(1, abs=1e-6)


def test_none_changes_nothing(clouds):
    x, center, scale = Normalization("none").apply(clouds.astype(np.float32))
    assert np.array_equal(x, clouds.astype(np.float32))
    assert not center.any()
    assert (scale == 1).all()


def test_plain_and_recorded(clouds):
    for normalization in (Normalization(), Normalization("set", "box", 0.5).fit(clouds)):
        plain = normalization.to_plain()
        assert Normalization.from_plain(plain) == normalization
        assert describe(plain) == plain
        assert build(describe(normalization)).to_plain() == plain
        assert pickle.loads(pickle.dumps(normalization)) == normalization
    with pytest.raises(ConfigurationError, match="not a normalization"):
        Normalization.from_plain({"scop": "set"})


@pytest.mark.parametrize("region", ["ball", "box"])
@pytest.mark.parametrize("scope", ["shape", "set"])
def test_equal_points_have_no_size(scope, region):
    clouds = np.full((3, 50, 3), 0.1)
    with pytest.raises(DataError, match="equal"):
        Normalization(scope, region).fit(clouds).apply(clouds)
    mixed = np.random.default_rng(0).normal(size=(3, 50, 3))
    mixed[1] = 0.1
    if scope == "shape":
        with pytest.raises(DataError, match="cloud 1 are equal"):
            Normalization(scope, region).apply(mixed)


def test_wrong_arguments(clouds):
    with pytest.raises(ConfigurationError, match="'all'"):
        Normalization("all")
    with pytest.raises(ConfigurationError, match="'cube'"):
        Normalization(region="cube")
    with pytest.raises(ConfigurationError, match="radius is 0"):
        Normalization(radius=0)
    with pytest.raises(ConfigurationError, match="fitted"):
        Normalization("set").apply(clouds)
    with pytest.raises(DataError, match="NaN"):
        Normalization().apply(np.full((1, 2, 3), np.nan))
    with pytest.raises(DataError, match="shape"):
        Normalization().apply(clouds[0])
