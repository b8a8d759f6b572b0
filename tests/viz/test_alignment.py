"""Alignment as a picture: what stands where, and one scale for all variances."""

import matplotlib as mpl
import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import draw_alignment
from pcgen.viz.alignment import COLORMAP

SIDE = 128
MEANS = (1 + np.arange(6).reshape(2, 3, 1, 1, 1)) / 10 + np.zeros((1, 1, 1, SIDE, SIDE))
VARIANCES = np.array([[0.08, 0.04, 0.02], [0.06, 0.03, 0.0]])[:, :, None, None] + np.zeros((SIDE, SIDE))


def place(image, color):
    found = np.argwhere((abs(image.astype(int) - np.round(np.multiply(color, 255))) <= 1).all(-1))
    assert len(found) >= SIDE * SIDE
    return np.median(found, axis=0)


def test_means_stand_left_of_variances_which_have_one_scale():
    image = draw_alignment(MEANS, VARIANCES, labels=["a", "b"], heading="all")
    colors = mpl.colormaps[COLORMAP](VARIANCES[..., 0, 0] / 0.08)[..., :3]
    for r in range(2):
        row = [place(image, [MEANS[r, d, 0, 0, 0]] * 3) for d in range(3)] + [place(image, c) for c in colors[r]]
        assert (np.diff([column for _, column in row]) > SIDE).all()
        assert np.ptp([line for line, _ in row]) == 0
    assert place(image, [0.1] * 3)[0] + SIDE < place(image, [0.4] * 3)[0]


def test_examples_are_above_with_their_aligned_ones_below_them():
    examples = np.array([[0.15, 0.25], [0.35, 0.45]])[:, :, None, None, None] + np.zeros((1, SIDE, SIDE))
    image = draw_alignment(MEANS[:1], VARIANCES[:1], examples=examples)
    a, b, c, d = (place(image, [level] * 3) for level in (0.15, 0.25, 0.35, 0.45))
    assert a[0] == b[0] < c[0] - SIDE
    assert c[0] == d[0] < place(image, [0.1] * 3)[0] - SIDE
    assert a[1] == c[1] < b[1] == d[1]


def test_the_same_bytes_again_and_no_variance_at_all():
    one = draw_alignment(MEANS, VARIANCES * 0)
    assert np.array_equal(one, draw_alignment(MEANS, VARIANCES * 0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variances": VARIANCES[:, :2]}, "means have shape"),
        ({"kinds": ("a", "b")}, "for 2 kinds"),
        ({"labels": ["a"]}, "labels holds 1 for 2"),
        ({"examples": MEANS[0]}, "examples have shape"),
        ({"means": MEANS * np.nan}, "means: 2 of 2 hold NaN"),
        ({"variances": VARIANCES - 1}, "a variance is at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        draw_alignment(**{"means": MEANS, "variances": VARIANCES} | change)
