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
def pack_gaussians(y: Array, root_precision: Array, offset: Array, limit: float) -> Planes:
    """Split a cloud of Gaussians into seven padded arrays."""
    x, y, z, _ = pack(y, limit)
    sx, sy, sz, _ = pack(root_precision, limit)
    padded = aligned_empty(x.shape[0], offset)
    m = offset.shape[0]
    padded[:m] = offset
    padded[m:] = offset[m - 1]
    return x, y, z, sx, sy, sz, padded


search = make_search(cut, sweep_four_rows)


@kernel
def smallest_both_ways(
    x: Array,
    y: Array,
    root_precision: Array,
    offset: Array,
    c_x: Array,
    i_x: Array,
    c_y: Array,
    i_y: Array,
    limit: float,
    begin: int,
    end: int,
) -> None:
    """Search clouds begin … end−1 of x (B, N, 3) and the Gaussians of y (B, M, 3).

    Args as for `pcgen.ops._brute.nearest_both_ways`, with root_precision = 1 / (√2 σ) (B, M, 3) and offset = Σ log σ
    (B, M); everything is known to be finite.
    """
    use_widest_vectors()
    for b in range(begin, end):
        ax, ay, az, _ = pack(x[b], limit)
        column = pack_gaussians(y[b], root_precision[b], offset[b], limit)
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
