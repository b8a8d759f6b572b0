"""Both directions' smallest Gaussian brackets of one pair of clouds: `pcgen.ops._brute` with another cost.

The cost of x under the Gaussian of y is Σ_k log σ_k + ((x_k − y_k) / (√2 σ_k))², so a column carries seven numbers:
the point, the three 1 / (√2 σ_k), and the sum of the logarithms.
"""

from typing import Any

import numpy as np

from pcgen.ops._brute import TILE, make_search
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
    multiply_add,
    pack,
    select_less,
    use_widest_vectors,
)

ROOT_HALF = 0.5**0.5


@helper
def cost(a: float, b: float, c: float, sx: float, sy: float, sz: float, offset: float) -> Any:
    """Give the bracket of a difference (a, b, c), always rounded in the same way."""
    a, b, c = a * sx, b * sy, c * sz
    return multiply_add(c, c, multiply_add(b, b, multiply_add(a, a, offset)))


@helper
def sweep_four_rows(points: Planes, i: int, column: Planes, column_min: Array, infinity: float) -> tuple[float, ...]:
    """Lower the minima of a tile's columns by four rows, and give the four rows' minima in the tile."""
    use_widest_vectors()
    ax, ay, az = points
    bx, by, bz, bsx, bsy, bsz, boffset = column
    x0, y0, z0 = ax[i], ay[i], az[i]
    x1, y1, z1 = ax[i + 1], ay[i + 1], az[i + 1]
    x2, y2, z2 = ax[i + 2], ay[i + 2], az[i + 2]
    x3, y3, z3 = ax[i + 3], ay[i + 3], az[i + 3]
    m0 = m1 = m2 = m3 = infinity
    for j in range(column_min.shape[0] // BLOCK * BLOCK):
        x, y, z, sx, sy, sz, offset = bx[j], by[j], bz[j], bsx[j], bsy[j], bsz[j], boffset[j]
        d0 = cost(x - x0, y - y0, z - z0, sx, sy, sz, offset)
        d1 = cost(x - x1, y - y1, z - z1, sx, sy, sz, offset)
        d2 = cost(x - x2, y - y2, z - z2, sx, sy, sz, offset)
        d3 = cost(x - x3, y - y3, z - z3, sx, sy, sz, offset)
        m0, m1, m2, m3 = minimum(m0, d0), minimum(m1, d1), minimum(m2, d2), minimum(m3, d3)
        column_min[j] = minimum(minimum(minimum(d0, d1), minimum(d2, d3)), column_min[j])
    return m0, m1, m2, m3


@helper
def first_column(smallest: float, x: float, y: float, z: float, column: Planes) -> Any:
    """Find the first Gaussian of a tile under which (x, y, z) has the given cost, known to be the smallest."""
    use_widest_vectors()
    bx, by, bz, bsx, bsy, bsz, boffset = column
    first = NOWHERE
    for j in range(bx.shape[0] // BLOCK * BLOCK):
        d = cost(bx[j] - x, by[j] - y, bz[j] - z, bsx[j], bsy[j], bsz[j], boffset[j])
        first = minimum_int(first, select_less(smallest, d, NOWHERE, np.int32(j)))
    return first


@helper
def first_row(smallest: float, gaussian: tuple[float, ...], ax: Array, ay: Array, az: Array) -> Any:
    """Find the first point of a block that has the given cost under a Gaussian."""
    use_widest_vectors()
    x, y, z, sx, sy, sz, offset = gaussian
    first = NOWHERE
    for i in range(ax.shape[0] // BLOCK * BLOCK):
        d = cost(x - ax[i], y - ay[i], z - az[i], sx, sy, sz, offset)
        first = minimum_int(first, select_less(smallest, d, NOWHERE, np.int32(i)))
    return first


@helper
def cut(column: Planes, begin: int, end: int) -> Planes:
    """Take a tile of the seven numbers."""
    x, y, z, sx, sy, sz, offset = column
    return x[begin:end], y[begin:end], z[begin:end], sx[begin:end], sy[begin:end], sz[begin:end], offset[begin:end]


@helper
def pack_gaussians(y: Array, log_scale: Array, limit: float, scale_limit: float) -> tuple[Planes, bool, bool]:
    """Split a cloud of Gaussians into seven padded arrays, and say whether its points and its scales can be used."""
    x, y, z, good_points = pack(y, limit)
    sx, sy, sz, good_scales = pack(log_scale, scale_limit)
    offset = aligned_empty(x.shape[0], x)
    if good_scales:
        for j in range(x.shape[0]):
            offset[j] = sx[j] + sy[j] + sz[j]
            sx[j], sy[j], sz[j] = ROOT_HALF * np.exp(-sx[j]), ROOT_HALF * np.exp(-sy[j]), ROOT_HALF * np.exp(-sz[j])
    return (x, y, z, sx, sy, sz, offset), good_points, good_scales


search = make_search(cut, sweep_four_rows)


@kernel
def smallest_both_ways(
    data: Planes, found: Planes, good: Array, limit: float, scale_limit: float, begin: int, end: int
) -> None:
    """Search clouds begin … end−1.

    Args:
        data: Points x (B, N, 3), means y (B, M, 3), log σ(y) (B, M, 3).
        found: To be filled: costs and indices (B, N) of x, costs and indices (B, M) of y.
        good: To be filled (3, B): whether x, y and log σ are finite and not too large; a bad cloud is not searched.
        limit: Largest coordinate.
        scale_limit: Largest log σ.
        begin: First cloud.
        end: Cloud after the last.
    """
    use_widest_vectors()
    x, y, log_scale = data
    c_x, i_x, c_y, i_y = found
    for b in range(begin, end):
        ax, ay, az, good[0, b] = pack(x[b], limit)
        column, good[1, b], good[2, b] = pack_gaussians(y[b], log_scale[b], limit, scale_limit)
        if not (good[0, b] and good[1, b] and good[2, b]):
            continue
        rows, columns = ax.shape[0], column[0].shape[0]
        row_min, column_min = aligned_empty(rows, ax), aligned_empty(columns, ax)
        row_tile, column_block = np.zeros(rows, np.int32), np.zeros(columns, np.int32)
        search((ax, ay, az), column, row_min, row_tile, column_min, column_block)
        for i in range(x.shape[1]):
            j0 = row_tile[i]
            tile = cut(column, j0, min(j0 + TILE, columns))
            c_x[b, i] = row_min[i]
            i_x[b, i] = j0 + first_column(row_min[i], ax[i], ay[i], az[i], tile)
        bx, by, bz, sx, sy, sz, so = column
        for j in range(y.shape[1]):
            i0 = column_block[j]
            block = slice(i0, i0 + BLOCK)
            gaussian = (bx[j], by[j], bz[j], sx[j], sy[j], sz[j], so[j])
            c_y[b, j] = column_min[j]
            i_y[b, j] = i0 + first_row(column_min[j], gaussian, ax[block], ay[block], az[block])


@helper
def pull_back_pair(data: Planes, gradients: Planes, b: int, i: int, j: int, g: float) -> None:
    """Add the gradients of the cost of one pair, times g."""
    x, y, log_scale = data
    g_x, g_y, g_scale = gradients
    for k in range(3):
        difference = x[b, i, k] - y[b, j, k]
        pull = difference * np.exp(-2 * log_scale[b, j, k])
        g_x[b, i, k] += g * pull
        g_y[b, j, k] -= g * pull
        g_scale[b, j, k] += g * (1 - difference * pull)


@kernel
def pull_back(data: Planes, index: Planes, cost_gradients: Planes, gradients: Planes, begin: int, end: int) -> None:
    """Add to the gradients of x, y and log σ, serial inside a cloud, given the indices and the costs' gradients."""
    i_x, i_y = index
    g_cx, g_cy = cost_gradients
    for b in range(begin, end):
        for i in range(i_x.shape[1]):
            pull_back_pair(data, gradients, b, i, i_x[b, i], g_cx[b, i])
        for j in range(i_y.shape[1]):
            pull_back_pair(data, gradients, b, i_y[b, j], j, g_cy[b, j])
