"""Deformations as pictures: where lines stand, which point has which colour, what is beside what."""

import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import draw_correspondence, draw_decompositions, draw_swaps
from pcgen.viz.cells import framed
from pcgen.viz.deformations import DARKEST, DONORS, LIGHTEST, place_colors
from pcgen.viz.lattice import COLORS, LEVELS, enlarged, lattice_cells, line_strength
from pcgen.viz.layout import GAP, PAPER

RNG = np.random.default_rng(0)
SIDE, TIMES = 17, 8
LEVEL = np.linspace(-1, 1, LEVELS)


def identity(side=SIDE):
    x = np.linspace(-1, 1, side)
    return np.stack(np.meshgrid(x, x, indexing="xy"), -1)


def pixels(places, side=SIDE, times=TIMES):
    """Where a place in −1 … 1 of an image lies in its enlarged picture, in pixels."""
    return ((np.asarray(places) + 1) / 2 * (side - 1) + 0.5) * times - 0.5


def peaks(strength):
    """Centres of mass of the runs above 0 of a row."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], strength > 0, [0]])))
    return [np.average(np.arange(a, b), weights=strength[a:b]) for a, b in ends.reshape(-1, 2)]


# ── the lattice ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_enlarging_is_bilinear_and_goes_on_beyond_the_outermost_centres():
    field = RNG.normal(size=(5, 6, 2))
    got = enlarged(field, 3)
    assert got.shape == (15, 18, 2)
    np.testing.assert_allclose(got[1::3, 1::3], field)  # the middle of three is the pixel's own centre
    np.testing.assert_allclose(got[1, 2], field[0, 0] + (field[0, 1] - field[0, 0]) / 3)
    np.testing.assert_allclose(got[1, 0], field[0, 0] - (field[0, 1] - field[0, 0]) / 3)
    np.testing.assert_allclose(enlarged(identity(), TIMES)[..., 0], np.broadcast_to(
        (np.arange(SIDE * TIMES) + 0.5) / TIMES / (SIDE - 1) * 2 - 1 - 1 / (SIDE - 1), (SIDE * TIMES,) * 2
    ))  # fmt: skip


def test_at_the_identity_lines_are_straight_and_evenly_spaced():
    field = enlarged(identity(), TIMES)
    for strength in (line_strength(field[..., 0]), line_strength(field[..., 1]).T):
        assert (strength == strength[0]).all()
        np.testing.assert_allclose(peaks(strength[0]), pixels(LEVEL), atol=1e-6)


def test_a_warp_moves_the_lines_where_its_levels_lie():
    grid = identity()
    grid[..., 0] = grid[..., 0] + 0.2 * grid[..., 1]  # W_x = x + 0.2 y
    strength = line_strength(enlarged(grid, TIMES)[..., 0])
    for row in (20, 68, 110):
        y = (row + 0.5) / TIMES / (SIDE - 1) * 2 - 1 - 1 / (SIDE - 1)
        expected = pixels(LEVEL - 0.2 * y)
        expected = expected[(expected > 2) & (expected < SIDE * TIMES - 3)]
        found = np.array([p for p in peaks(strength[row]) if 2 < p < SIDE * TIMES - 3])
        np.testing.assert_allclose(found, expected, atol=0.35)


def test_lines_are_dense_where_little_room_shows_much_and_absent_beyond_the_template():
    grid = identity()
    grid[..., 0] = 2 * grid[..., 0]  # the template fills the middle half
    found = peaks(line_strength(enlarged(grid, TIMES)[..., 0])[40])
    np.testing.assert_allclose(found, pixels(LEVEL / 2), atol=1e-6)


def test_a_line_is_equally_wide_however_steep_the_field():
    widths = [
        line_strength(s * np.broadcast_to(np.arange(-50, 50) / 50, (10, 100)))[5, 40:61].sum() for s in (0.3, 0.7)
    ]
    np.testing.assert_allclose(widths, 1.5, atol=0.05)


def test_a_plateau_has_finite_lines():
    assert np.isfinite(line_strength(np.full((9, 9), 0.1))).all()
    assert (line_strength(np.full((9, 9), 0.1)) == 0).all()


def test_both_kinds_of_lines_have_their_colours_over_a_pale_picture():
    behind = np.full((SIDE * TIMES, SIDE * TIMES, 3), 0, np.uint8)
    (cell,) = lattice_cells(identity()[None], [behind], TIMES)
    x, y = (round(p) for p in pixels([0, 0.125]))  # a level of x, and between two of y
    assert abs(cell[y, x].astype(int) - COLORS[0]).max() < 70
    assert abs(cell[x, y].astype(int) - COLORS[1]).max() < 70
    assert 100 < cell[y, y].min() < PAPER  # neither black nor paper


# ── images ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def flat(*levels, side=SIDE):
    return np.broadcast_to(np.reshape(levels, (-1, 1, 1, 1)), (len(levels), 1, side, side))


def parts(K=2):
    rows = (np.arange(5 * K).reshape(5, K) + 1) / (5 * K + 1)
    return [flat(*row) for row in rows]


def middle(image, level):
    found = np.argwhere((image == int(level * 255 + 0.5)).all(axis=-1))
    assert len(found) > 1000
    return np.median(found, axis=0)


def test_each_datum_has_a_column_and_each_part_a_row():
    inputs, made, template, albedo, _ = parts()
    grids = np.broadcast_to(identity(), (2, SIDE, SIDE, 2))
    shading = 1 + np.stack([np.full((1, SIDE, SIDE), -0.4), np.full((1, SIDE, SIDE), 0.0)])
    layers = {"albedo": albedo, "shading": shading}
    image = draw_decompositions(inputs, made, template, grids, layers, titles=["a", "b"], heading="all")
    places = np.array([[middle(image, row[k, 0, 0, 0]) for k in range(2)] for row in (inputs, made, template, albedo)])
    assert (np.diff(places[:, :, 0], axis=0) > 130).all()
    assert (places[:, 1, 1] > places[:, 0, 1] + 130).all()
    below = places[3, :, 0] + (places[3, :, 0] - places[2, :, 0])
    assert (image[int(below[0]), int(places[3, 0, 1])] == 0).all()  # the darkest of the row
    assert (image[int(below[1]), int(places[3, 1, 1])] == 128).all()  # 1 is grey
    blue = (image == COLORS[0]).all(-1)
    assert blue.any()
    assert np.argwhere(blue)[:, 0].min() > below[0]  # the lattice is the last row
    without = draw_decompositions(inputs, made, template, grids, titles=["a", "b"], heading="all")
    assert image.shape[0] - without.shape[0] == 2 * (9 * SIDE + GAP)
    assert np.array_equal(without, draw_decompositions(inputs, made, template, grids, titles=["a", "b"], heading="all"))


def test_colour_images_are_drawn():
    x = RNG.random((2, 3, 8, 8))
    image = draw_decompositions(x, x, x, np.broadcast_to(identity(8), (2, 8, 8, 2)))
    assert (np.ptp(image.astype(int), axis=-1) > 50).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"templates": flat(0.1)}, "templates have shape"),
        ({"reconstructions": flat(0.1, 0.2, side=8)}, "reconstructions have shape"),
        ({"deformations": np.zeros((2, SIDE, SIDE, 3))}, "deformations have shape"),
        ({"layers": {"albedo": flat(0.1)}}, "albedo have shape"),
        ({"layers": {"gloss": flat(0.1, 0.2)}}, "no layer 'gloss'"),
        ({"deformations": np.full((2, SIDE, SIDE, 2), np.nan)}, "NaN"),
        ({"inputs": np.zeros((2, 3))}, "inputs have shape"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    inputs, made, template, *_ = parts()
    given = {
        "inputs": inputs,
        "reconstructions": made,
        "templates": template,
        "deformations": np.zeros((2, SIDE, SIDE, 2)),
    }
    with pytest.raises(DataError, match=words):
        draw_decompositions(**given | change)


# ── clouds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_point_has_the_colour_of_its_place():
    template = RNG.normal(size=(50, 3))
    colors = place_colors(template)
    lo, hi = template.min(0), template.max(0)
    np.testing.assert_allclose((colors - DARKEST) / (LIGHTEST - DARKEST), (template - lo) / (hi - lo))
    assert np.isfinite(place_colors(np.zeros((4, 3)))).all()


def corners(first):
    """Two far clumps along x of which one is red and one is not; `first` says which index is at the left."""
    left, right = (RNG.normal([x, 0, 0], 0.05, (60, 3)) for x in (-1, 1))
    return np.concatenate([left, right] if first else [right, left])


def redness(image):
    return image[..., 0].astype(int) - image[..., 2]


def test_corresponding_points_keep_their_colour_where_they_are_elsewhere():
    template, turned = corners(True), corners(False)
    image = draw_correspondence(np.stack([template, turned]), template, size=120, columns=3)
    cells = np.split(image[-130:, 6 : 6 + 3 * 126], 3, axis=1)
    hue = []
    for cell in cells:
        colored = np.ptp(cell.astype(int), axis=-1) > 15
        red = colored & (redness(cell) > 0)
        columns = np.arange(cell.shape[1])
        hue.append(columns[red.any(0)].mean() - columns[(colored & (redness(cell) < 0)).any(0)].mean())
    assert abs(hue[0]) > 30
    assert hue[1] == pytest.approx(hue[0], abs=20)
    assert hue[2] == pytest.approx(-hue[0], abs=20)  # the other clump is where the first was


def test_clouds_have_rows_of_template_and_displacement():
    template = RNG.normal(size=(3, 40, 3))
    moved = template + 0.1 * RNG.normal(size=template.shape)
    inputs = RNG.normal(size=(3, 25, 3))
    image = draw_decompositions(inputs, moved, template, moved - template, titles=list("abc"), size=60)
    assert image.shape[0] > 4 * 60
    assert image.shape[1] > 3 * 60
    again = draw_decompositions(inputs, moved, template, moved - template, titles=list("abc"), size=60)
    assert np.array_equal(image, again)
    with pytest.raises(DataError, match="deformations have shape"):
        draw_decompositions(inputs, moved, template, np.zeros((3, 40, 2)))
    with pytest.raises(DataError, match="no layer 'albedo' of clouds"):
        draw_decompositions(inputs, moved, template, moved - template, {"albedo": template})


def test_correspondence_that_does_not_fit_is_refused():
    clouds = RNG.normal(size=(2, 10, 3))
    with pytest.raises(DataError, match="a point for each"):
        draw_correspondence(clouds, clouds[0, :5])
    with pytest.raises(DataError, match="titles holds 1 for 2"):
        draw_correspondence(clouds, clouds[0], titles=["a"])
    with pytest.raises(DataError, match="columns is 0"):
        draw_correspondence(clouds, clouds[0], columns=0)


# ── swaps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_swap_stands_right_of_its_shape_and_below_its_appearance():
    levels = (np.arange(11) + 1) / 13
    first, second = flat(*levels[:2], side=96), flat(*levels[2:5], side=96)
    matrix = flat(*levels[5:11], side=96).reshape(2, 3, 1, 96, 96)
    image = draw_swaps(first, second, matrix, titles=list("xyz"), row_labels=["p", "q"], heading="swap")
    left = [middle(image, level) for level in levels[:2]]
    above = [middle(image, level) for level in levels[2:5]]
    for a in range(2):
        for b in range(3):
            np.testing.assert_array_equal(middle(image, levels[5 + 3 * a + b]), [left[a][0], above[b][1]])
    frames = [(image == color).all(-1) for color in DONORS]
    around = (framed(np.zeros((96, 96, 3), np.uint8), (1, 1, 1)) == 1).all(-1).sum()
    assert [frame.sum() for frame in frames] == [2 * around, 3 * around]


def test_swapped_clouds_share_one_frame():
    first, second = RNG.normal(size=(1, 40, 3)), RNG.normal(size=(2, 40, 3))
    matrix = RNG.normal(size=(1, 2, 40, 3))
    small = draw_swaps(first, second, matrix, size=60)
    second[1] *= 5
    large = draw_swaps(first, second, matrix, size=60)
    colored = [(np.ptp(image[70:].astype(int), axis=-1) > 20).sum() for image in (small, large)]
    assert colored[1] < 0.7 * colored[0]  # the lower row shrank with the upper


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"swapped": np.zeros((3, 2, 1, 8, 8))}, "swapped has shape"),
        ({"appearance_donors": np.zeros((3, 20, 3))}, "swapped has shape"),
        ({"titles": ["a"]}, "titles holds 1 for 3"),
        ({"row_labels": ["a"]}, "row_labels holds 1 for 2"),
        ({"swapped": np.full((2, 3, 1, 8, 8), np.inf)}, "swapped: 2 of 2 hold NaN"),
    ],
)
def test_swaps_that_do_not_fit_are_refused(change, words):
    given = {
        "shape_donors": np.zeros((2, 1, 8, 8)),
        "appearance_donors": np.zeros((3, 1, 8, 8)),
        "swapped": np.zeros((2, 3, 1, 8, 8)),
    }
    with pytest.raises(DataError, match=words):
        draw_swaps(**given | change)
