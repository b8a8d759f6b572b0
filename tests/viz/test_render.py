"""The renderer against geometry done by hand and a loop over every pixel and point."""

import warnings

import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import draw_clouds, draw_interpolations, draw_pairs, draw_rows
from pcgen.viz.render import MARGIN, PAPER, Camera, _splat, render_cloud

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)
BACKGROUND = int(PAPER * 255 + 0.5)


def drawn(image):
    """Pixels that are not background, which is grey; points are coloured."""
    return np.ptp(image.astype(int), axis=-1) > 20


def redness(image):
    return image[..., 0].astype(int) - image[..., 2]


def sphere(n=4000, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


@pytest.mark.parametrize("up_axis", [0, 1, 2])
def test_camera_is_a_rotation_with_the_up_axis_up(up_axis):
    axes = Camera(33.0, 20.0, up_axis).axes()
    assert np.allclose(axes @ axes.T, np.eye(3))
    assert np.isclose(np.linalg.det(axes), 1)  # no mirror: a left-handed chair stays one
    up = np.eye(3)[up_axis]
    assert np.allclose(Camera(33.0, 20.0, up_axis).view(up), [0, np.cos(np.radians(20)), np.sin(np.radians(20))])


@pytest.mark.parametrize("up_axis", [0, 1, 2])
def test_the_highest_points_are_at_the_top(up_axis):
    cloud = np.random.default_rng(1).uniform(-0.2, 0.2, size=(600, 3))
    cloud[:, up_axis] = np.linspace(-1, 1, 600)
    colors = np.where(cloud[:, [up_axis]] > 0, RED, BLUE)
    image = render_cloud(cloud, camera=Camera(up_axis=up_axis), size=150, colors=colors)
    mask = drawn(image)
    red, blue = np.nonzero(mask & (redness(image) > 0))[0], np.nonzero(mask & (redness(image) < 0))[0]
    assert len(red) > 200
    assert len(blue) > 200
    assert np.quantile(red, 0.95) < np.quantile(blue, 0.3)


@pytest.mark.parametrize("front", [RED, BLUE])
@pytest.mark.parametrize("order", [1, -1])
def test_what_is_in_front_hides_what_is_behind(front, order):
    camera = Camera(azimuth=25.0, elevation=15.0)
    right, up, toward = camera.axes()
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 50), np.linspace(-1, 1, 50)), axis=-1).reshape(-1, 2)
    plate = grid @ np.stack([right, up])
    back = BLUE if front == RED else RED
    cloud = np.concatenate([plate + 0.8 * toward, plate - 0.8 * toward])[::order]
    colors = np.concatenate([np.tile(front, (2500, 1)), np.tile(back, (2500, 1))])[::order]
    image = render_cloud(cloud, camera=camera, size=120, colors=colors, radius=0.05, shadow=False)
    middle = redness(image)[50:70, 50:70]
    assert (middle > 0).all() if front == RED else (middle < 0).all()


def test_depth_buffer_equals_a_loop_over_points_and_pixels():
    rng = np.random.default_rng(3)
    size, radius = 16, 2.3
    view = np.column_stack([rng.uniform(-11, 11, size=(60, 2)), rng.uniform(-8, 8, 60)])  # some of it outside
    index, depth, bulge = _splat(view, radius, size)
    for row in range(2 * size):
        for column in range(2 * size):
            x, y = (column + 0.5) / 2 - size / 2, size / 2 - (row + 0.5) / 2
            height2 = radius**2 - (view[:, 0] - x) ** 2 - (view[:, 1] - y) ** 2
            near = np.where(height2 >= 0, view[:, 2] + np.sqrt(np.maximum(height2, 0)), -np.inf)
            if np.abs(height2).min() < 1e-4:
                continue  # on a disc's rim either answer is right
            assert index[row, column] == (near.argmax() if near.max() > -np.inf else -1)
            if near.max() > -np.inf:
                assert np.isclose(depth[row, column], near.max(), atol=1e-4)
                assert np.isclose(bulge[row, column], (near.max() - view[near.argmax(), 2]) / radius, atol=1e-3)
            else:
                assert depth[row, column] == -np.inf


@pytest.mark.parametrize("elevation", [0.0, 22.0, 70.0])
def test_a_sphere_is_round(elevation):
    image = render_cloud(sphere() + 5, camera=Camera(40.0, elevation), size=200, shadow=False)
    mask = np.abs(image.astype(int) - BACKGROUND).max(axis=-1) > 12
    height, width = extent(mask)
    assert abs(height - width) <= 2
    assert abs(mask.sum() / (np.pi / 4 * height * width) - 1) < 0.03


def test_lengths_are_those_of_an_orthographic_camera():
    camera = Camera(azimuth=0.0, elevation=30.0)  # the second axis runs to the right
    for axis, seen in ((1, 1.0), (2, np.cos(np.radians(30)))):
        cloud = np.zeros((400, 3))
        cloud[:, axis] = np.linspace(-0.5, 0.5, 400)
        like = np.array([[0, -1, 0], [0, 1, 0], [0, 0, -0.1], [0, 0, 0.1]])
        image = render_cloud(cloud, camera=camera, size=300, like=like, radius=0.02, shadow=False)
        pixels = max(extent(drawn(image)))
        half = 300 * (0.5 - MARGIN) / 1.02  # pixels of a length of 1
        assert abs(pixels - (seen + 2 * 0.02) * half) < 3


