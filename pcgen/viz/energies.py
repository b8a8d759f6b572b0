"""Energies of several sets and what is lowest and highest in each: numbers and data in, image (H, W, 3) out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import DataError
from pcgen.viz.cells import LEAST_IMAGE_SIDE, cloud_cells, image_cells
from pcgen.viz.layout import GAP, PAPER, TITLE, Image, beside, set_words
from pcgen.viz.palette import class_style
from pcgen.viz.plots import DPI
from pcgen.viz.render import Camera
from pcgen.viz.scales import MIDDLE_PLACES, Scale, choose_scale

Floats = NDArray[np.float64]

NAMES, PANEL = 160, 520  # pixels across for the names of the sets and for their histograms
HEAD, FOOT, WORDS = 34, 52, 20  # pixels up and down: above the rows, below them, above a cell
LEAST, MOST = 12, 60  # bins
AT_END = 0.03  # of the axis: numbers so near to its ends are set inwards, lest they are cut off
REFERENCE = "#9aa3ad"


def draw_energies(
    energies: Mapping[str, ArrayLike],
    data: Mapping[str, ArrayLike] | None = None,
    *,
    notes: Mapping[str, str] | None = None,
    margin: float | None = None,
    num_shown: int = 4,
    up_axis: int = 2,
    size: int = LEAST_IMAGE_SIDE,
    title: str = "",
) -> Image:
    """Draw the energies of sets of data over one axis, a row for each set, with its lowest and highest beside it.

    Each row has the set's histogram, filled, and the first set's as an outline; the bins are the same in all rows, the
    heights relative to the highest bin. Where all energies are positive and far apart, the axis is logarithmic; where
    the first set would be too narrow to be read, since others are far away, it is straight about that set's median and
    logarithmic farther out, and the words below say so. The bins are even on the axis.

    Args:
        energies: (n,) by the name of the set, finite; the first set is what the others are compared with.
        data: The data of each set, (n, N, 3) or (n, C, H, W), in the order of its energies; None, or a set that is
            missing, for no pictures.
        notes: Words below a set's name, such as its AUROC.
        margin: Drawn as a line through all rows, if given.
        num_shown: Data at each end of a set.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        title: Words above.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If there is no set, an energy is NaN or infinite, or the data are not one for each energy.
    """
    sets = {name: _checked(given, name) for name, given in energies.items()}
    if not sets:
        raise DataError("energies is empty; give at least one set")
    strips = _strips(sets, data or {}, num_shown, Camera(up_axis=up_axis), size)
    row = max([size + WORDS, *(strip.shape[0] for strip in strips.values())])
    parts = [_histograms(sets, notes or {}, margin, row)]
    if strips:
        parts.append(_stacked([strips.get(name) for name in sets], row, num_shown))
    picture = beside(parts)
    heading = [set_words(title, picture.shape[1], TITLE + 2)] if title else []
    framed = np.concatenate([*heading, picture])
    return np.pad(framed, ((GAP, 0), (GAP, GAP), (0, 0)), constant_values=PAPER)


# ── histograms ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _histograms(sets: Mapping[str, Floats], notes: Mapping[str, str], margin: float | None, row: int) -> Image:
    """Draw the rows' histograms, each `row` pixels high and GAP apart, into one image."""
    height, width = HEAD + len(sets) * (row + GAP) + FOOT, NAMES + PANEL
    figure = _empty(width, height)
    edges, scale = bin_edges(sets, margin)
    reference = _heights(next(iter(sets.values())), edges)
    for k, (name, values) in enumerate(sets.items()):
        bottom = height - HEAD - (k + 1) * (row + GAP) + GAP
        place = (NAMES / width, bottom / height, (PANEL - 2 * GAP) / width, 0.93 * row / height)
        axes = figure.add_axes(place, facecolor="none")
        color, last = class_style(k)[0], k == len(sets) - 1
        axes.stairs(_heights(values, edges), edges, fill=True, color=color, alpha=0.75, linewidth=0)
        if k:
            axes.stairs(reference, edges, color=REFERENCE, linewidth=1.3)
        axes.plot([np.median(values)], [0], marker="^", color="black", markersize=6, clip_on=False, zorder=5)
        _dress(axes, edges, scale, last=last)
        if margin is not None:
            axes.axvline(margin, color="black", linewidth=1.2, linestyle="--")
            if not k:
                axes.text(margin, 1.12, "margin", ha="center", va="bottom", fontsize="small")
        _name(figure, name, [f"n = {len(values)}", notes.get(name, "")], color, (bottom + 0.5 * row) / height)
    words = _below(next(iter(sets)), len(sets), scale)
    figure.text((NAMES + PANEL / 2) / width, 6 / height, words, ha="center", va="bottom", fontsize=9)
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3].copy()


def bin_edges(sets: Mapping[str, Floats], margin: float | None = None) -> tuple[Floats, Scale]:
    """Choose bins for all sets together, even on the axis they are drawn on.

    Args:
        sets: Finite energies (n,) by name; the first set is the one that can be read in any case.
        margin: To be on the axis as well, if given.

    Returns:
        Edges (b + 1,), ascending, that hold every energy; and the axis, see `pcgen.viz.scales.choose_scale`.
    """
    also = [] if margin is None else [margin]
    pooled = np.concatenate([*sets.values(), also])
    low, high = float(pooled.min()), float(pooled.max())
    bins = int(np.clip(2.5 * np.sqrt(max(map(len, sets.values()))), LEAST, MOST))
    scale = choose_scale(sets.values(), *also)
    # A single value has no width: it gets some, more than float64 loses in its digits.
    room = 0.0 if high > low else max(abs(low), 1.0) * 1e-3
    first, last = scale.forward(np.array([low - room, high + room])).tolist()
    if scale.name == "asinh":  # what is far away takes much of the axis
        bins = int(np.clip(bins * (last - first) / MIDDLE_PLACES, bins, 2 * MOST))
    edges = scale.inverse(np.linspace(first, last, bins + 1))
    edges[0], edges[-1] = min(low - room, low), max(high + room, high)  # what rounding took
    return edges, scale


