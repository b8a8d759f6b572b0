"""Codes against the prior."""

import numpy as np
import pytest
from scipy.stats import kstest

from pcgen.errors import DataError
from pcgen.viz import draw_latent_histogram, histogram
from pcgen.viz.histogram import _density, distance_to_normal

RNG = np.random.default_rng(0)


def test_the_distance_to_the_prior_is_that_of_kolmogorov_and_smirnov():
    z = RNG.normal(size=(300, 4)) * [1, 0.1, 3, 1] + [0, 0, 0, 2]
    assert np.allclose(distance_to_normal(z), [kstest(z[:, k], "norm").statistic for k in range(4)])


def test_a_histogram_is_a_density_even_of_what_lies_outside():
    heights, edges = _density(RNG.normal(size=20000), 1.0, 40)
    inside = 0.6827  # of N(0, 1) within one standard deviation
    assert (heights * np.diff(edges)).sum() == pytest.approx(inside, abs=0.02)


@pytest.mark.parametrize("Z", [1, 2, 40, 41, 512])
def test_any_number_of_dimensions_is_drawn(Z, monkeypatch):
    said = []
    monkeypatch.setattr(histogram, "pixels", lambda figure: said.append(figure) or np.zeros((1, 1, 3), np.uint8))
    z = RNG.normal(size=(50, Z)) * np.linspace(0.1, 2, Z) + 0.3
    z[:, -1] = 9.0  # as far from N(0, 1) as can be, and without width
    draw_latent_histogram(z, title="title")
    left, right = said[0].axes
    assert f"mean {z.mean():.2f}, standard deviation {z.std():.2f}" in left.get_title()
    names = [text.get_text() for text in left.get_legend().get_texts()]
    assert names[-1] == "N(0, 1)"
    if Z > 1:
        assert f"z{Z - 1}, farthest" in names[2]
        assert f"z{np.argmin(distance_to_normal(z))}, nearest" in names[1]
    assert right.get_ylim()[1] > np.abs(z).mean(axis=0).max()


def test_a_dimension_that_leaves_the_panel_says_how_high_it_goes(monkeypatch):
    said = []
    monkeypatch.setattr(histogram, "pixels", lambda figure: said.append(figure) or np.zeros((1, 1, 3), np.uint8))
    z = RNG.normal(size=(400, 12))
    for narrow, leaves in ((0.5, False), (0.01, True)):
        z[:, 1] *= narrow
        draw_latent_histogram(z)
        left = said.pop().axes[0]
        _, near, far, _ = (text.get_text() for text in left.get_legend().get_texts())
        highest = _density(z[:, 1], 4.0, 40)[0].max()
        assert (highest > left.get_ylim()[1]) == leaves
        assert far.endswith(f", up to {highest:.2g}" if leaves else ")")
        assert far.startswith("z1, farthest")
        assert "up to" not in near


def test_it_is_an_image_and_shows_what_the_codes_are():
    wide, narrow = (draw_latent_histogram(s * RNG.normal(size=(200, 3))) for s in (1.0, 0.3))
    assert wide.dtype == np.uint8
    assert wide.ndim == 3
    assert not np.array_equal(wide, narrow)


@pytest.mark.parametrize(
    ("codes", "says"),
    [(np.zeros((1, 3)), "at least two"), (np.zeros(4), r"\(4,\)"), (np.full((3, 2), np.nan), "3 of 3 codes hold NaN")],
)
def test_what_cannot_be_drawn_is_refused(codes, says):
    with pytest.raises(DataError, match=says):
        draw_latent_histogram(codes)