def test_near_is_dark_and_far_is_light():
    camera = Camera()
    toward = camera.axes()[2]
    ball = 0.2 * sphere(800)
    frame = np.concatenate([ball + toward, ball - toward])
    near, far = (
        render_cloud(ball + side * toward, camera=camera, size=100, like=frame, shadow=False) for side in (1, -1)
    )
    assert near[drawn(near)].mean() + 30 < far[drawn(far)].mean()


@pytest.mark.parametrize("colored", [False, True])
def test_the_order_of_the_points_does_not_matter_to_a_single_byte(colored):
    rng = np.random.default_rng(5)
    cloud = np.concatenate([rng.normal(size=(700, 3)), np.zeros((5, 3)), rng.integers(0, 2, size=(300, 3))])
    values = rng.uniform(size=len(cloud))
    images = []
    for _ in range(3):
        order = rng.permutation(len(cloud))
        given = {"values": values[order]} if colored else {}
        images.append(draw_clouds(cloud[order][None].astype(np.float32), **given).tobytes())
    assert len(set(images)) == 1


def test_twice_the_same_bytes_and_another_cloud_other_bytes():
    clouds = np.random.default_rng(6).normal(size=(5, 300, 3))
    assert draw_clouds(clouds).tobytes() == draw_clouds(clouds).tobytes()
    assert draw_clouds(clouds).tobytes() != draw_clouds(clouds[::-1]).tobytes()


def test_units_do_not_matter():
    cloud = np.random.default_rng(7).normal(size=(500, 3))
    small, large = (
        render_cloud(cloud * scale + scale * 3, camera=Camera(), size=100).astype(int) for scale in (1.0, 2.0**12)
    )
    assert np.abs(small - large).max() <= 2


def test_reconstructions_are_drawn_at_the_scale_of_the_originals():
    ball = sphere(1500)
    image = draw_pairs(ball[None], 0.5 * ball[None], labels=("a", "b"), size=160)
    big, little = image[: image.shape[0] // 2], image[image.shape[0] // 2 :]
    blue = [extent((half[..., 2].astype(int) - half[..., 0]) > 40)[1] for half in (big, little)]
    assert 0.45 < blue[1] / blue[0] < 0.58


def test_a_shadow_falls_below_and_only_darkens():
    ball = sphere(800) + np.array([0, 0, 3.0])
    like = np.concatenate([ball, [[0, 0, 0]]])
    bare, shaded = (
        render_cloud(ball, camera=Camera(), size=120, like=like, shadow=shadow).astype(int) for shadow in (False, True)
    )
    changed = (shaded != bare).any(axis=-1)
    assert changed.sum() > 100
    assert (shaded <= bare).all()
    assert np.nonzero(changed)[0].min() > np.nonzero(drawn(bare))[0].mean()


@pytest.mark.parametrize(
    "cloud",
    [np.zeros((1, 3)), np.ones((2, 3)), np.eye(3), np.linspace(0, 1, 30)[:, None] * np.ones(3), np.eye(3) * 1e-9],
    ids=["one point", "twice the same", "three", "a line", "tiny"],
)
def test_degenerate_clouds_are_drawn_without_a_complaint(cloud):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn(draw_clouds(cloud[None], size=80)).sum() > 5


@pytest.mark.parametrize(
    ("clouds", "says"),
    [
        (np.zeros((0, 10, 3)), r"\(0, 10, 3\)"),
        (np.zeros((2, 0, 3)), r"\(2, 0, 3\)"),
        (np.zeros((10, 3)), r"\(10, 3\)"),
        (np.zeros((1, 10, 4)), r"\(1, 10, 4\)"),
        (np.full((3, 10, 3), np.nan), "3 of 3"),
        (np.where(np.arange(60).reshape(2, 10, 3) == 59, np.inf, 0), "1 of 2.*index 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(clouds, says):
    with pytest.raises(DataError, match=says):
        draw_clouds(clouds)


def test_arguments_that_do_not_belong_together_are_refused():
    clouds = np.random.default_rng(0).normal(size=(2, 10, 3))
    for arguments, says in (
        ({"titles": ["one"]}, "titles holds 1 for 2"),
        ({"columns": 0}, "columns is 0"),
        ({"values": np.zeros(9)}, "values has shape"),
        ({"values": np.full(10, np.nan)}, "NaN"),
        ({"values": np.zeros(10), "color": RED}, "both"),
        ({"like": clouds[:1]}, "like holds 1"),
    ):
        with pytest.raises(DataError, match=says):
            draw_clouds(clouds, **arguments)
    with pytest.raises(DataError, match="labels holds 1 for 2"):
        draw_rows([clouds, clouds], labels=["a"])
    with pytest.raises(DataError, match="rows is empty"):
        draw_rows([])
    with pytest.raises(DataError, match="two for each"):
        draw_interpolations(clouds[None], clouds[None, :1])
