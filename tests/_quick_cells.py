"""Figures that are drawn and not looked at."""

import contextlib

import numpy as np

from pcgen.viz import cells

SIDE = 16  # pixels


@contextlib.contextmanager
def quick_cells():
    """Draw each cloud in a few pixels and enlarge it to the size asked for: a tenth of the time."""
    render = cells.render_cloud

    def coarse(cloud, *, size, **how):
        near = np.arange(size) * SIDE // size
        return render(cloud, size=SIDE, **how)[near][:, near]

    cells.render_cloud = coarse
    try:
        yield
    finally:
        cells.render_cloud = render
