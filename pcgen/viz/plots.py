"""Curves and scatter plots: numbers in, image (H, W, 3) out. Matplotlib's global state (pyplot) is left alone."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import DataError
from pcgen.viz.layout import PAPER, Image
from pcgen.viz.palette import CLASS_COLORS, class_style

DPI = 110
Curve = dict[str, NDArray[Any]]  # lines (K, 2) by split
_SPLITS = ("train", "val", "test")
_STYLES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
_SHARE = re.compile(r"accuracy|coverage|diversity|share")  # in a quantity's name
LOG_SPAN = 30.0  # curves whose values span more than this factor are drawn on a logarithmic axis


def draw_embedding(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    class_names: Sequence[str] = (),
    *,
    values: ArrayLike | None = None,
    value_name: str = "",
    title: str = "",
    axis_names: tuple[str, str] = ("", ""),
) -> Image:
    """Draw points of the plane, coloured by class or by a number.

    Args:
        points: (K, 2), finite.
        labels: Class indices (K,), or None.
        class_names: Names for the legend; a class without one is shown by its number.
        values: Numbers (K,) shown as colour when there are no labels, or None.
        value_name: Words beside the colour scale.
        title: Words above.
        axis_names: Words along the two axes. Without them the axes carry no numbers, as in t-SNE, where they mean
            nothing.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If there is no point, one is NaN or infinite, or labels or values are not one for each.
    """
    xy = _checked_points(points)
    figure, axes = figure_and_axes(width=6.4, height=5.2)
    if labels is not None:
        _scatter_classes(axes, xy, _one_each(labels, xy, "labels").astype(int), class_names)
    elif values is not None:
        colors = _one_each(values, xy, "values")
        shown = axes.scatter(xy[:, 0], xy[:, 1], c=colors, s=_dot(xy), cmap="viridis", linewidths=0)
        figure.colorbar(shown, ax=axes, label=value_name)
    else:
        axes.scatter(xy[:, 0], xy[:, 1], s=_dot(xy), color=CLASS_COLORS[0], linewidths=0, alpha=0.8)
    axes.set(title=title, xlabel=axis_names[0], ylabel=axis_names[1])
    if not any(axis_names):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return pixels(figure)


def draw_curves(
    history: Mapping[str, Sequence[tuple[float, float]]],
    *,
    panels: Sequence[Sequence[str]] | None = None,
    x_name: str = "epoch",
    title: str = "",
) -> Image:
    """Draw curves, a panel for each quantity or group of quantities and a line for each split.

    In a panel of one quantity the colour says which split a line is of; in a panel of several it says which quantity,
    and the line's style says which split.

    Args:
        history: (x, y) pairs by name; `"train/kl"` and `"val/kl"` are the quantity `kl`. Values that are not finite
            leave a gap. A panel whose values are all positive and far apart has a logarithmic axis, which is written
            beside it; shares, such as accuracies and coverage, never have one.
        panels: The quantities of each panel, such as `[["loss"], ["energy_real", "energy_fake"]]`; those without
            values are left out. None gives every quantity its own.
        x_name: Words along the horizontal axes.
        title: Words above; of one panel, in the place of its own.

    Returns:
        (H, W, 3). More than three panels stand in rows.

    Raises:
        DataError: If there is nothing to draw.
    """
    curves = _curves(history)
    groups = [[quantity] for quantity in curves] if panels is None else panels
    shown = [{name: curves[name] for name in group if name in curves} for group in groups]
    shown = [panel for panel in shown if panel]
    if not shown:
        raise DataError(f"history has no values to draw (its names: {', '.join(history) or 'none'})")
    columns = len(shown) if len(shown) <= 3 else math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    figure, found = figure_and_axes(width=4.4 * columns, height=3.6 * rows, panels=columns, rows=rows)
    all_axes = np.ravel(found)
    for axes, panel in zip(all_axes, shown, strict=False):
        _draw_panel(axes, panel, x_name)
    for axes in all_axes[len(shown) :]:
        axes.set_axis_off()
    if title and len(shown) == 1:
        all_axes[0].set_title(title)  # the legend names what is drawn
    else:
        figure.suptitle(title)
    return pixels(figure)


def draw_bars(
    heights: ArrayLike, *, threshold: float, title: str = "", axis_names: tuple[str, str] = ("", "")
) -> Image:
    """Draw one bar for each value, the largest first, those above a threshold in colour.

    Args:
        heights: (K,), finite.
        threshold: Drawn as a line; values at or below it are pale.
        title: Words above.
        axis_names: Words along the two axes.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If there is no value, or one is NaN or infinite.
    """
    values = np.sort(np.asarray(heights, dtype=np.float64).ravel())[::-1]
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"heights are {values}; give at least one finite number")
    figure, axes = figure_and_axes(width=7.0, height=3.6)
    colors = [CLASS_COLORS[0] if value > threshold else "#c9ced4" for value in values]
    axes.bar(np.arange(1, len(values) + 1), values, color=colors, width=0.85)
    axes.axhline(threshold, color="#6b7280", linewidth=0.8, linestyle="--")
    axes.set(title=title, xlabel=axis_names[0], ylabel=axis_names[1], xlim=(0.4, len(values) + 0.6))
    return pixels(figure)


def _curves(history: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Curve]:
    """Give for each quantity that has values its lines (K, 2) by split."""
    curves: dict[str, Curve] = {}
    for name, pairs in history.items():
        if len(pairs):
            split, _, quantity = name.rpartition("/")
            curves.setdefault(quantity, {})[split] = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    return curves


def _draw_panel(axes: Any, curves: dict[str, Curve], x_name: str) -> None:
    several = len(curves) > 1
    splits = sorted({split for lines in curves.values() for split in lines}, key=_order)
    for k, lines in enumerate(curves.values()):
        for split, xy in lines.items():
            color = CLASS_COLORS[k % len(CLASS_COLORS) if several else _order(split)]
            style = _STYLES[_order(split)] if len(splits) > 1 and several else "-"
            mark = "o" if len(xy) < 25 else None
            axes.plot(xy[:, 0], xy[:, 1], color=color, linestyle=style, marker=mark, markersize=3.5, label=split)
    far = not all(map(_SHARE.search, curves)) and _far_apart(
        np.concatenate([xy[:, 1] for lines in curves.values() for xy in lines.values()])
    )
    axes.set_yscale("log" if far else "linear")
    axes.set(title=_panel_title(list(curves), splits), xlabel=x_name, ylabel="logarithmic" if far else "")
    axes.grid(color="#e4e6e8", linewidth=0.8)
    axes.xaxis.get_major_locator().set_params(integer=True)  # there is no half of an epoch or step
    if several:
        _group_legend(axes, list(curves), splits)
    elif any(splits):
        axes.legend(frameon=False)


def _panel_title(names: list[str], splits: list[str]) -> str:
    """Name the quantities, and the split where the legend of a group need not tell several apart."""
    only = f" ({splits[0]})" if len(names) > 1 and len(splits) == 1 and splits[0] else ""
    return textwrap.fill(", ".join(names) + only, 42)


def _group_legend(axes: Any, names: list[str], splits: list[str]) -> None:
    """Explain colours, and below them styles where there are several."""
    from matplotlib.lines import Line2D

    colors = [CLASS_COLORS[k % len(CLASS_COLORS)] for k in range(len(names))]
    lines = [Line2D([], [], color=color, label=name) for color, name in zip(colors, names, strict=True)]
    if len(splits) > 1:
        lines += [Line2D([], [], color="#6b7280", linestyle=_STYLES[_order(s)], label=s or "all") for s in splits]
    axes.legend(handles=lines, fontsize="small", framealpha=0.8, edgecolor="none", handlelength=2.4)


def _order(split: str) -> int:
    return _SPLITS.index(split) if split in _SPLITS else 0


def _far_apart(values: NDArray[Any]) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() > 0 and finite.max() / finite.min() > LOG_SPAN)


def _scatter_classes(axes: Any, xy: NDArray[Any], labels: NDArray[Any], names: Sequence[str]) -> None:
    for label in np.unique(labels):
        color, marker = class_style(int(label))
        name = names[label] if 0 <= label < len(names) else str(label)
        mine = xy[labels == label]
        axes.scatter(mine[:, 0], mine[:, 1], s=_dot(xy), c=color, marker=marker, linewidths=0, alpha=0.8, label=name)
    columns = 1 + (len(np.unique(labels)) - 1) // 20
    legend = axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=columns, fontsize="small", markerscale=1.4
    )
    for handle in legend.legend_handles:
        handle.set_alpha(1)


def _dot(xy: NDArray[Any]) -> float:
    return float(np.clip(9000 / len(xy), 7, 45))


def _checked_points(points: ArrayLike) -> NDArray[Any]:
    xy = np.asarray(points, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0:
        raise DataError(f"points have shape {xy.shape}; give (K, 2) with at least one point")
    if not np.isfinite(xy).all():
        bad = int((~np.isfinite(xy)).any(axis=1).sum())
        raise DataError(f"{bad} of {len(xy)} points hold NaN or infinity; leave them out")
    return xy


def _one_each(given: ArrayLike, xy: NDArray[Any], name: str) -> NDArray[Any]:
    array = np.asarray(given)
    if array.shape != (len(xy),):
        raise DataError(f"{name} has shape {array.shape} for {len(xy)} points; give one for each")
    return array


def figure_and_axes(*, width: float, height: float, panels: int = 1, rows: int = 1) -> tuple[Any, Any]:
    """Give an empty figure, sizes in inches, and its axes: an array of them for several panels in a row, or rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=(PAPER / 255,) * 3)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, panels)
    for one in np.ravel(axes):
        one.set_facecolor("white")
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def pixels(figure: Any) -> Image:
    """Draw a figure into an image (H, W, 3)."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3].copy()
