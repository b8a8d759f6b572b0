"""What each augmentation keeps and what it changes."""

import math

import pytest
import torch

from pcgen.datamodules import Jitter, PointDropout, RandomScale, RotateUp
from pcgen.errors import ConfigurationError
from pcgen.recipe import build, describe


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x():
    return torch.randn(64, 128, 3, generator=gen(1))


@pytest.mark.parametrize("augmentation", [Jitter(), RotateUp(axis=1), RandomScale(), PointDropout()])
def test_all_are_repeatable_pure_and_recorded(x, augmentation):
    before = x.clone()
    one, two = augmentation(x, generator=gen(3)), augmentation(x, generator=gen(3))
    assert torch.equal(one, two)
    assert torch.equal(x, before)
    assert one.shape == x.shape
    assert not torch.equal(one, augmentation(x, generator=gen(4)))
    again = build(describe(augmentation))
    assert torch.equal(again(x, generator=gen(3)), one)


def test_jitter_has_its_spread_and_its_bound(x):
    change = Jitter(0.02, 1.0)(x, generator=gen()) - x
    assert change.std().item() == pytest.approx(0.02, rel=0.02)
    assert (Jitter(0.02, 0.01)(x, generator=gen()) - x).abs().max() <= 0.01 + 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_keeps_the_axis_and_turns_the_plane_by_one_angle(x, axis):
    y = RotateUp()(x, generator=gen(), up_axis=axis)
    assert torch.equal(y[..., axis], x[..., axis])
    u, v = (axis + 1) % 3, (axis + 2) % 3
    turn = torch.complex(y[..., u], y[..., v]) / torch.complex(x[..., u], x[..., v])
    assert turn.abs().sub(1).abs().max() < 1e-3
    assert (turn - turn[:, :1]).abs().max() < 1e-2
    angle = turn[:, 0].angle()
    assert angle.min() < -2
    assert angle.max() > 2


def test_rotation_keeps_within_its_angle_and_needs_an_axis(x):
    y = RotateUp(10, axis=2)(x, generator=gen())
    turn = torch.complex(y[..., 0], y[..., 1]) / torch.complex(x[..., 0], x[..., 1])
    assert turn[:, 0].angle().abs().max() <= math.radians(10) + 1e-4
    with pytest.raises(ConfigurationError, match="set its axis"):
        RotateUp()(x, generator=gen())


def test_scale_is_one_number_a_cloud(x):
    ratio = RandomScale(0.5, 2)(x, generator=gen()) / x
    assert (ratio - ratio[:, :1, :1]).abs().max() < 1e-4
    assert 0.5 <= ratio.min() < 0.7
    assert 1.7 < ratio.max() <= 2 + 1e-4


def test_dropout_replaces_by_copies_of_a_kept_point(x):
    y = PointDropout(0.9)(x, generator=gen())
    shares = []
    for before, after in zip(x, y, strict=True):
        distinct = after.unique(dim=0)
        assert (distinct[:, None] == before).all(-1).any(1).all()
        shares.append(1 - len(distinct) / 128)
    assert 0.3 < sum(shares) / len(shares) < 0.6  # 0.45 expected
    assert max(shares) > 0.75


def test_dropout_keeps_one_point_at_least():
    x = torch.arange(12.0).view(4, 1, 3)
    assert torch.equal(PointDropout(0.99)(x, generator=gen()), x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jitter(-1),
        lambda: RandomScale(2, 1),
        lambda: RandomScale(0, 1),
        lambda: PointDropout(1.0),
        lambda: RotateUp(axis=3),
    ],
)
def test_values_out_of_range_are_named(make):
    with pytest.raises(ConfigurationError, match=r"\(.*="):
        make()
