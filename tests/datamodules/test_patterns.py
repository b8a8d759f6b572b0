"""Patterns, against images drawn place by place, finite differences and the equation that they are made by."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from pcgen.datamodules import Patterns, _patterns
from pcgen.errors import ConfigurationError
from pcgen.ops import identity_grid, warp_images
from pcgen.recipe import build

F = len(Patterns.factor_names)


def small(**arguments):
    return Patterns(**{"train_size": 45, "val_size": 13, "test_size": 11, "batch_size": 8} | arguments)


@pytest.fixture(scope="module")
def patterns():
    return Patterns(train_size=400, val_size=0, test_size=60, pattern_seed=3)


def warped(x, y, f, strength=1.0):
    """W of one place, written out."""
    f = dict(zip(Patterns.factor_names, strength * np.asarray(f, float), strict=True))
    u = x + 0.1 * f["shift_x"] - 0.18 * f["turn"] * y + 0.1 * f["size"] * x
    v = y + 0.1 * f["shift_y"] + 0.18 * f["turn"] * x + 0.1 * f["size"] * y
    u += 0.08 * f["bend"] * np.cos(np.pi * y) + 0.07 * f["squeeze_x"] * np.sin(np.pi * x)
    v += 0.07 * f["arch"] * np.cos(np.pi * x) + 0.07 * f["squeeze_y"] * np.sin(np.pi * y)
    return u, v


def lit(x, y, f):
    """Light on the dome z = −0.3 r²: n · l, with n of length 1 and l as long as it is."""
    x, y = np.clip(x, -1, 1), np.clip(y, -1, 1)
    e = 1e-6

    def height(x, y):
        return -0.3 * (x * x + y * y)

    slope = [height(x + e, y) - height(x - e, y), height(x, y + e) - height(x, y - e)]
    normal = np.array([-slope[0] / (2 * e), -slope[1] / (2 * e), 1.0])
    return normal @ [0.6 * f[12], 0.6 * f[13], 1.0] / np.linalg.norm(normal)


def test_images_are_the_equation(patterns):
    """Every pixel by a loop over its places, colours looked up in the regions."""
    batch = patterns.take("test", 3)
    S, fine = 32, 4
    for image, f in zip(batch.x.numpy(), batch.factors.numpy().astype(float), strict=True):
        colors = _patterns.palette(f[None])[0]
        for row, column in itertools.product((0, 5, 9, 12, 17, 20, 26), (0, 6, 11, 16, 19, 25, 31)):
            total = np.zeros(3)
            for i, j in itertools.product(range(fine), repeat=2):
                x, y = (2 * (k + (m + 0.5) / fine - 0.5) / (S - 1) - 1 for k, m in ((column, j), (row, i)))
                u, v = warped(x, y, f)
                total += colors[_patterns.regions(np.array([[u]]), np.array([[v]]))[0, 0]] * lit(u, v, f)
            # float32 may put a place at an edge into the other region
            assert np.abs(image[:, row, column] - total / fine**2).max() < 0.5 / 255 + 1e-3


def test_truth_makes_the_images(patterns):
    """What is stored as truth, put together by the model's own equation, is the image but for the edges' sharpness."""
    batch, truth = patterns.take("test"), patterns.truth("test")
    assert {name: tuple(value.shape) for name, value in truth.items()} == {
        "grid": (60, 32, 32, 2),
        "albedo": (60, 3, 32, 32),
        "shading": (60, 1, 32, 32),
        "landmarks": (60, 16, 2),
        "template_landmarks": (16, 2),
        "support": (60, 32, 32),
    }
    made = warp_images(truth["albedo"] * truth["shading"], truth["grid"])
    error = (made - batch.x).square().mean((1, 2, 3))
    rest = (truth["albedo"] * truth["shading"] - batch.x).square().mean((1, 2, 3))
    assert (error < 0.2 * rest).all()
    assert error.mean() < 0.06 * rest.mean()
    smooth = ~edges(truth["support"])  # where the ground alone is seen nothing is sharp
    assert ((made - batch.x).abs().amax(1)[smooth & ~truth["support"]] < 0.02).all()


def edges(support):
    """Pixels within two of the outline."""
    s = support.float()[:, None]
    near = torch.nn.functional.max_pool2d(s, 5, 1, 2) - -torch.nn.functional.max_pool2d(-s, 5, 1, 2)
    return near[:, 0] > 0


def test_grid_is_the_warp_at_the_pixels(patterns):
    grid, factors = patterns.truth("test", 5)["grid"], patterns.take("test", 5).factors
    p = identity_grid(32, 32)
    for k in range(5):
        u, v = warped(p[..., 0].numpy().astype(float), p[..., 1].numpy().astype(float), factors[k])
        assert np.abs(grid[k].numpy() - np.stack([u, v], -1)).max() < 1e-6
    assert torch.allclose(small(warp=0.0).truth("train")["grid"], p.expand(45, -1, -1, -1), atol=1e-7)


def test_landmarks_are_led_to_the_template(patterns):
    truth, factors = patterns.truth("test"), patterns.take("test").factors.numpy()
    for places, f in zip(truth["landmarks"].numpy().astype(float), factors, strict=True):
        u, v = warped(places[:, 0], places[:, 1], f)
        assert np.abs(np.stack([u, v], 1) - truth["template_landmarks"].numpy()).max() < 1e-6
    assert truth["landmarks"].abs().max() < 1
    found = truth["template_landmarks"].numpy().astype(float)
    on = _patterns.level(found[:, 0], found[:, 1])
    assert (on < 1 + 1e-6).all()
    assert len(np.unique(found.round(3), axis=0)) == 16
    assert np.ptp(found, axis=0).min() > 1.1  # all over the emblem


def test_support_shows_the_emblem(patterns):
    truth, x = patterns.truth("test"), patterns.take("test").x
    support = truth["support"]
    assert support.dtype == torch.bool
    assert 0.2 < support.float().mean() < 0.5
    inside = support & ~edges(support)
    ground = warp_images(truth["albedo"][:, :, :1, :1] * truth["shading"], truth["grid"])  # as if all were ground
    differs = (x - ground).abs().amax(1) > 0.03
    assert not differs[~support & ~edges(support)].any()
    assert differs[inside].float().mean() > 0.97  # a colour may come near the ground's


CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=8))) @ np.eye(8, F)


def test_no_warp_folds():
    """Along each axis and in area; a slope is linear in the factors, so its least is at a corner of the cube."""
    e = np.linspace(-1.1, 1.1, 45)
    u, v = _patterns.warp(*_patterns.axes(e), CORNERS)
    assert np.diff(u, axis=2).min() > 0
    assert np.diff(v, axis=1).min() > 0
    rng = np.random.default_rng(0)
    factors = np.concatenate([CORNERS, np.clip(rng.uniform(-1.5, 1.5, (500, F)), -1, 1)])
    u, v = _patterns.warp(*_patterns.axes(e), factors)
    (uy, ux), (vy, vx) = np.gradient(u, e, e, axis=(1, 2)), np.gradient(v, e, e, axis=(1, 2))
    assert (ux * vy - uy * vx).min() > 0.2


def test_the_emblem_stays_in_the_image():
    """No place of the border, half a pixel of 32 outwards, shows it."""
    e = np.linspace(-1, 1, 81)
    rng = np.random.default_rng(0)
    factors = np.concatenate([CORNERS, np.clip(rng.uniform(-1.5, 1.5, (500, F)), -1, 1)])
    for b in (-1.0, 1.0):
        for x, y in ((e, np.full(81, b)), (np.full(81, b), e)):
            u, v = _patterns.warp(x[None, None], y[None, None], factors)
            assert _patterns.level(u, v).min() > 1


def test_the_mean_warp_is_the_identity():
    factors = np.concatenate([CORNERS, -CORNERS])
    u, v = _patterns.warp(*_patterns.axes(np.linspace(-1, 1, 9)), factors)
    x, y = np.broadcast_arrays(*_patterns.axes(np.linspace(-1, 1, 9)))
    assert np.abs(u.mean(0) - x).max() < 1e-12
    assert np.abs(v.mean(0) - y).max() < 1e-12


def test_colours_and_light_stay_in_their_bounds():
    colors = _patterns.palette(np.array(list(itertools.product((-1.0, 1.0), repeat=4))) @ np.eye(4, F, 8))
    assert colors.min() >= 0.1
    assert colors.max() <= 0.8
    assert (np.abs(_patterns.MOVES).max(2).sum(0) >= 0.1).all()  # every region has a factor that is seen
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=2))) @ np.eye(2, F, 12)
    x, y = _patterns.axes(np.linspace(-1.3, 1.3, 105))
    shading = _patterns.shade(x, y, corners)
    assert shading.min() > 0.2
    assert shading.max() < 1.32
    assert shading[:, _patterns.level(x, y)[0] <= 1].max() < 1.27
    assert abs(shading[:, 52, 52] - 1).max() < 1e-12


def test_strengths(patterns):
    flat = small(shading=0.0)
    assert (flat.truth("train")["shading"] == 1).all()
    truth = small(warp=0.0).truth("train")
    assert torch.equal(truth["landmarks"], truth["template_landmarks"].expand(45, -1, -1))
    plain = small(image_size=40, warp=0.0, shading=0.0)
    assert (plain.take("train").x - plain.truth("train")["albedo"]).abs().max() < 0.5 / 255 + 1e-5
    half, whole = small(warp=0.5).truth("train")["grid"], small().truth("train")["grid"]
    assert torch.allclose(2 * (half - identity_grid(32, 32)), whole - identity_grid(32, 32), atol=1e-6)


def test_factors(patterns):
    x, label, factors = patterns.take("train")
    assert label is None
    assert (patterns.sample_shape, patterns.class_names) == ((3, 32, 32), ())
    assert x.dtype == factors.dtype == torch.float32
    assert factors.shape == (400, F)
    for k in range(F):
        assert kstest(factors[:, k].numpy(), "uniform", (-1, 2)).pvalue > 1e-3
    assert (np.corrcoef(factors.T) - np.eye(F)).__abs__().max() < 0.2


def test_seeds():
    def images(split="train", **arguments):
        return small(**arguments).take(split).x

    assert torch.equal(images(), images(batch_size=3, seed=9))
    assert not torch.equal(images(), images(pattern_seed=1))
    assert torch.equal(images(train_size=60)[:45], images())
    every = torch.cat([images(s) for s in ("train", "val", "test")]).flatten(1)
    assert len(every.unique(dim=0)) == 45 + 13 + 11
    assert torch.equal(images("val", val_size=0), images("test"))
    again = build(small(warp=0.5).info()["recipe"])
    assert torch.equal(again.take("val").x, images("val", warp=0.5))


@pytest.mark.parametrize("n", [None, 4, 0, 100])
def test_truth_is_of_the_rows_that_take_gives(n):
    data = small()
    batch, truth = data.take("train", n), data.truth("train", n)
    for f, grid, albedo in zip(batch.factors, truth["grid"], truth["albedo"], strict=True):
        assert torch.allclose(grid[16, 16], torch.tensor(warped(1 / 31, 1 / 31, f)).float(), atol=1e-6)
        assert torch.allclose(albedo[:, 0, 0], torch.from_numpy(_patterns.palette(f[None].numpy())[0, 0]).float())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 7}, "image_size is 7"),
        ({"train_size": 0}, "train_size"),
        ({"warp": 1.5}, "warp is 1.5"),
        ({"shading": -0.1}, "shading is -0.1"),
        ({"pattern_seed": -1}, "pattern_seed is -1"),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        small(**arguments)
