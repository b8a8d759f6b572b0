"""Damage to clouds, against loops and closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest, linregress

from pcgen.corruptions import CutBall, CutHalfSpace, DropPoints, OutlierPoints
from pcgen.errors import DataError

REMOVALS = [DropPoints, CutHalfSpace, CutBall]
B, N = 12, 60


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x():
    return torch.randn(B, N, 3, generator=gen(1), dtype=torch.float64)


def kept(before, after):
    """Which points of one cloud stand where they stood."""
    return (before == after).all(-1).numpy()


@pytest.mark.parametrize("kind", [*REMOVALS, OutlierPoints])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_as_many_points_go_as_the_share_says(x, kind, share):
    y = kind(share)(x, generator=gen())
    for before, after in zip(x, y, strict=True):
        assert (~kept(before, after)).sum() == round(share * N)


@pytest.mark.parametrize("kind", [*REMOVALS, OutlierPoints])
def test_shares_of_a_range_are_uniform(kind):
    x = torch.randn(400, 200, 3, generator=gen(1))
    y = kind(0.2, max_share=0.6)(x, generator=gen())
    share = (x != y).any(-1).double().mean(1).numpy()
    assert 0.2 <= share.min() < 0.23
    assert 0.57 < share.max() <= 0.6
    assert kstest((share - 0.2) / 0.4, "uniform").pvalue > 0.01


@pytest.mark.parametrize("kind", REMOVALS)
def test_places_are_taken_by_copies_of_kept_points(x, kind):
    y = kind(0.7)(x, generator=gen())
    for before, after in zip(x.numpy(), y.numpy(), strict=True):
        stay = (before == after).all(-1)
        for p in after[~stay]:
            assert (before[stay] == p).all(-1).sum() == 1


@pytest.mark.parametrize("kind", REMOVALS)
def test_every_kept_point_may_be_copied(kind):
    x = torch.randn(1, 10, 3, generator=gen(1)).expand(2000, 10, 3)
    y = kind(0.5)(x, generator=gen())
    counts = []
    for before, after in zip(x[:500], y[:500], strict=True):
        stay = kept(before, after)
        counts.append([(after[~stay] == p).all(-1).sum().item() for p in before[stay]])
    mean = np.mean(counts, 0)  # of five places each is taken by each of five points once on average
    assert np.abs(mean - 1).max() < 0.2


def test_dropped_points_are_any(x):
    many = x[:1].expand(3000, N, 3)
    gone = (DropPoints(0.3)(many, generator=gen()) != many).any(-1).double()
    assert (gone.mean(0) - 0.3).abs().max() < 0.04
    assert abs(np.corrcoef(gone[:, 0], gone[:, 1])[0, 1]) < 0.07


def test_a_plane_divides_what_is_cut_from_what_stays(x):
    from scipy.optimize import linprog

    y = CutHalfSpace(0.4)(x, generator=gen())
    directions = []
    for before, after in zip(x, y, strict=True):
        stay = kept(before, after)
        # find w, b with w·p + b ≥ 1 for what went and ≤ −1 for what stays
        p = np.column_stack([before.numpy(), np.ones(N)])
        found = linprog(np.zeros(4), np.where(stay, 1, -1)[:, None] * p, -np.ones(N), bounds=(None, None))
        assert found.success
        directions.append(found.x[:3] / np.linalg.norm(found.x[:3]))
    assert np.linalg.norm(np.mean(directions, 0)) < 0.7  # of 12 unit vectors: they do not all point one way


def test_directions_are_uniform():
    x = torch.nn.functional.normalize(torch.randn(1, 300, 3, generator=gen(1)), dim=-1).expand(1500, 300, 3)
    gone = (CutHalfSpace(0.05)(x, generator=gen()) != x).any(-1)
    middle = torch.stack([p[g].mean(0) for p, g in zip(x, gone, strict=True)])
    z = torch.nn.functional.normalize(middle, dim=-1)
    for axis in range(3):  # a coordinate of a uniform direction is uniform in [−1, 1]
        assert z[:, axis].mean().abs() < 0.06
        assert z[:, axis].square().mean().item() == pytest.approx(1 / 3, abs=0.04)


def test_a_ball_about_a_point_of_the_cloud_holds_what_is_cut(x):
    y = CutBall(0.25)(x, generator=gen())
    for before, after in zip(x.numpy(), y.numpy(), strict=True):
        gone = ~(before == after).all(-1)
        distance = np.linalg.norm(before[:, None] - before[None], axis=-1)
        held = [c for c in np.flatnonzero(gone) if distance[c][gone].max() < distance[c][~gone].min()]
        assert held


def test_a_ball_may_be_about_any_point():
    x = torch.tensor([0.0, 1.0, 10.0, 11.0, 50.0]).view(1, 5, 1).expand(4000, 5, 3)
    gone = (CutBall(0.2)(x, generator=gen()) != x).any(-1)  # one point: the centre itself
    assert gone.sum(1).eq(1).all()
    assert (gone.double().mean(0) - 0.2).abs().max() < 0.03


def test_outliers_fill_their_ball_evenly(x):
    many = x[:1].expand(200, N, 3)
    y = OutlierPoints(0.5, radius=2.5)(many, generator=gen())
    changed = (y != many).any(-1)
    assert (changed.double().mean(0) - 0.5).abs().max() < 0.15
    new = y[changed]
    radius = new.norm(dim=-1)
    assert kstest((radius / 2.5) ** 3, "uniform").pvalue > 0.01
    for axis in range(3):
        assert kstest(new[:, axis] / radius, lambda c: (c + 1) / 2).pvalue > 0.01
    assert abs(linregress(radius.numpy(), new[:, 2].numpy() / radius.numpy()).rvalue) < 0.05


def test_outliers_may_be_normally_distributed(x):
    many = x[:1].expand(400, N, 3)
    y = OutlierPoints(0.5, std=0.3)(many, generator=gen())
    outliers = y[(y != many).any(-1)]
    assert len(outliers) == 400 * N // 2
    assert kstest(outliers.ravel().numpy() / 0.3, "norm").pvalue > 0.01
    correlation = np.corrcoef(outliers.T.numpy())
    assert np.abs(correlation - np.eye(3)).max() < 0.05


@pytest.mark.parametrize("kind", [*REMOVALS, OutlierPoints])
def test_a_cloud_of_which_nothing_would_be_left_is_refused(kind):
    with pytest.raises(DataError, match=rf"{kind.__name__} with a share of 0.95 .* N = 10 points"):
        kind(0.1, max_share=0.95)(torch.randn(4, 10, 3))
    with pytest.raises(DataError, match="N = 0 points"):
        kind(0.1)(torch.randn(4, 0, 3))
    x = torch.randn(50, 10, 3)
    assert kind(0.9)(x).shape == x.shape  # leaves one
    assert kind(0.0, max_share=0.9)(x).isfinite().all()


@pytest.mark.parametrize("kind", REMOVALS)
def test_one_point_left_fills_the_cloud(x, kind):
    y = kind(1 - 1 / N)(x, generator=gen())
    assert (y == y[:, :1]).all()


@pytest.mark.parametrize("kind", REMOVALS)
def test_points_on_one_spot(kind):
    x = torch.ones(3, 20, 3)
    assert torch.equal(kind(0.5)(x), x)
