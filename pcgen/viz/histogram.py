"""Codes against the prior: numbers in, image (H, W, 3) out."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import DataError
from pcgen.viz.layout import Image
from pcgen.viz.palette import CLASS_COLORS
from pcgen.viz.plots import figure_and_axes, pixels

Floats = NDArray[np.float64]

SHOWN = 4.0  # standard deviations, of the prior or of the codes, that are shown to either side
ROOM = 2  # times the height of the histogram of all, for a dimension that is higher
FEW = 40  # dimensions that are drawn one by one
_POOLED, _MOST, _LEAST = "#9fc3de", CLASS_COLORS[2], CLASS_COLORS[4]


def draw_latent_histogram(codes: ArrayLike, *, title: str = "") -> Image:
    """Draw the coordinates of codes against the density of N(0, 1).

    On the left the histogram of all coordinates together and of the two dimensions that are nearest to N(0, 1) and
    farthest from it, by the greatest difference of the distribution functions (Kolmogorov-Smirnov); on the right the
    mean of every dimension and one standard deviation to either side, the widest first.

    Args:
        codes: (K, Z), finite, at least two.
        title: Words above.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If there are fewer than two codes, or one is NaN or infinite.
    """
    z = _checked(codes)
    figure, (left, right) = figure_and_axes(width=10.4, height=4.2, panels=2)
    _histograms(left, z)
    _moments(right, z)
    figure.suptitle(title)
    return pixels(figure)


def distance_to_normal(codes: Floats) -> Floats:
    """Give the Kolmogorov-Smirnov distance (Z,) of each dimension of codes (K, Z) to N(0, 1), between 0 and 1."""
    from scipy.special import ndtr

    n = len(codes)
    below = ndtr(np.sort(codes, axis=0))  # (K, Z)
    steps = np.arange(n + 1)[:, None] / n
    distance: Floats = np.maximum(steps[1:] - below, below - steps[:-1]).max(axis=0)
    return distance


def _histograms(axes: Any, z: Floats) -> None:
    half = SHOWN * max(1.0, float(z.std()))
    pooled = _density(z.ravel(), half, 100)
    axes.stairs(*pooled, fill=True, color=_POOLED, label="all dimensions")
    top, curves = max(1.2 * float(pooled[0].max()), 0.5), []
    if z.shape[1] > 1:
        away = distance_to_normal(z)
        for k, color, word in ((away.argmin(), _MOST, "nearest"), (away.argmax(), _LEAST, "farthest")):
            curves.append((_density(z[:, k], half, 40), color, f"z{k}, {word} (KS {away[k]:.2f})"))
    highest = max((float(heights.max()) for (heights, _), *_ in curves), default=0.0)
    if highest <= ROOM * top:
        top = max(top, 1.05 * highest)
    for (heights, edges), color, words in curves:
        peak = f", up to {heights.max():.2g}" if heights.max() > top else ""  # it leaves the panel
        axes.stairs(heights, edges, color=color, linewidth=1.6, label=words + peak)
    x = np.linspace(-half, half, 400)
    axes.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="black", linewidth=1.6, label="N(0, 1)")
    axes.set(xlim=(-half, half), ylim=(0, top), xlabel="coordinate of a code", ylabel="density")
    outside = float((np.abs(z) > half).mean())
    mean = round(float(z.mean()), 2) + 0.0  # no −0.00
    words = f"mean {mean:.2f}, standard deviation {z.std():.2f}".replace("-", "−")
    axes.set_title(words + (f" ({outside:.1%} lie farther out)" if outside >= 5e-4 else ""), fontsize="medium")
    axes.legend(frameon=False, fontsize="small")


def _density(values: Floats, half: float, most: int) -> tuple[Floats, Floats]:
    bins = int(np.clip(2 * np.sqrt(len(values)), 12, most))
    counts, edges = np.histogram(values, bins=bins, range=(-half, half))
    return counts / (len(values) * (edges[1] - edges[0])), edges  # what lies outside takes its share of the area along


def _moments(axes: Any, z: Floats) -> None:
    order = np.argsort(-z.std(axis=0), kind="stable")
    mean, std, place = z.mean(axis=0)[order], z.std(axis=0)[order], np.arange(1, z.shape[1] + 1)
    for level in (-1, 1):
        axes.axhline(level, color="black", linewidth=1.0, linestyle="--")
    axes.axhline(0, color="black", linewidth=0.8)
    if len(place) <= FEW:
        axes.errorbar(place, mean, std, fmt="o", color=CLASS_COLORS[0], markersize=4, capsize=3)
        axes.set_xticks(place, [f"z{k}" for k in order], fontsize="small", rotation=0 if len(place) <= 12 else 90)
    else:
        axes.fill_between(place, mean - std, mean + std, color=_POOLED, linewidth=0)
        axes.plot(place, mean, color=CLASS_COLORS[0], linewidth=1.2)
    reach = 1.1 * max(1.5, float((np.abs(mean) + std).max()))
    axes.set(xlim=(0.3, len(place) + 0.7), ylim=(-reach, reach), xlabel="latent dimensions, the widest first")
    axes.set_title("mean ± standard deviation of each, N(0, 1) dashed", fontsize="medium")


def _checked(codes: ArrayLike) -> Floats:
    z = np.asarray(codes, dtype=np.float64)
    if z.ndim != 2 or len(z) < 2 or 0 in z.shape:
        raise DataError(f"codes have shape {z.shape}; give (K, Z) with at least two codes")
    if not np.isfinite(z).all():
        bad = int((~np.isfinite(z)).any(axis=1).sum())
        raise DataError(f"{bad} of {len(z)} codes hold NaN or infinity; the encoder has diverged, or the data have")
    return z
