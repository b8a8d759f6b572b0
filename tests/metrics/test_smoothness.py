"""Steps of walks against closed forms and a naive loop."""

import math

import numpy as np
import pytest
import torch

from pcgen.errors import DataError
from pcgen.metrics.functional import walk_smoothness
from pcgen.metrics.smoothness import smoothness_rows

GENERATOR = torch.Generator().manual_seed(0)
CLOUD = torch.rand(20, 3, generator=GENERATOR)
WAY = torch.tensor([0.02, -0.06, 0.03])  # 0.07 long
GRID = torch.cartesian_prod(*[torch.arange(3.0)] * 3)  # no two points are nearer than 1


@pytest.mark.parametrize("corresponding", [True, False])
def test_an_even_walk_has_the_ratio_one(corresponding):
    walk = GRID + WAY * torch.arange(6)[:, None, None]
    found = walk_smoothness(walk, corresponding=corresponding)
    np.testing.assert_allclose(found.lengths, [0.07] * 5, rtol=1e-5)
    assert (found.mean, found.longest, found.ratio) == pytest.approx((0.07, 0.07, 1))


@pytest.mark.parametrize("corresponding", [True, False])
@pytest.mark.parametrize("at", [0, 3])
def test_a_single_jump_has_the_ratio_of_the_number_of_steps(corresponding, at):
    walk = CLOUD + 0.5 * (torch.arange(6) > at)[:, None, None]
    found = walk_smoothness(walk, corresponding=corresponding)
    assert found.ratio == pytest.approx(5)
    assert int(found.lengths.argmax()) == at
    assert int((found.lengths > 0).sum()) == 1


def test_a_step_of_twice_the_length_among_even_ones():
    walk = GRID + WAY * torch.tensor([0, 1, 2, 4, 5])[:, None, None]
    assert walk_smoothness(walk).ratio == pytest.approx(2 / (5 / 4))


def test_lengths_are_root_mean_squares():
    walk = torch.rand(4, 11, 3, generator=GENERATOR)
    for k, length in enumerate(walk_smoothness(walk).lengths.tolist()):
        squared = [math.dist(walk[k, i].tolist(), walk[k + 1, i].tolist()) ** 2 for i in range(11)]
        assert length == pytest.approx(math.sqrt(sum(squared) / 11), rel=1e-6)
    free = walk_smoothness(walk, corresponding=False)
    for k, length in enumerate(free.lengths.tolist()):
        squared = torch.cdist(walk[k].double(), walk[k + 1].double()).square()
        both = squared.min(0).values.mean() + squared.min(1).values.mean()
        assert length == pytest.approx(math.sqrt(both / 2), rel=1e-5)
    assert (free.lengths <= (1 + 1e-6) * walk_smoothness(walk).lengths).all()


def test_only_without_correspondence_the_order_of_the_points_is_nothing():
    walk = torch.stack([(CLOUD + 0.01 * k)[torch.randperm(20, generator=GENERATOR)] for k in range(5)])
    ordered = CLOUD + 0.01 * torch.arange(5)[:, None, None]
    free, same = (walk_smoothness(w, corresponding=False) for w in (walk, ordered))
    np.testing.assert_allclose(free.lengths, same.lengths, rtol=1e-5)
    assert walk_smoothness(walk).mean > 5 * walk_smoothness(ordered).mean


def test_images_change_by_their_pixels():
    walk = torch.zeros(4, 3, 5, 5)
    walk[1:, 0] += 0.3  # a third of the numbers, once
    walk[2:] += 0.1
    found = walk_smoothness(walk)
    np.testing.assert_allclose(found.lengths, [0.3 / math.sqrt(3), 0.1, 0], rtol=1e-5)


def test_who_stands_still_has_no_ratio():
    assert math.isnan(walk_smoothness(CLOUD.expand(3, -1, -1)).ratio)
    assert smoothness_rows(CLOUD.expand(1, 3, -1, -1))[1] == [[0, 0.0, 0.0, None, None]]


def test_a_row_for_each_walk():
    walks = torch.rand(2, 4, 9, 3, generator=GENERATOR)
    heads, rows = smoothness_rows(walks)
    assert heads == ["walk", "mean_step", "longest_step", "ratio", "chamfer_ratio"]
    for k, row in enumerate(rows):
        point, free = (walk_smoothness(walks[k], corresponding=way) for way in (True, False))
        assert row == [k, point.mean, point.longest, point.ratio, free.ratio]
    heads, rows = smoothness_rows(walks.unsqueeze(2))  # images of one channel
    assert heads == ["walk", "mean_step", "longest_step", "ratio"]
    assert len(rows[0]) == 4


@pytest.mark.parametrize(
    ("walk", "how", "says"),
    [
        (CLOUD[None], {}, "at least two stations"),
        (CLOUD, {}, r"shape \(20, 3\)"),
        (torch.zeros(4, 5, 2), {}, "at least two stations"),
        (torch.zeros(4, 1, 2, 2), {"corresponding": False}, "corresponding=False is for clouds"),
        (torch.full((4, 5, 3), torch.inf), {}, "4 of 4 stations"),
    ],
)
def test_what_is_no_walk_is_refused(walk, how, says):
    with pytest.raises(DataError, match=says):
        walk_smoothness(walk, **how)
