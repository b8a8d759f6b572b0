"""Grids, words and files."""

import numpy as np
import pytest
from PIL import Image

from pcgen.errors import DataError
from pcgen.viz import below, beside, draw_clouds, draw_images, draw_interpolations, draw_rows, draw_samples, save_png
from pcgen.viz.layout import GAP, PAPER, _fit, _font, arrange

LONG = "a title that is so long that no cell could ever hold it in one line, nor in two of the smallest letters"


def cell(color, side=100):
    return np.full((side, side, 3), color, np.uint8)


def inked(image):
    return (image.astype(int) < PAPER - 60).all(axis=-1)


@pytest.mark.parametrize("words", ["chair", "night stand", LONG, "W" * 80, "", "σ² ≤ ½ – é"])
@pytest.mark.parametrize("width", [40, 100, 300])
def test_words_fit_their_width(words, width):
    lines, size = _fit(words, width, 14)
    assert len(lines) <= 2
    assert all(_font(size).getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "") or lines[0].endswith("…")


def test_titles_are_not_cut_off():
    titles = [LONG, "gjpqy", "Åß"]
    image = arrange([[cell(PAPER)] * 3], titles=[titles], labels=["a long label of a row"], heading="A heading")
    ink = inked(image)
    assert ink.sum() > 200
    assert not ink[:2].any()
    assert not ink[:, :2].any()
    assert not ink[:, -2:].any()


def test_letters_below_the_line_are_whole():
    plain, tailed = (arrange([[cell(PAPER)]], titles=[[word]]) for word in ("x", "g"))
    lowest = [np.flatnonzero(inked(image).any(axis=1)).max() for image in (plain, tailed)]
    assert lowest[1] >= lowest[0] + 2  # the tail of the g is there


def test_cells_keep_their_place_and_short_rows_are_filled():
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    image = arrange([[cell(colors[0]), cell(colors[1])], [cell(colors[2])]])
    found = [np.argwhere((image == color).all(axis=-1)).mean(axis=0) for color in colors]
    assert found[0][0] == found[1][0] < found[2][0]
    assert found[0][1] == found[2][1] < found[1][1]


def test_columns_set_the_width():
    clouds = np.random.default_rng(0).normal(size=(6, 40, 3))
    wide, narrow = (draw_clouds(clouds, columns=columns, size=60) for columns in (6, 2))
    assert wide.shape[1] > 2.7 * narrow.shape[1]
    assert narrow.shape[0] > 2.7 * wide.shape[0]


def test_images_are_shown_pixel_for_pixel():
    image = np.zeros((1, 1, 2, 2))
    image[0, 0, 0, 1] = 1.0
    picture = draw_images(image)
    white, black = (np.argwhere((picture == level).all(axis=-1)) for level in (255, 0))
    assert len(black) == 3 * len(white) == 3 * 48 * 48
    assert white[:, 0].mean() < black[:, 0].mean()
    assert white[:, 1].mean() > black[:, 1].mean()


def test_colour_images_keep_their_colours_and_are_cut_to_the_unit_interval():
    image = np.zeros((1, 3, 4, 4))
    image[:, 0], image[:, 2] = 2.0, -1.0
    assert (draw_images(image) == (255, 0, 0)).all(axis=-1).sum() == 96 * 96


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 2, 4, 4), (4, 4), (1, 1, 0, 4)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(DataError, match="images have shape"):
        draw_images(np.zeros(shape))


def test_images_with_nan_are_refused():
    with pytest.raises(DataError, match="1 of 2"):
        draw_images(np.stack([np.zeros((1, 4, 4)), np.full((1, 4, 4), np.nan)]))


def test_samples_of_either_kind_are_drawn():
    rng = np.random.default_rng(0)
    clouds, images = rng.normal(size=(3, 50, 3)), rng.uniform(size=(3, 1, 8, 8))
    assert draw_samples(clouds, titles=["a", "b", "c"]).tobytes() == draw_clouds(clouds, titles=list("abc")).tobytes()
    assert draw_samples(images).tobytes() == draw_images(images).tobytes()
    assert draw_rows([images, images[:2]], labels=["x", "y"]).ndim == 3


def test_an_interpolation_of_images_and_of_clouds_has_a_cell_for_every_station():
    rng = np.random.default_rng(0)
    clouds = draw_interpolations(rng.normal(size=(2, 5, 40, 3)), rng.normal(size=(2, 2, 60, 3)), size=80)
    images = draw_interpolations(rng.uniform(size=(2, 5, 1, 96, 96)))
    assert clouds.shape[1] // 80 == 7
    assert images.shape[1] // 96 == 5


def test_images_stand_beside_each_other():
    joined = beside([cell((10, 0, 0), 50), cell((20, 0, 0), 80)])
    assert joined.shape[0] == 80
    assert (joined[:50, :50] == (10, 0, 0)).all()
    assert (joined[:, -80:] == (20, 0, 0)).all()
    assert (joined[50:, :50] == PAPER).all()


def test_images_stand_below_each_other():
    image = below([cell(0, 30), cell(9, 50)])
    assert image.shape == (80 + GAP, 50, 3)
    assert (image[:30, :30] == 0).all()
    assert (image[30 + GAP :] == 9).all()
    assert (image[:30, 30:] == PAPER).all()
    assert (image[30 : 30 + GAP] == PAPER).all()


def test_a_png_holds_what_was_drawn(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, size=(20, 30, 3), dtype=np.uint8)
    save_png(tmp_path / "new" / "picture.png", image)
    assert (np.asarray(Image.open(tmp_path / "new" / "picture.png")) == image).all()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["picture.png"]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_leaves_the_old_file_alone(tmp_path, image):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    with pytest.raises(DataError, match=r"picture\.png"):
        save_png(path, image)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
