"""Damage to images, against loops and closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from pcgen.corruptions import EraseRectangle, SaltAndPepper
from pcgen.errors import DataError


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def test_salt_and_pepper_are_as_many_as_they_should_be():
    x = torch.full((40, 3, 32, 32), 0.5)
    y = SaltAndPepper(0.3)(x, generator=gen())
    assert set(y.unique().tolist()) == {0.0, 0.5, 1.0}
    assert (y == 1).float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert (y == 0).float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert (y == y[:, :1]).all()  # channels together
    share = (SaltAndPepper(0.1, 0.8)(torch.full((500, 1, 40, 40), 0.5), generator=gen()) != 0.5).float().mean((1, 2, 3))
    assert kstest((share - 0.1) / 0.7, "uniform").pvalue > 0.01
    assert torch.equal(SaltAndPepper(0.0)(x), x)


def rectangles(y, value):
    """Top, left, height, width of what has the value in each image, which must be one whole rectangle."""
    found = []
    for image in y:
        mask = (image == value).all(0).numpy()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, left, height, width = rows[0], columns[0], len(rows), len(columns)
        expected = np.zeros_like(mask)
        expected[top : top + height, left : left + width] = True
        assert (mask == expected).all()
        found.append((top, left, height, width))
    return np.array(found)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_one_rectangle_is_erased(value):
    x = 0.3 + 0.7 * torch.rand(300, 2, 20, 40, generator=gen(1))
    y = EraseRectangle(0.2, 0.6, value)(x, generator=gen())
    top, left, height, width = rectangles(y, value).T
    assert (height.min(), height.max()) == (4, 12)
    assert (width.min(), width.max()) == (8, 24)
    assert (top.min(), left.min()) == (0, 0)
    assert ((top + height).max(), (left + width).max()) == (20, 40)
    assert abs(np.corrcoef(height, width)[0, 1]) < 0.2
    untouched = y != value
    assert torch.equal(y[untouched], x[untouched])


def test_all_places_are_as_likely():
    y = EraseRectangle(0.5, 0.5)(torch.ones(4000, 1, 10, 8), generator=gen())
    top, left, height, width = rectangles(y, 0.0).T
    assert set(height) == {5}
    assert set(width) == {4}
    assert chisquare(np.bincount(top, minlength=6)).pvalue > 0.01
    assert chisquare(np.bincount(left, minlength=5)).pvalue > 0.01


def test_one_pixel_at_least_and_never_all():
    assert (EraseRectangle(0.01, 0.02)(torch.ones(10, 1, 8, 8), generator=gen()) == 0).sum((1, 2, 3)).eq(1).all()
    with pytest.raises(DataError, match=r"max_side 0\.9 can erase the whole of an image of 4 × 4"):
        EraseRectangle(0.5, 0.9)(torch.ones(1, 1, 4, 4))
    with pytest.raises(DataError, match="1 × 1"):
        EraseRectangle()(torch.ones(1, 1, 1, 1))
    y = EraseRectangle(0.9, 0.9)(torch.ones(50, 1, 4, 28))  # four of four rows, but not all columns
    assert y.sum((1, 2, 3)).min() > 0
