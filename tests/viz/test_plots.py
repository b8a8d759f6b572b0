"""Curves, scatter plots and the projections that they show."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA

from pcgen.errors import DataError
from pcgen.viz import draw_curves, draw_embedding, principal_components, tsne
from pcgen.viz.palette import CLASS_COLORS, class_style


def has_color(image, color):
    rgb = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
    return (np.abs(image.astype(int) - rgb).max(axis=-1) < 12).sum() > 20


def clusters(n=20, dimensions=6, seed=0):
    rng = np.random.default_rng(seed)
    centers = 8 * rng.normal(size=(4, dimensions))
    labels = np.repeat(np.arange(4), n)
    return centers[labels] + rng.normal(size=(4 * n, dimensions)), labels


def test_every_class_has_its_colour():
    xy, labels = clusters(dimensions=2)
    image = draw_embedding(xy, labels, ["a", "b", "c", "d"], title="four")
    assert [has_color(image, color) for color in CLASS_COLORS[:5]] == [True] * 4 + [False]


def test_sixty_four_classes_look_different():
    assert len({class_style(k) for k in range(64)}) == 64


def test_values_are_shown_as_colours_with_a_scale():
    xy, labels = clusters(dimensions=2)
    image = draw_embedding(xy, values=labels.astype(float), value_name="height")
    assert has_color(image, "#440154")  # both ends of the colour scale
    assert has_color(image, "#fde725")


def test_one_point_is_enough():
    assert draw_embedding(np.zeros((1, 2)), [0]).ndim == 3
    assert draw_embedding(np.zeros((1, 2))).ndim == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((np.zeros((0, 2)),), r"\(0, 2\)"),
        ((np.zeros((4, 3)),), r"\(4, 3\)"),
        ((np.full((4, 2), np.nan),), "4 of 4"),
        ((np.zeros((4, 2)), np.zeros(3, int)), "labels has shape"),
    ],
)
def test_embeddings_that_cannot_be_drawn_are_refused(arguments, says):
    with pytest.raises(DataError, match=says):
        draw_embedding(*arguments)


def test_curves_have_a_panel_for_each_quantity_and_a_line_for_each_split():
    pairs = [(k, 1.0 / k) for k in range(1, 9)]
    one = draw_curves({"train/loss": pairs})
    both = draw_curves({"train/loss": pairs, "val/loss": [(x, 2 * y) for x, y in pairs], "train/kl": pairs})
    assert abs(both.shape[1] / one.shape[1] - 2) < 0.02
    assert not has_color(one, CLASS_COLORS[1])
    assert has_color(both, CLASS_COLORS[1])


@pytest.fixture
def axes_of(monkeypatch):
    """Draws curves and gives Matplotlib's axes that were shown."""
    from pcgen.viz import plots

    figures, pixels = [], plots.pixels
    monkeypatch.setattr(plots, "pixels", lambda figure: figures.append(figure) or pixels(figure))

    def draw(history, **how):
        draw_curves(history, **how)
        return [axes for axes in figures[-1].axes if axes.axison]

    return draw


def curve(*values):
    return list(enumerate(map(float, values), 1))


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_group_shares_a_panel_and_says_which_line_is_what(axes_of):
    history = {f"{split}/{name}": curve(k, k + 1) for split in ("train", "val") for k, name in enumerate("abc", 1)}
    group, alone = axes_of(history, panels=[["a", "b", "missing"], ["c"], ["also missing"]])
    assert (group.get_title(), alone.get_title()) == ("a, b", "c")
    assert legend(group) == ["a", "b", "train", "val"]
    seen = [(line.get_color(), line.get_linestyle(), line.get_ydata()[0]) for line in group.get_lines()]
    blue, orange = CLASS_COLORS[:2]
    assert seen == [(blue, "-", 1), (blue, "--", 1), (orange, "-", 2), (orange, "--", 2)]
    assert legend(alone) == ["train", "val"]
    assert {line.get_linestyle() for line in alone.get_lines()} == {"-"}


def test_a_title_takes_the_place_of_a_single_panels_own(axes_of):
    history = {"a": curve(1, 2), "b": curve(2, 3)}
    (axes,) = axes_of(history, panels=[["a", "b"]], title="of a sweep")
    assert (axes.get_title(), axes.figure.get_suptitle(), legend(axes)) == ("of a sweep", "", ["a", "b"])
    axes, _ = axes_of(history, title="of both")
    assert (axes.get_title(), axes.figure.get_suptitle()) == ("a", "of both")


def test_what_one_split_alone_has_is_drawn_in_that_splits_colour(axes_of):
    history = {"train/a": curve(1, 2), "val/b": curve(1, 2), "val/c": curve(2, 3)}
    a, b, group = axes_of(history, panels=[["a"], ["b"], ["b", "c"]])
    assert [axes.get_lines()[0].get_color() for axes in (a, b)] == list(CLASS_COLORS[:2])
    assert (legend(a), legend(b)) == (["train"], ["val"])
    assert (group.get_title(), legend(group)) == ("b, c (val)", ["b", "c"])


