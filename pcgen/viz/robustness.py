"""How accuracies fall with damage: numbers in, image (H, W, 3) out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pcgen.errors import DataError
from pcgen.viz.layout import Image
from pcgen.viz.palette import class_style
from pcgen.viz.plots import figure_and_axes, pixels

PANELS = {"kept": "points kept (%)", "outliers": "outliers added (% of the points)", "jitter": "jitter of each point"}


def draw_robustness(
    curves: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]], *, chance: float | None = None, title: str = ""
) -> Image:
    """Draw three panels, one for each kind of damage, with a line for each classifier; damage grows to the right.

    Args:
        curves: Levels (L,) and accuracies (L,) in [0, 1] by the name of the classifier and that of the damage:
            `kept` (shares of the points, above 0), `outliers` (shares) and `jitter`.
        chance: Accuracy of the commonest class, drawn as a line, if given.
        title: Words above.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If there is no curve, or levels and accuracies are not as many.
    """
    if not curves or not all(set(PANELS) <= set(each) for each in curves.values()):
        raise DataError(f"curves hold {', '.join(curves) or 'nothing'}; give {', '.join(PANELS)} for each classifier")
    figure, found = figure_and_axes(width=13.5, height=4.3, panels=3)
    for axes, (name, words) in zip(found, PANELS.items(), strict=True):
        for k, each in enumerate(curves.values()):
            _draw(axes, name, each[name], k)
        _dress(axes, name, words, np.unique(np.concatenate([np.ravel(each[name][0]) for each in curves.values()])))
        if chance is not None:
            axes.axhline(100 * chance, color="#9aa3ad", linewidth=1, linestyle="--")
    low = min(axes.get_ylim()[0] for axes in found)
    for axes in found:
        axes.set_ylim(max(0.0, low), 101)
    found[0].set_ylabel("test accuracy (%)")
    handles = found[0].get_lines()[: len(curves)]
    figure.legend(handles, list(curves), loc="outside lower center", ncols=min(4, len(curves)), frameon=False)
    figure.suptitle(title)
    return pixels(figure)


def _draw(axes: Any, name: str, curve: tuple[ArrayLike, ArrayLike], k: int) -> None:
    levels, accuracy = (np.asarray(each, dtype=np.float64) for each in curve)
    if levels.shape != accuracy.shape or levels.ndim != 1 or not len(levels):
        raise DataError(f"{name} has levels {levels.shape} and accuracies {accuracy.shape}; give (L,) of each")
    color = class_style(k)[0]
    marker = "osD^vPX*"[k % 8]
    axes.plot(_shown(name, levels), 100 * accuracy, color=color, marker=marker, markersize=4.5, linewidth=1.6)


def _dress(axes: Any, name: str, words: str, levels: Any) -> None:
    axes.set_title(words)
    axes.grid(color="#e4e6e8", linewidth=0.8)
    if name == "kept":  # halving the points again and again is evenly spread so
        axes.set_xscale("log")
        axes.set_xticks(100 * levels, [f"{100 * level:g}" for level in levels])
        axes.minorticks_off()
        axes.invert_xaxis()


def _shown(name: str, levels: Any) -> Any:
    return levels if name == "jitter" else 100 * levels
