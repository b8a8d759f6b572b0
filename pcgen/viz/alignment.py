"""A set of images before and after it was brought into one frame: means, and where they still differ."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pcgen.errors import DataError
from pcgen.viz.cells import check_finite, enlargement, image_cells
from pcgen.viz.layout import Image, arrange, below
from pcgen.viz.render import Array

KINDS = ("input", "aligned", "texture")
COLORMAP = "magma"
SIZE = 128  # least side of a cell in pixels


def draw_alignment(
    means: ArrayLike,
    variances: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    kinds: Sequence[str] = KINDS,
    examples: ArrayLike | None = None,
    heading: str = "",
) -> Image:
    """Draw the means of sets of images and the maps of their variances, before and after they were aligned.

    One row a set: the means, then the variance of each pixel over the set with its mean over the pixels above. All
    variance maps are on one scale, from black for none.

    Args:
        means: (R, D, C, H, W): of D kinds for each of R sets.
        variances: (R, D, H, W), not below 0.
        labels: Words left of each row.
        kinds: D words.
        examples: Single data before and after (2, K, C, H, W), drawn above one another before everything else, or None.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the shapes do not fit, or something is NaN or infinite.
    """
    rows, maps = np.asarray(means, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    _check(rows, maps, kinds, labels)
    R, D = maps.shape[:2]
    pictures = [[*image_cells(rows[r], SIZE), *_map_cells(maps[r], maps.max())] for r in range(R)]
    numbers = [[f"{maps[r, d].mean():.3g}" for d in range(D)] for r in range(R)]
    named = [f"{kind} variance  {number}" for kind, number in zip(kinds, numbers[0], strict=True)]
    first = [*(f"mean {kind}" for kind in kinds), *named]
    titles = [first, *([""] * D + numbers[r] for r in range(1, R))]
    if examples is None:
        return arrange(pictures, titles=titles, labels=labels, heading=heading)
    return below([_examples(examples, kinds, heading), arrange(pictures, titles=titles, labels=labels)])


def _examples(examples: ArrayLike, kinds: Sequence[str], heading: str) -> Image:
    pair = np.asarray(examples, dtype=np.float64)
    if pair.ndim != 5 or len(pair) != 2:
        raise DataError(f"examples have shape {pair.shape}; give (2, K, C, H, W), inputs before aligned ones")
    return arrange([image_cells(row, SIZE) for row in pair], labels=kinds[:2], heading=heading)


def _map_cells(maps: Array, most: float) -> list[Image]:
    """Draw variances (D, H, W) as colours from 0 to the most."""
    import matplotlib as mpl

    times = enlargement(maps.shape[1:], SIZE)
    colors = mpl.colormaps[COLORMAP](maps / (most or 1.0))[..., :3]  # (D, H, W, 3)
    return list((colors.repeat(times, 1).repeat(times, 2) * 255 + 0.5).astype(np.uint8))


def _check(means: Array, variances: Array, kinds: Sequence[str], labels: Sequence[str] | None) -> None:
    shape = (*means.shape[:2], *means.shape[3:])
    if means.ndim != 5 or 0 in means.shape or variances.shape != shape or means.shape[1] != len(kinds):
        raise DataError(
            f"means have shape {means.shape} and variances {variances.shape} for {len(kinds)} kinds; give (R, D, C, H, "
            "W) and (R, D, H, W)"
        )
    if labels is not None and len(labels) != len(means):
        raise DataError(f"labels holds {len(labels)} for {len(means)} rows; give one for each")
    check_finite(means, "means")
    check_finite(variances, "variances")
    if variances.min() < 0:
        raise DataError(f"variances go down to {variances.min():.3g}; a variance is at least 0")
