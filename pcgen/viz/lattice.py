"""The lattice of a template's coordinates, seen through a sampling grid."""

from collections.abc import Sequence

import numpy as np

from pcgen.viz.layout import PAPER, Image
from pcgen.viz.render import Array

COLORS = ((0, 114, 178), (213, 94, 0))  # RGB of lines of equal x, and of lines of equal y
LINES = "x blue, y orange"
LEVELS = 9  # lines of each kind, from border to border of the template
WIDTH = 1.5  # of a line in pixels
PALE = 0.72  # share of paper in the picture behind the lines


def lattice_cells(grids: Array, backgrounds: Sequence[Image], times: int) -> list[Image]:
    """Draw for each grid (K, H, W, 2) the lines on which W_x or W_y is at one of `LEVELS` even levels from −1 to 1.

    At the identity the lines are straight and evenly spaced. Where they are dense, little room in the datum shows much
    of the template; where there are none, W looks beyond the template's border.

    Args:
        grids: Sampling grids in −1 … 1.
        backgrounds: Images (times · H, times · W, 3), shown pale behind the lines.
        times: Pixels drawn for each pixel of the grid, along each side.

    Returns:
        Images like the backgrounds.
    """
    return [_cell(enlarged(grid, times), behind) for grid, behind in zip(grids, backgrounds, strict=True)]


def enlarged(grid: Array, times: int) -> Array:
    """Interpolate a field (H, W, D) bilinearly to (times · H, times · W, D), and go on linearly beyond the centres."""
    for axis in (0, 1):
        n = grid.shape[axis]
        place = (np.arange(n * times) + 0.5) / times - 0.5  # in pixels of the grid
        low = np.clip(np.floor(place).astype(int), 0, n - 2)
        share = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        grid = grid.take(low, axis) * (1 - share) + grid.take(low + 1, axis) * share
    return grid


def line_strength(field: Array) -> Array:
    """Give how much of each pixel (H, W) the lines of even levels of a field (H, W) cover, in [0, 1].

    The distance to a line in pixels is to first order |field − level| over the length of the gradient.
    """
    step = 2 / (LEVELS - 1)
    nearest = np.clip(np.rint((field + 1) / step), 0, LEVELS - 1) * step - 1
    down, across = np.gradient(field)
    slope = np.maximum(np.hypot(down, across), 1e-9)  # a plateau exactly at a level is covered by its line
    strength: Array = np.clip(WIDTH / 2 + 0.5 - abs(field - nearest) / slope, 0, 1)
    return strength


def _cell(grid: Array, behind: Image) -> Image:
    shown = PALE * PAPER + (1 - PALE) * behind.astype(np.float64)
    for k, color in enumerate(COLORS):
        strength = line_strength(grid[..., k])[..., None]
        shown = shown * (1 - strength) + np.array(color) * strength
    return (shown + 0.5).astype(np.uint8)