@pytest.mark.parametrize(
    ("values", "scale"),
    [((1, 100), "log"), ((1, 10), "linear"), ((-1, -100), "linear"), ((-0.1, 0.5, 100), "linear"), ((0, 9), "linear")],
)
def test_a_logarithmic_axis_is_for_positive_values_and_says_so(axes_of, values, scale):
    for history, panels in (({"train/x": curve(*values)}, None), ({"x": curve(*values), "y": curve(1)}, [["x", "y"]])):
        (axes,) = axes_of(history, panels=panels)
        assert axes.get_yscale() == scale
        assert axes.get_ylabel() == ("logarithmic" if scale == "log" else "")
        low, high = axes.get_ylim()
        assert low <= min(values) < max(values) <= high


def test_shares_are_never_on_a_logarithmic_axis(axes_of):
    history = {"train/accuracy_real": curve(0.01, 1), "val/coverage": curve(0.01, 1), "val/kl": curve(0.01, 1)}
    panels = [["accuracy_real"], ["accuracy_real", "coverage"], ["kl"], ["kl", "coverage"]]
    assert [axes.get_yscale() for axes in axes_of(history, panels=panels)] == ["linear", "linear", "log", "log"]


def test_epochs_are_whole_numbers(axes_of):
    (axes,) = axes_of({"train/x": curve(1, 2)})
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(float(tick).is_integer() for tick in ticks)


@pytest.mark.parametrize(
    ("count", "grid"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (6, (2, 3)), (7, (3, 3))]
)
def test_many_panels_stand_in_rows(axes_of, count, grid):
    axes = axes_of({f"train/q{k}": curve(k, k + 1) for k in range(count)})
    assert [one.get_title() for one in axes] == [f"q{k}" for k in range(count)]
    assert axes[0].get_gridspec().get_geometry() == grid


def test_curves_survive_nan_and_single_values_and_refuse_nothing_at_all():
    assert draw_curves({"loss": [(1, float("nan")), (2, float("inf"))], "val/kl": [(3, 1.0)]}).ndim == 3
    with pytest.raises(DataError, match=r"train/loss"):
        draw_curves({"train/loss": []})
    with pytest.raises(DataError, match="none"):
        draw_curves({})
    with pytest.raises(DataError, match=r"its names: train/loss"):
        draw_curves({"train/loss": [(1, 1.0)]}, panels=[["kl"]])


def test_principal_components_are_scikit_learns_up_to_sign():
    codes, _ = clusters()
    ours, share = principal_components(codes)
    theirs = PCA(2).fit(codes)
    signs = np.sign((ours * theirs.transform(codes)).sum(axis=0))
    assert np.allclose(ours, theirs.transform(codes) * signs)
    assert np.allclose(share, theirs.explained_variance_ratio_)
    assert (ours[np.abs(ours).argmax(axis=0), [0, 1]] > 0).all()


def test_codes_of_one_dimension_and_constant_codes_have_a_plane_too():
    plane, share = principal_components(np.array([[-1.0], [0.0], [3.0]]))
    assert np.allclose(plane[:, 1], 0)
    assert np.allclose(np.diff(plane[:, 0]), [1, 3])
    assert np.allclose(share, [1, 0])
    assert np.allclose(principal_components(np.ones((4, 3)))[0], 0)


def test_tsne_keeps_neighbours_and_repeats_itself():
    codes, labels = clusters()
    layout = tsne(codes, perplexity=10)
    apart = np.linalg.norm(layout[:, None] - layout[None], axis=-1) + np.diag(np.full(len(layout), np.inf))
    assert (labels[apart.argmin(axis=1)] == labels).mean() > 0.95
    assert (layout == tsne(codes, perplexity=10)).all()


def test_tsne_of_few_or_equal_or_broken_codes():
    assert np.isfinite(tsne(np.ones((6, 3)))).all()
    with pytest.raises(DataError, match="at least 5"):
        tsne(np.zeros((4, 3)))
    with pytest.raises(DataError, match="1 of 9"):
        tsne(np.where(np.arange(9)[:, None] == 4, np.nan, np.zeros((9, 2))))
    with pytest.raises(DataError, match=r"\(0, 3\)"):
        principal_components(np.zeros((0, 3)))


def test_importing_is_cheap_and_pyplot_is_left_alone():
    program = (
        "import sys, numpy as np, pcgen.viz as v\n"
        "heavy = {'matplotlib', 'scipy', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "v.draw_curves({'a': [(1, 2)]}); v.draw_embedding(np.eye(2)); v.draw_clouds(np.eye(3)[None], titles=['x'])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_bars_stand_in_order_and_the_small_ones_are_pale():
    from pcgen.viz import draw_bars

    image = draw_bars([0.001, 3.0, 1.0], threshold=0.01, title="t", axis_names=("a", "b"))
    assert image.ndim == 3
    assert np.array_equal(image, draw_bars([1.0, 0.001, 3.0], threshold=0.01, title="t", axis_names=("a", "b")))
    assert not np.array_equal(image, draw_bars([1.0, 0.001, 3.0], threshold=2.0, title="t", axis_names=("a", "b")))
    with pytest.raises(DataError, match="finite"):
        draw_bars([float("nan")], threshold=0.01)
