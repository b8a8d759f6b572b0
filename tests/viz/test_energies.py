"""The picture of energies: what its rows hold, and that it looks the same for the same data."""

import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import draw_energies, energies
from pcgen.viz.energies import HEAD, NAMES, bin_edges, ends, short_number
from pcgen.viz.layout import GAP, PAPER
from pcgen.viz.render import Camera

RNG = np.random.default_rng(0)


def clouds(n):
    return RNG.normal(size=(n, 60, 3)).astype(np.float32)


def drawn(monkeypatch, *given, **how):
    """The figure of the histograms, before it becomes an image."""
    figures, empty = [], energies._empty
    monkeypatch.setattr(energies, "_empty", lambda *size: figures.append(empty(*size)) or figures[-1])
    image = draw_energies(*given, **how)
    return figures[0], image


@pytest.mark.parametrize(
    ("sets", "scale"),
    [
        ([[1.0, 2.0], [9.0]], "linear"),
        ([[1.0, 2.0], [500.0]], "log"),
        ([[-1.0, 2.0], [20.0]], "linear"),
        ([[-1.0, 2.0], [500.0]], "asinh"),
        ([[0.0, 2.0], [500.0]], "asinh"),
    ],
)
def test_the_axis_suits_the_energies_and_bins_are_even_on_it(sets, scale):
    named = {str(k): np.array(v) for k, v in enumerate(sets)}
    edges, found = bin_edges(named)
    assert found.name == scale
    places = {"linear": lambda: edges, "log": lambda: np.log(edges)}.get(
        scale, lambda: np.arcsinh((edges - found.center) / found.width)
    )
    assert np.allclose(np.diff(places(), n=2), 0, atol=1e-9 * abs(edges).max())
    assert all(np.histogram(values, edges)[0].sum() == len(values) for values in named.values())


@pytest.mark.parametrize("far", [700.0, -3e5, 1e9])
def test_the_data_stay_readable_beside_energies_that_are_far_away(monkeypatch, far):
    """Of a model whose energies have both signs, with noise far from the data."""
    sets = {"val": RNG.normal(-5, 10, 200), "samples": RNG.normal(8, 12, 200), "noise": RNG.normal(far, 20, 200)}
    figure, _ = drawn(monkeypatch, sets)
    for axes, name in zip(figure.axes, sets, strict=True):
        heights = axes.patches[0].get_data().values
        assert (heights > 0).sum() >= (1 if name == "noise" else 8)
        first, last = axes.transAxes.inverted().transform(axes.transData.transform([(-20, 0), (10, 0)]))[:, 0]
        assert last - first > 0.06  # a linear axis would leave it 30 of 700 at most
    labels = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert 4 <= len(labels) == len(set(labels)) <= 7
    assert "axis: log far from val" in figure.texts[-1].get_text()


def test_the_axis_says_nothing_of_itself_where_it_is_plain(monkeypatch):
    figure, _ = drawn(monkeypatch, {"val": RNG.normal(0, 1, 50), "noise": RNG.normal(4, 1, 50)})
    assert "axis" not in figure.texts[-1].get_text()


@pytest.mark.parametrize("value", [0.0, 7.3, -2e9, 1e-12])
def test_a_single_value_has_a_place(value):
    edges, _ = bin_edges({"one": np.array([value, value])})
    assert (np.diff(edges) > 0).all()
    assert np.histogram([value], edges)[0].sum() == 1


def test_the_margin_is_on_the_axis():
    edges, _ = bin_edges({"data": np.array([1.0, 2.0])}, 5.0)
    assert (edges[0], edges[-1]) == (1, 5)


def test_ends_are_the_extremes_and_none_comes_twice():
    values = RNG.permutation(20).astype(float)
    assert values[ends(values, 3)].tolist() == [0, 1, 2, 17, 18, 19]
    for n in range(1, 7):
        assert ends(np.arange(n, dtype=float), 3).tolist() == list(range(n))
    assert sorted(ends(np.zeros(9), 4).tolist()) == [0, 1, 2, 3, 5, 6, 7, 8]  # equal ones too