def _below(first: str, count: int, scale: Scale) -> str:
    words = ["energy", "▲ median", *([f"outline: {_short(first)}"] if count > 1 else [])]
    if scale.name == "asinh":
        words.append(f"axis: log far from {_short(first)}")
    return "   ".join(words)


def _heights(values: Floats, edges: Floats) -> Floats:
    """Give the counts (b,) of the bins relative to the highest."""
    counts = np.histogram(values, edges)[0]
    return np.asarray(counts / counts.max(), dtype=np.float64)


def _empty(width: int, height: int) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=(PAPER / 255,) * 3)
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Any, edges: Floats, scale: Scale, *, last: bool) -> None:
    _set_scale(axes, edges, scale)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.08), yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#dfe2e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, labelbottom=last)


def _set_scale(axes: Any, edges: Floats, scale: Scale) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    if scale.name == "asinh":
        axes.set_xscale("function", functions=(scale.forward, scale.inverse))
        words = {tick_number(tick): tick for tick in scale.ticks(edges[0], edges[-1])}  # no two that read alike
        ticks = list(words.values())
        axes.set_xticks(ticks, list(words))
        places = np.interp(scale.forward(np.array(ticks)), scale.forward(edges[[0, -1]]), (0, 1))
        for label, place in zip(axes.get_xticklabels(), places, strict=True):
            label.set_ha("left" if place < AT_END else "right" if place > 1 - AT_END else "center")
        return
    axes.set_xscale(scale.name)
    if scale.name == "linear":
        axes.locator_params(axis="x", nbins=7)
    elif edges[-1] / edges[0] < 1e3:  # powers of ten alone would leave the axis nearly bare
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())  # within one decade it would write 3 × 10⁰ between them
        axes.xaxis.set_major_formatter("{x:g}")


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def _name(figure: Any, name: str, notes: list[str], color: str, height: float) -> None:
    right = (NAMES - 2 * GAP) / (NAMES + PANEL)
    figure.text(
        right, height + 0.002, _short(name), ha="right", va="bottom", fontsize=10.5, color=color, fontweight="bold"
    )
    figure.text(right, height - 0.002, "\n".join(filter(None, notes)), ha="right", va="top", fontsize=8.5)


# ── what is lowest and highest ────────────────────────────────────────────────────────────────────────────────────────


def _strips(
    sets: Mapping[str, Floats], data: Mapping[str, ArrayLike], num_shown: int, camera: Camera, size: int
) -> dict[str, Image]:
    """Draw the data at the two ends of each set side by side, their energies above them."""
    strips = {}
    for name, values in sets.items():
        if name not in data:
            continue
        x = np.asarray(data[name])
        if len(x) != len(values):
            raise DataError(f"{len(x)} data for {len(values)} energies of {name}; give one for each")
        rows = ends(values, num_shown)
        cells = image_cells(x[rows]) if x.ndim == 4 else cloud_cells(x[rows], like=None, camera=camera, size=size)
        titled = [_titled(cell, values[i]) for cell, i in zip(cells, rows, strict=True)]
        lowest, blank = (len(rows) + 1) // 2, np.full_like(titled[0], PAPER)
        short = [blank] * (num_shown - lowest)
        strips[name] = beside([*titled[:lowest], *short, *[blank[:, : 2 * GAP]], *titled[lowest:], *short])
    return strips


def ends(energies: Floats, num_shown: int) -> NDArray[np.int64]:
    """Choose the rows of the lowest energies and of the highest, ascending, at most so many of each; none twice."""
    order = np.argsort(energies, kind="stable")
    lowest = min(num_shown, (len(order) + 1) // 2)
    return np.concatenate([order[:lowest], order[lowest:][-num_shown:]])


def _titled(cell: Image, energy: float) -> Image:
    words = set_words(short_number(energy), cell.shape[1], TITLE - 2)[:WORDS]
    above = np.full((WORDS, cell.shape[1], 3), PAPER, np.uint8)
    above[WORDS - len(words) :] = words
    return np.concatenate([above, cell])


def short_number(value: float) -> str:
    """Write a number with three digits, or whole if it is large, without a power of ten as long as that is readable."""
    return (f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}").replace("-", "−")


def tick_number(value: float) -> str:
    """Write a round number in full up to six digits."""
    return f"{value:.6g}".replace("-", "−")


def _stacked(strips: list[Image | None], row: int, num_shown: int) -> Image:
    """Put strips below each other, level with the rows of histograms, under the words for their two halves."""
    width = max(strip.shape[1] for strip in strips if strip is not None)
    height = HEAD + len(strips) * (row + GAP) + FOOT
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    half = width // 2
    for words, start in (("lowest energies", 0), ("highest energies", half)):
        said = set_words(words if num_shown > 1 else words.split()[0], half, TITLE)
        sheet[HEAD - 4 - len(said) : HEAD - 4, start : start + half] = said
    for k, strip in enumerate(strips):
        if strip is not None:
            top = HEAD + k * (row + GAP)
            sheet[top : top + strip.shape[0], : strip.shape[1]] = strip
    return sheet


def _checked(given: ArrayLike, name: str) -> Floats:
    energies = np.asarray(given, dtype=np.float64)
    if energies.ndim != 1 or not len(energies) or not np.isfinite(energies).all():
        raise DataError(f"energies of {name}: give finite numbers (n,), at least one (their shape is {energies.shape})")
    return energies
