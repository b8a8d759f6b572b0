"""Marks stand where they should, and labelled clouds have the colours that the legend says."""

import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import draw_labelled_clouds, draw_marks
from pcgen.viz.transfer import label_colors

BLUE = np.array([0, 114, 178])


def centers(image, color):
    """Mean place (row, column) of the pixels that are exactly of a colour."""
    rows, columns = np.nonzero((image == color).all(-1))
    assert len(rows), "the colour is not there"
    return rows.mean(), columns.mean()


def ground(shape=(1, 8, 8)):
    return np.full((1, *shape), 0.5)


@pytest.mark.parametrize("place", [(0.0, 0.0), (-1.0, 1.0), (0.6, -0.2)])
def test_a_cross_stands_at_its_place(place):
    """The extremes lie at the centres of the outermost of 8 pixels, each enlarged 28 times."""
    blank = draw_marks(ground(), np.full((1, 1, 2), np.nan))
    image = draw_marks(ground(), np.array([[place]]))
    assert image.shape == blank.shape
    grey = np.argwhere((blank == 128).all(-1))
    corner, side = grey.min(0), grey.max(0)[0] - grey.min(0)[0] + 1
    assert side == 224
    x, y = [((v + 1) / 2 * 7 + 0.5) * 28 for v in place]
    row, column = centers(image, BLUE)
    assert row == pytest.approx(corner[0] + y - 0.5, abs=1)
    assert column == pytest.approx(corner[1] + x - 0.5, abs=1)


def test_a_ring_is_around_its_place_and_none_is_drawn_for_nan():
    marks, true = np.array([[[-0.5, 0.0]]]), np.array([[[0.5, 0.0]]])
    alone = draw_marks(ground(), marks)
    both = draw_marks(ground(), marks, true=true)
    assert np.array_equal(draw_marks(ground(), marks, true=np.full((1, 1, 2), np.nan)), alone)
    ring = (both != alone).any(-1)
    assert ring.any()
    rows, columns = np.nonzero(ring)
    middle = round(rows.mean()), round(columns.mean())
    assert tuple(both[middle]) == (128, 128, 128)  # what it is around stays visible
    assert middle[1] - centers(alone, BLUE)[1] == pytest.approx(0.5 * 7 * 28, abs=1.5)


def test_the_source_is_framed_and_marks_have_different_colors():
    images, marks = np.repeat(ground(), 3, 0), np.zeros((3, 12, 2))
    marks[..., 0] = np.linspace(-0.9, 0.9, 12)
    image, framed = (draw_marks(images, marks, titles=["a", "b", "c"], source=source) for source in (False, True))
    assert image.shape[1] == framed.shape[1]
    dark = [(each == (45, 52, 60)).all(-1).sum() for each in (image, framed)]
    assert dark[1] - dark[0] > 2 * 3 * 224
    first, second, third = ((framed[40:] == (45, 52, 60)).all(-1)[:, k * 236 : (k + 1) * 236].sum() for k in range(3))
    assert first > 2 * 3 * 224 + max(second, third)
    assert len(np.unique(label_colors(24), axis=0)) == 24


def test_points_have_the_colors_of_their_labels_and_the_legend_has_those_that_there_are():
    cloud = np.random.default_rng(0).uniform(-1, 1, (2, 300, 3))
    labels = np.full((2, 300), 3)
    names = ["leg", "seat", "back", "arm", "top"]
    one = draw_labelled_clouds([cloud], [labels], names, row_labels=["true"], titles=["a", "b"], heading="parts")
    # A single label: the first colour, whatever its number.
    assert (one[-30:, :30] == BLUE).all(-1).sum() >= 16 * 12
    labels = np.where(cloud[..., 0] > 0, 3, 1)
    two = draw_labelled_clouds([cloud], [labels], names)
    orange = np.array([230, 159, 0])
    for color in (BLUE, orange):
        assert (two[-30:] == color).all(-1).sum() >= 16 * 12
    assert not (two[-30:] == [0, 158, 115]).all(-1).any()
    apart = draw_labelled_clouds([cloud], [np.where(cloud[..., 0] > 0, 1, 3)], names)
    body = slice(0, -40)
    assert (apart[body] != two[body]).any()  # the colours have changed sides
    assert np.array_equal(apart[-30:], two[-30:])  # and the legend has not


def test_long_legends_go_on_below():
    cloud = np.random.default_rng(0).uniform(-1, 1, (1, 200, 3))
    names = [f"a rather long name {k}" for k in range(13)]
    few = draw_labelled_clouds([cloud], [np.zeros((1, 200), int)], names)
    many = draw_labelled_clouds([cloud], [np.arange(200)[None] % 13], names)
    assert many.shape[0] > few.shape[0] + 100


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"marks have shape \(2, 3, 2\) for images \(1, 1, 8, 8\)"):
        draw_marks(ground(), np.zeros((2, 3, 2)))
    with pytest.raises(DataError, match="a place for each mark"):
        draw_marks(ground(), np.zeros((1, 3, 2)), true=np.zeros((1, 2, 2)))
    with pytest.raises(DataError, match="titles holds 2 for 1"):
        draw_marks(ground(), np.zeros((1, 3, 2)), titles=["a", "b"])
    cloud = np.zeros((1, 5, 3))
    with pytest.raises(DataError, match="one for each point"):
        draw_labelled_clouds([cloud], [np.zeros((1, 4), int)], ["a"])
    with pytest.raises(DataError, match="labels go from 0 to 2 and there are 2 names"):
        draw_labelled_clouds([cloud], [np.array([[0, 1, 2, 1, 0]])], ["a", "b"])
