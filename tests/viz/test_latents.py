"""Traversals and sums of codes as pictures: what stands where, by the colours of flat images."""

import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import draw_arithmetic, draw_interpolations, draw_traversal, traversal_frames
from pcgen.viz.latents import MARK
from pcgen.viz.layout import PAPER
from pcgen.viz.render import Camera, _Frame, outermost

RNG = np.random.default_rng(0)
VALUES = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
LABELS = ["z3  KL 2.41", "z0  KL 0.10"]
# Row d, station s is flat with brightness (1 + 5 d + s) / 20, the base with 0.95.
FLAT = np.broadcast_to((1 + np.arange(10).reshape(2, 5, 1, 1, 1)) / 20, (2, 5, 1, 96, 96))
BASE = np.full((1, 96, 96), 0.95)


def middle(image, level):
    """Middle (row, column) of the pixels of one grey."""
    grey = int(level * 255 + 0.5)
    found = np.argwhere((image == grey).all(axis=-1))
    assert len(found) >= 96 * 96
    return np.median(found, axis=0)


def marks(image):
    return (image == MARK).all(axis=-1)


def test_a_row_for_each_dimension_and_the_base_framed_at_its_left():
    image = draw_traversal(FLAT, base=BASE, values=VALUES, labels=LABELS)
    places = np.array([[middle(image, (1 + 5 * d + s) / 20) for s in range(5)] for d in range(2)])
    assert (np.diff(places[..., 1], axis=1) > 96).all()  # columns by value
    assert (np.ptp(places[..., 0], axis=1) == 0).all()
    assert places[1, 0, 0] > places[0, 0, 0] + 96
    framed = np.argwhere(marks(image))
    assert framed[:, 1].max() < places[0, 0, 1] - 48  # left of the first station
    base = (image == int(0.95 * 255 + 0.5)).all(axis=-1)
    assert base.sum() == 2 * 96 * 96  # once a row
    for top in (framed[:, 0].min(), framed[:, 0].max()):  # nothing but the frame lies around it
        assert abs(top - np.flatnonzero(base.any(axis=1))[[0, -1]]).min() <= 3


@pytest.mark.parametrize(("current", "column", "aside"), [(-1.0, 1, 0), (0.5, 2.5, 0), (7.0, 4, 1), (-9.0, 0, -1)])
def test_a_triangle_marks_the_datums_own_value(current, column, aside):
    image = draw_traversal(FLAT[:1], base=BASE, values=VALUES, labels=LABELS[:1], current=[current])
    columns = [middle(image, (1 + s) / 20)[1] for s in range(5)]
    below = int(middle(image, 0.05)[0]) + 48 + 4
    found = np.argwhere(marks(image[below:]))
    assert 10 < len(found) < 100
    x = found[:, 1]
    if aside == 0:
        expected = np.interp(column, range(5), columns)
        assert abs((x.min() + x.max()) / 2 - expected) <= 11  # of 114 a column: a triangle stays whole beside a gap
    else:
        assert abs(x.mean() - columns[column]) < 60
        wide = np.bincount(x - x.min())  # pixels of each column of the triangle
        assert (wide[0] < wide[-1]) == (aside < 0)  # it points outwards


def test_clouds_share_one_frame():
    clouds = RNG.normal(size=(2, 3, 30, 3))
    small = draw_traversal(clouds, base=clouds[0, 1], values=VALUES[:3], labels=LABELS, size=60)
    clouds[1, 2] *= 5
    large = draw_traversal(clouds, base=clouds[0, 1], values=VALUES[:3], labels=LABELS, size=60)
    colored = [(np.ptp(image.astype(int), axis=-1) > 20) & ~marks(image) for image in (small, large)]
    half = small.shape[0] // 2
    assert colored[1][:half].sum() < 0.4 * colored[0][:half].sum()  # the first row shrank with the second


@pytest.mark.parametrize("up_axis", [0, 1, 2])
def test_the_outermost_points_set_the_same_frame(up_axis):
    camera = Camera(up_axis=up_axis)
    points = RNG.normal(size=(500, 3)) * [1, 3, 0.2]
    few = outermost(points, camera)
    assert len(few) <= 13
    whole, same = _Frame.around(points, camera), _Frame.around(few, camera)
    assert (whole.center == same.center).all()
    assert (whole.half, whole.depth, whole.floor) == (same.half, same.depth, same.floor)