def test_every_set_has_a_row_with_its_own_heights(monkeypatch):
    sets = {"val": RNG.normal(1, 0.1, 100), "lamp": RNG.normal(2, 0.3, 40), "sofa": RNG.normal(3, 0.1, 7)}
    figure, _ = drawn(monkeypatch, sets, notes={"lamp": "AUROC 0.9"}, margin=2.5)
    edges, _ = bin_edges(sets, 2.5)
    for k, (axes, values) in enumerate(zip(figure.axes, sets.values(), strict=True)):
        counts = np.histogram(values, edges)[0]
        filled, *outline = axes.patches
        assert np.allclose(filled.get_data().values, counts / counts.max())
        assert len(outline) == (k > 0)
        assert all(np.allclose(line.get_data().values, figure.axes[0].patches[0].get_data().values) for line in outline)
        median, margin = (line.get_xdata()[0] for line in axes.lines)
        assert (median, margin) == (np.median(values), 2.5)
        assert axes.get_xlim() == (edges[0], edges[-1])
    words = [text.get_text() for text in figure.texts]
    assert words[:6] == ["val", "n = 100", "lamp", "n = 40\nAUROC 0.9", "sofa", "n = 7"]
    assert "outline: val" in words[6]


def test_thumbnails_stand_level_with_their_histograms(monkeypatch):
    """The lowest datum of each set is where its row's axes are, right of the panel."""
    sets = {"a": np.arange(5.0), "b": np.arange(3.0)}
    data = {"a": np.zeros((5, 1, 8, 8)), "b": np.ones((3, 1, 8, 8))}
    figure, image = drawn(monkeypatch, sets, data, num_shown=2)
    height = figure.get_size_inches()[1] * figure.dpi
    for name, axes, shade in zip(sets, figure.axes, (0, 255), strict=True):
        box = axes.get_position()
        top, bottom = GAP + height * (1 - box.y1), GAP + height * (1 - box.y0)
        cells = (image[:, GAP + NAMES + 600 :] == shade).all(-1).sum(1) > 100
        rows = np.flatnonzero(cells)
        assert len(rows) == 96, name
        assert top - GAP < rows[0]
        assert rows[-1] < bottom + 2 * GAP


def test_missing_data_leave_paper_and_images_and_clouds_are_drawn():
    sets = {"a": RNG.random(9), "b": RNG.random(1)}
    without = draw_energies(sets)
    assert without.dtype == np.uint8
    some = draw_energies(sets, {"a": clouds(9)}, num_shown=2, title="title")
    assert some.shape[1] > without.shape[1]
    right = some[:, without.shape[1] + GAP :]
    lower = right[-(right.shape[0] // 3) :]
    assert (lower == PAPER).all()
    assert (right[HEAD:] != PAPER).any()
    images = draw_energies(sets, {"a": RNG.random((9, 3, 10, 10)), "b": RNG.random((1, 3, 10, 10))}, num_shown=3)
    assert images.shape[1] > without.shape[1]


def test_the_lowest_and_the_highest_are_shown(monkeypatch):
    values, x = np.array([5.0, 1.0, 3.0, 2.0, 4.0]), clouds(5)
    shown = []
    cells = energies.cloud_cells
    monkeypatch.setattr(energies, "cloud_cells", lambda c, **how: shown.append((c, how)) or cells(c, **how))
    draw_energies({"a": values}, {"a": x}, num_shown=2, up_axis=1, size=50)
    [(found, how)] = shown
    assert np.array_equal(found, x[[1, 3, 4, 0]])
    assert how["camera"] == Camera(up_axis=1)
    assert how["size"] == 50


def test_numbers_are_short():
    given = (0.0, 1.23456, -0.00123456, 999.9, 1234.5, -20000.0, 3.2e7)
    assert [short_number(v) for v in given] == ["0", "1.23", "−0.00123", "1e+03", "1234", "−20000", "3.2e+07"]


@pytest.mark.parametrize(
    ("sets", "data", "says"),
    [
        ({}, None, "at least one set"),
        ({"a": [np.nan]}, None, "energies of a: give finite"),
        ({"a": []}, None, "energies of a"),
        ({"a": [1.0, 2.0]}, {"a": np.zeros((3, 5, 3))}, "3 data for 2 energies of a"),
    ],
)
def test_what_cannot_be_drawn_is_refused(sets, data, says):
    with pytest.raises(DataError, match=says):
        draw_energies(sets, data)
