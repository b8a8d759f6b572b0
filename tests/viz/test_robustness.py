import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import draw_robustness

COLORS = {"blue": (0, 114, 178), "orange": (230, 159, 0)}


def curves(level):
    steps = np.linspace(0, 1, 5)
    return {
        "kept": ((1, 0.5, 0.25, 0.12, 0.06), 0.9 * level - 0.3 * steps),
        "outliers": (steps / 4, np.full(5, 0.9 * level)),
        "jitter": (steps / 100, np.full(5, 0.9 * level)),
    }


def rows_of(image, color):
    """Heights at which a colour stands in the right panel, above the legend."""
    near = (np.abs(image.astype(int) - COLORS[color]).sum(-1) < 40)[: int(0.8 * len(image)), -400:]
    return np.flatnonzero(near.any(1))


def test_the_better_one_is_drawn_above_and_the_legend_names_all():
    image = draw_robustness({"one": curves(1.0), "two": curves(0.5)}, title="A title")
    assert image.dtype == np.uint8
    assert image.shape[1] > 3 * image.shape[0] * 0.9
    assert rows_of(image, "blue").mean() < rows_of(image, "orange").mean() - 30
    alone = draw_robustness({"one": curves(1.0)})
    assert not len(rows_of(alone, "orange"))


def test_chance_is_a_line_and_a_single_level_is_drawn():
    found = {"one": {name: (levels[:1], values[:1]) for name, (levels, values) in curves(1.0).items()}}
    assert (draw_robustness(found) != draw_robustness(found, chance=0.5)).any()


@pytest.mark.parametrize("given", [{}, {"one": {"kept": ([1], [1])}}])
def test_missing_curves_are_refused(given):
    with pytest.raises(DataError, match="give kept, outliers, jitter"):
        draw_robustness(given)


def test_curves_of_other_lengths_are_refused():
    with pytest.raises(DataError, match=r"outliers has levels \(5,\) and accuracies \(4,\)"):
        draw_robustness({"one": curves(1.0) | {"outliers": (np.arange(5), np.arange(4))}})
