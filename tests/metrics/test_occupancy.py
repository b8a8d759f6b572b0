"""The Jensen-Shannon divergence against SciPy's k-d tree and its own Jensen-Shannon distance."""

import warnings

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import jensenshannon

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import functional as F
from pcgen.metrics.occupancy import cloud_occupancy, occupancy_divergence


def ball(n, points, seed, radius=0.5):
    x = torch.randn(n, points, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    r = torch.rand(n, points, 1, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return (x / x.norm(dim=-1, keepdim=True) * r ** (1 / 3) * radius).float()


def grid_in_ball(resolution):
    axis = np.arange(resolution) / (resolution - 1) - 0.5
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return centres[np.linalg.norm(centres, axis=1) <= 0.5]


def reference_counts(clouds, resolution):
    centres = grid_in_ball(resolution)
    points = clouds.double().numpy().reshape(-1, 3)
    _, index = cKDTree(centres).query(points)
    return np.bincount(index, minlength=len(centres))


@pytest.mark.parametrize("resolution", [2 + 6, 28])
def test_occupancy_against_kdtree(resolution):
    inner, shell = ball(3, 500, 0), ball(3, 500, 2)
    shell = shell / shell.norm(dim=-1, keepdim=True) / 2  # every point on the sphere: many of their cells are dropped
    for clouds in (inner, shell, 3 * inner, 1.04 * shell, 77 * shell):  # and some outside, far and near
        counts = cloud_occupancy(clouds, resolution=resolution)
        np.testing.assert_array_equal(counts.sum(0).numpy(), reference_counts(clouds, resolution))
        assert counts.sum(1).tolist() == [500] * 3


def test_jsd_against_scipy():
    a, b = ball(6, 400, 0), ball(9, 300, 5) * torch.tensor([1.0, 0.6, 0.3])
    p, q = reference_counts(a, 28), reference_counts(b, 28)
    got = F.jensen_shannon_divergence(a, b)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(jensenshannon(p, q, base=2) ** 2, rel=1e-12)


def test_jsd_by_hand():
    # p = (1/2, 1/2, 0), q = (0, 1/2, 1/2): m = (1/4, 1/2, 1/4), JSD = 2 · ½ · ½ · log2(2) = 1/2
    assert occupancy_divergence(torch.tensor([3, 3, 0]), torch.tensor([0, 7, 7])).item() == pytest.approx(
        0.5, abs=1e-15
    )
    here = torch.zeros(1, 4, 3) + 0.1
    assert F.jensen_shannon_divergence(here, here).item() == 0.0
    assert F.jensen_shannon_divergence(here, -here).item() == 1.0


def test_jsd_is_symmetric_and_does_not_see_order():
    a, b = ball(5, 200, 0), ball(5, 200, 9) * 0.8
    value = F.jensen_shannon_divergence(a, b)
    assert F.jensen_shannon_divergence(b, a) == value
    assert F.jensen_shannon_divergence(a.flip(0, 1), b.flip(1)) == value


def test_share_outside_is_said():
    inside = ball(4, 100, 0, radius=0.45)
    out = inside.clone()
    out[0, :10] = torch.tensor([0.9, 0.0, 0.0])
    assert F.share_outside_ball(inside).item() == 0.0
    assert F.share_outside_ball(out).item() == 10 / 400
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.jensen_shannon_divergence(inside, inside)
    with pytest.warns(UserWarning, match=r"2\.50% of the generated and 0\.00% of the reference"):
        F.jensen_shannon_divergence(out, inside)
    assert F.share_outside_ball(2 * out, radius=1.0).item() == 10 / 400


def test_float32_rounding_on_the_sphere_is_inside():
    x = torch.randn(1, 20000, 3, generator=torch.Generator().manual_seed(0))
    assert F.share_outside_ball(x / x.norm(dim=-1, keepdim=True) / 2).item() == 0.0


def test_bad_clouds():
    nan = torch.zeros(3, 4, 3)
    nan[1, 2, 0] = torch.nan
    with pytest.raises(DataError, match="1 of 3 clouds"):
        F.jensen_shannon_divergence(nan, torch.zeros(3, 4, 3))
    with pytest.raises(DataError, match=r"\(0, 4, 3\)"):
        F.jensen_shannon_divergence(torch.zeros(1, 4, 3), torch.zeros(0, 4, 3))
    with pytest.raises(ConfigurationError, match="resolution is 1"):
        F.jensen_shannon_divergence(torch.zeros(1, 4, 3), torch.zeros(1, 4, 3), resolution=1)


def test_huge_coordinates_are_counted_at_the_surface():
    with pytest.warns(UserWarning, match="100.00% of the generated"):
        value = F.jensen_shannon_divergence(torch.full((2, 5, 3), 1e30), torch.zeros(2, 5, 3))
    assert value.item() == 1.0
