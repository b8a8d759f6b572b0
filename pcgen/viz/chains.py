"""Chains of samples from noise to data, as a grid and as a film: arrays in, images (H, W, 3) out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import DataError
from pcgen.viz.cells import checked_rows, cloud_cells, image_cells
from pcgen.viz.latents import MARK
from pcgen.viz.layout import GAP, PAPER, TITLE, Image, arrange, columns_for, set_words
from pcgen.viz.render import Array, Camera, outermost

REACH = 1.4  # of a frame, relative to what the sample needs: noise that lies farther out is cut off
ABREAST = 4  # so many chains stand side by side before there is a second row
HELD = 14  # frames at the end for which the film shows the samples
BAR, SAYS, RAIL = 6, 52, (214, 218, 222)  # pixels of the bar's height and of the words beside it; RGB of its rest


def evenly(total: int, wanted: int) -> NDArray[np.int64]:
    """Choose at most so many of the states 0 … total − 1, as even as can be, both ends among them."""
    return np.unique(np.linspace(0, total - 1, min(wanted, total)).round().astype(np.int64))


def draw_chains(
    states: ArrayLike,
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    up_axis: int = 2,
    size: int = 140,
    heading: str = "",
) -> Image:
    """Draw chains from noise to data: a row for each sample, a column for each of some states, evenly chosen.

    Each row is in one frame, that of its sample with some space around; a few points of the noise may lie outside.
    Above the columns stands the share of the chain that is done.

    Args:
        states: (F, n, N, 3) or (F, n, C, H, W), F at least 2, the noise first and the samples last, evenly spaced in
            the chain.
        columns: States that are shown; None for all.
        labels: Words left of each row.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If there are fewer than two states or no chain, or a value is NaN or infinite.
    """
    chains = _checked(states)
    if columns is not None and columns < 2:
        raise DataError(f"columns is {columns}; give at least 2, the noise and the sample")
    last = chains.shape[1] - 1
    shown = evenly(last + 1, columns or last + 1)
    camera = Camera(up_axis=up_axis)
    cells = [_cells(chain, shown, camera, size) for chain in chains]
    titles = ["noise", *(f"{_percent(k, last)} %" for k in shown[1:-1]), "sample"]
    return arrange(cells, titles=[titles, *[[]] * (len(cells) - 1)], labels=labels, heading=heading)


def chain_frames(
    states: ArrayLike, *, hold: int = HELD, up_axis: int = 2, size: int = 160, heading: str = ""
) -> list[Image]:
    """Draw the pictures of a film in which noise becomes data: a cell for each sample, and a bar that fills below.

    Args:
        states: As for `draw_chains`; each of the F states is a picture.
        hold: Times that the last picture comes again, so that one sees what has become of the noise.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        F + hold images (H, W, 3) of one size.

    Raises:
        DataError: As `draw_chains`.
    """
    chains = _checked(states)
    n, F = chains.shape[:2]
    camera = Camera(up_axis=up_axis)
    cells = [_cells(chain, np.arange(F), camera, size) for chain in chains]
    across = n if n <= ABREAST else columns_for(n)
    frames = []
    for f in range(F):
        now = [cell[f] for cell in cells]
        picture = arrange([now[k : k + across] for k in range(0, n, across)], heading=heading)
        frames.append(np.concatenate([picture, _bar(picture.shape[1], f, F - 1)]))
    return [*frames, *[frames[-1]] * hold]


# ── cells ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _checked(states: ArrayLike) -> Array:
    """Give the chains one by one, (n, F, …)."""
    rows = checked_rows(states, "states").swapaxes(0, 1)
    if rows.shape[1] < 2:
        raise DataError(f"states has shape {np.shape(states)}; give at least two, the noise and the samples")
    return rows


def _cells(chain: Array, shown: NDArray[Any], camera: Camera, size: int) -> list[Image]:
    if chain.ndim == 4:  # images (F, C, H, W)
        return image_cells(chain[shown])
    frame = _frame(chain, camera)
    return cloud_cells(chain[shown], like=np.broadcast_to(frame, (len(shown), *frame.shape)), camera=camera, size=size)


def _frame(chain: Array, camera: Camera) -> Array:
    """Give the points (M, 3) that set the frame of a chain (F, N, 3): those of all states that are near the sample."""
    sample, points = chain[-1], chain.reshape(-1, 3)
    center = (sample.min(axis=0) + sample.max(axis=0)) / 2
    reach = REACH * np.linalg.norm(sample - center, axis=1).max()
    near = points[np.linalg.norm(points - center, axis=1) <= reach]
    return outermost(near if reach > 0 else points, camera)


# ── how far ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _percent(k: int, last: int) -> int:
    return round(100 * int(k) / last)


def _bar(width: int, k: int, last: int) -> Image:
    """Draw a bar that is filled as far as the chain is done, and the share in words beside it."""
    words = set_words(f"{_percent(k, last)} %", SAYS, TITLE - 1)
    strip = np.full((words.shape[0] + GAP, width, 3), PAPER, np.uint8)
    left, right, top = 2 * GAP, width - SAYS - GAP, (words.shape[0] - BAR) // 2
    strip[top : top + BAR, left:right] = RAIL
    strip[top : top + BAR, left : left + round((right - left) * k / last)] = MARK
    strip[: words.shape[0], width - SAYS :] = words
    return strip
