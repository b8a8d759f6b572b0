"""Both directions' nearest neighbours of one pair of clouds by exhaustive search, in one pass of SIMD arithmetic.

Four rows (points of x) at a time meet a tile of columns (points of y) that stays in the first-level cache: each
column that is loaded serves four distances, and each distance serves the minimum of its row and of its column. No
index is kept in that loop. A row remembers in which tile its minimum fell, a column in which block of rows, and one
scan of that tile or block at the end finds the index. A distance has the same bits wherever it is computed, so the
scan looks for equality, and the lowest index wins a tie.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pcgen.ops._simd import (
    BLOCK,
    NOWHERE,
    Array,
    Planes,
    aligned_empty,
    helper,
    kernel,
    minimum,
    minimum_int,
    pack,
    select_less,
    squared_norm,
    use_widest_vectors,
)

TILE = 512  # columns of a tile: three coordinates and a minimum of each stay in the first-level cache


@helper
def sweep_four_rows(points: Planes, i: int, column: Planes, column_min: Array, infinity: float) -> tuple[float, ...]:
    """Lower the minima of a tile's columns by four rows, and give the four rows' minima in the tile."""
    use_widest_vectors()
    ax, ay, az = points
    bx, by, bz = column
    x0, y0, z0 = ax[i], ay[i], az[i]
    x1, y1, z1 = ax[i + 1], ay[i + 1], az[i + 1]
    x2, y2, z2 = ax[i + 2], ay[i + 2], az[i + 2]
    x3, y3, z3 = ax[i + 3], ay[i + 3], az[i + 3]
    m0 = m1 = m2 = m3 = infinity
    for j in range(column_min.shape[0] // BLOCK * BLOCK):
        x, y, z = bx[j], by[j], bz[j]
        d0 = squared_norm(x - x0, y - y0, z - z0)
        d1 = squared_norm(x - x1, y - y1, z - z1)
        d2 = squared_norm(x - x2, y - y2, z - z2)
        d3 = squared_norm(x - x3, y - y3, z - z3)
        m0, m1, m2, m3 = minimum(m0, d0), minimum(m1, d1), minimum(m2, d2), minimum(m3, d3)
        column_min[j] = minimum(minimum(minimum(d0, d1), minimum(d2, d3)), column_min[j])
    return m0, m1, m2, m3


@helper
def first_at_distance(distance: float, x: float, y: float, z: float, column: Planes) -> Any:
    """Find the first of some points whose distance from (x, y, z) is the given one, known to be the smallest."""
    use_widest_vectors()
    bx, by, bz = column
    first = NOWHERE
    for j in range(bx.shape[0] // BLOCK * BLOCK):
        d = squared_norm(bx[j] - x, by[j] - y, bz[j] - z)
        first = minimum_int(first, select_less(distance, d, NOWHERE, np.int32(j)))
    return first


@helper
def cut(column: Planes, begin: int, end: int) -> Planes:
    """Take a tile of the coordinates."""
    x, y, z = column
    return x[begin:end], y[begin:end], z[begin:end]


def make_search(cut: Callable[..., Any], sweep: Callable[..., Any]) -> Callable[..., None]:
    """Make the search for one kind of columns (as numba cannot cache a function that is given functions).

    Args:
        cut: (column, begin, end) -> a tile of the numbers that a column has.
        sweep: The inner loop, which knows what they mean; see `sweep_four_rows`.

    Returns:
        (points, column, row_min, row_tile, column_min, column_block) -> None: fills the minima of rows and columns
        and the starts of the tile and of the block in which they fell.
    """

    @helper
    def search(
        points: Planes, column: Planes, row_min: Array, row_tile: Array, column_min: Array, column_block: Array
    ) -> None:
        use_widest_vectors()
        n, m = row_min.shape[0], column_min.shape[0]
        infinity = row_min.dtype.type(np.inf)
        row_min[:], column_min[:] = infinity, infinity
        block_min = aligned_empty(TILE, row_min)
        for j0 in range(0, m, TILE):
            j1 = min(j0 + TILE, m)
            tile, best, where = cut(column, j0, j1), column_min[j0:j1], column_block[j0:j1]
            for i0 in range(0, n, BLOCK):
                lowest = block_min[: j1 - j0]
                lowest[:] = infinity
                for i in range(i0, i0 + BLOCK, 4):
                    minima = sweep(points, i, tile, lowest, infinity)
                    for k in range(4):
                        if minima[k] < row_min[i + k]:
                            row_min[i + k] = minima[k]
                            row_tile[i + k] = j0
                for j in range(j1 - j0):
                    where[j] = select_less(lowest[j], best[j], np.int32(i0), where[j])
                    best[j] = minimum(lowest[j], best[j])

    return search


search = make_search(cut, sweep_four_rows)


@kernel
def nearest_both_ways(
    x: Array,
    y: Array,
    d_xy: Array,
    i_xy: Array,
    d_yx: Array,
    i_yx: Array,
    good_x: Array,
    good_y: Array,
    limit: float,
    begin: int,
    end: int,
) -> None:
    """Search clouds begin … end−1 of the batches x (B, N, 3) and y (B, M, 3).

    Writes squared distances and indices d_xy, i_xy (B, N) and d_yx, i_yx (B, M), and whether each cloud could be
    used, good_x and good_y (B,): finite and at most `limit`, beyond which a squared distance overflows.
    """
    use_widest_vectors()
    n, m = x.shape[1], y.shape[1]
    for b in range(begin, end):
        ax, ay, az, good_x[b] = pack(x[b], limit)
        bx, by, bz, good_y[b] = pack(y[b], limit)
        if not (good_x[b] and good_y[b]):
            continue
        points, column = (ax, ay, az), (bx, by, bz)
        row_min, column_min = aligned_empty(ax.shape[0], ax), aligned_empty(bx.shape[0], bx)
        row_tile, column_block = np.zeros(ax.shape[0], np.int32), np.zeros(bx.shape[0], np.int32)
        search(points, column, row_min, row_tile, column_min, column_block)
        for i in range(n):
            tile = cut(column, row_tile[i], min(row_tile[i] + TILE, bx.shape[0]))
            d_xy[b, i] = row_min[i]
            i_xy[b, i] = row_tile[i] + first_at_distance(row_min[i], ax[i], ay[i], az[i], tile)
        for j in range(m):
            block = cut(points, column_block[j], column_block[j] + BLOCK)
            d_yx[b, j] = column_min[j]
            i_yx[b, j] = column_block[j] + first_at_distance(column_min[j], bx[j], by[j], bz[j], block)


@kernel
def pull_back(
    x: Array, y: Array, i_xy: Array, i_yx: Array, g_xy: Array, g_yx: Array, g_x: Array, begin: int, end: int
) -> None:
    """Fill the gradient g_x (B, N, 3) of x, given those of the squared distances, g_xy (B, N) and g_yx (B, M).

    Serial inside a cloud: points of y that share a neighbour add up in one order, without atomic operations.
    """
    for b in range(begin, end):
        for i in range(x.shape[1]):
            j = i_xy[b, i]
            for k in range(3):
                g_x[b, i, k] = 2 * g_xy[b, i] * (x[b, i, k] - y[b, j, k])
        for j in range(y.shape[1]):
            i = i_yx[b, j]
            for k in range(3):
                g_x[b, i, k] += 2 * g_yx[b, j] * (x[b, i, k] - y[b, j, k])
