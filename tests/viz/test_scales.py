"""Axes for numbers that are far apart."""

import numpy as np
import pytest

from pcgen.viz.scales import NARROW, Scale, choose_scale

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("scale", [Scale("linear"), Scale("log"), Scale("asinh", -7.0, 0.3)], ids=lambda s: s.name)
def test_places_lead_back_to_the_numbers_and_ascend(scale):
    x = np.sort(np.abs(RNG.normal(size=50)) * 10.0 ** RNG.uniform(-3, 6, 50))
    places = scale.forward(x)
    assert (np.diff(places) > 0).all()
    np.testing.assert_allclose(scale.inverse(places), x, rtol=1e-9)


def test_a_stretched_axis_is_straight_in_the_middle_and_logarithmic_on_both_sides():
    scale = Scale("asinh", 100.0, 2.0)
    near = scale.forward(100 + np.array([-0.02, -0.01, 0.0, 0.01, 0.02]))
    np.testing.assert_allclose(np.diff(near), 0.01 / 2, rtol=1e-3)
    far = 10.0 ** np.arange(3, 9)
    for side in (1, -1):
        np.testing.assert_allclose(np.diff(scale.forward(100 + side * far)), side * np.log(10), rtol=1e-4)


@pytest.mark.parametrize(
    ("others", "name"),
    [([[5.0]], "linear"), ([[20.0]], "asinh"), ([[-20.0]], "asinh"), ([[0.5], [-20.0, 400.0]], "asinh")],
)
def test_the_axis_is_stretched_where_the_first_set_would_be_narrow(others, name):
    first = np.linspace(-0.5, 0.5, 101)  # its middle is 0.9 wide
    sets = [first, *map(np.array, others)]
    scale = choose_scale(sets)
    assert scale.name == name
    pooled = np.concatenate(sets)
    assert (0.9 / np.ptp(pooled) < NARROW) == (name == "asinh")
    if name == "asinh":
        assert (scale.center, scale.width) == pytest.approx((0, 0.45))


def test_positive_numbers_far_apart_are_logarithmic_as_long_as_the_first_set_is_seen():
    assert choose_scale([RNG.lognormal(0, 1, 99), RNG.lognormal(5, 1, 99)]).name == "log"
    assert choose_scale([RNG.normal(1e4, 10, 99), RNG.normal(2e5, 10, 99)]).name == "asinh"


def test_a_number_besides_the_sets_counts_too():
    first = np.linspace(-1, 1, 50)
    assert choose_scale([first]).name == "linear"
    assert choose_scale([first], 1e3).name == "asinh"


def test_sets_of_equal_numbers():
    assert choose_scale([np.zeros(3)]).name == "linear"
    assert choose_scale([np.zeros(3), np.full(3, -9.0)]).name == "linear"
    assert choose_scale([np.zeros(3), np.array([1.0, 2.0]), np.array([-1e4])]).center == 0


@pytest.mark.parametrize(("low", "high"), [(-1424.0, 3224.0), (-3e4, 2e6), (-1200.5, 9e7), (-8e3, -1000.0)])
def test_ticks_are_round_and_evenly_apart(low, high):
    scale = Scale("asinh", -1200.0, 65.0)
    ticks = np.array(scale.ticks(low, high))
    assert 5 <= len(ticks) <= 7
    assert ((low <= ticks) & (ticks <= high)).all()
    places = scale.forward(np.array([low, *ticks, high]))
    gap = (places[-1] - places[0]) / 6
    assert (np.diff(places)[1:-1] > gap / 2).all()
    assert (np.diff(places) < 1.7 * gap).all()
    assert all(len(f"{abs(tick):.0f}".rstrip("0")) <= 4 for tick in ticks)  # few digits that are not zero