def test_an_animation_goes_there_and_back_and_all_cells_move_together():
    frames = traversal_frames(FLAT, values=VALUES, labels=LABELS)
    assert len(frames) == 8
    assert len({frame.shape for frame in frames}) == 1
    stations = [0, 1, 2, 3, 4, 3, 2, 1]
    knobs = []
    for s, frame in zip(stations, frames, strict=True):
        assert middle(frame, (1 + s) / 20)[1] < middle(frame, (6 + s) / 20)[1]  # both dimensions, at one station
        knobs.append(np.argwhere(marks(frame))[:, 1].mean())
    assert np.allclose(knobs[:5], np.linspace(knobs[0], knobs[4], 5), atol=1)
    assert knobs[4] > knobs[0] + 50
    assert all(np.array_equal(frames[s], frames[-s]) for s in (1, 2, 3))


def test_one_narrow_dimension_has_room_for_the_knob_to_move():
    frames = traversal_frames(FLAT[:1], values=VALUES, labels=LABELS[:1])
    knobs = [np.argwhere(marks(frame))[:, 1].mean() for frame in frames[:5]]
    assert np.allclose(knobs, np.linspace(knobs[0], knobs[4], 5), atol=1)
    assert knobs[4] > knobs[0] + 50


def test_clouds_are_animated_in_one_frame():
    clouds = RNG.normal(size=(3, 2, 20, 3))
    frames = traversal_frames(clouds, values=[-1, 1], labels=list("abc"), columns=2, size=50)
    assert len(frames) == 2
    assert frames[0].shape[0] > 100  # two rows of cells
    assert not np.array_equal(*frames)


def test_sums_of_codes_have_a_row_for_each_datum_and_the_reconstruction_framed():
    image = draw_arithmetic(FLAT.swapaxes(0, 1)[:3], np.stack([BASE, BASE]), (0.0, -1.0, 1.5), labels=["a", "b"])
    for d in range(2):
        places = [middle(image, (1 + 5 * d + s) / 20) for s in range(3)]
        assert (np.diff([place[1] for place in places]) > 96).all()
    assert middle(image, 0.95)[1] < middle(image, 0.05)[1]
    framed = np.argwhere(marks(image))[:, 1]
    assert framed.min() < middle(image, 0.05)[1] < framed.max() < middle(image, 0.1)[1] - 48
    clouds = RNG.normal(size=(2, 1, 20, 3))
    assert draw_arithmetic(clouds, clouds[0], (1, 2), size=50).ndim == 3


def test_interpolations_are_drawn_in_one_frame_a_row():
    clouds = RNG.normal(size=(1, 3, 30, 3))
    alone = draw_interpolations(clouds, size=60)
    far = draw_interpolations(np.concatenate([clouds, 4 * clouds]), size=60)
    assert (alone[: alone.shape[0] - 6] == far[: alone.shape[0] - 6]).mean() > 0.95  # the other row has its own


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"values": [0.0, 1.0]}, "2 labels and 2 values"),
        ({"labels": ["a"]}, "1 labels and 5 values"),
        ({"values": [0, 0, 1, 2, 3]}, "ascending"),
        ({"values": [np.nan, 0, 1, 2, 3]}, "ascending"),
        ({"base": np.zeros((5, 3))}, "base has shape"),
        ({"base": np.full((1, 96, 96), np.nan)}, "base: 1 of 1"),
        ({"current": [0.0]}, "current has shape"),
        ({"data": FLAT[0]}, "base has shape"),
        ({"data": FLAT * np.inf}, "data: 2 of 2"),
    ],
)
def test_what_does_not_fit_is_refused(how, says):
    arguments = {"data": FLAT, "base": BASE, "values": VALUES, "labels": LABELS} | how
    with pytest.raises(DataError, match=says):
        draw_traversal(arguments.pop("data"), **arguments)


def test_sums_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="for 2 scales"):
        draw_arithmetic(FLAT.swapaxes(0, 1), np.stack([BASE, BASE]), (0, 1))
    with pytest.raises(DataError, match=r"originals of shape \(1, 1, 96, 96\)"):
        draw_arithmetic(FLAT.swapaxes(0, 1), BASE[None], VALUES)


def test_nothing_is_cut_off_at_the_edges():
    for image in (
        draw_traversal(FLAT, base=BASE, values=1000 * VALUES, labels=["z499  KL 1234.56"] * 2, unit="σ"),
        *traversal_frames(FLAT, values=1000 * VALUES, labels=["z499  KL 1234.56"] * 2, unit="σ"),
    ):
        edge = np.concatenate([image[:2].reshape(-1, 3), image[:, :2].reshape(-1, 3), image[:, -2:].reshape(-1, 3)])
        assert (edge == PAPER).all()
