"""Triton kernels: nearest neighbours of one cloud in another, and the gradient.

A program takes a block of rows of one cloud, keeps their coordinates in registers, and walks over the other cloud a
tile of columns at a time. Each lane of the (rows, columns) tile keeps the smallest distance that it met and the tile
in which it stood; the lanes of a row are compared once, at the end. So a pair of points costs nine instructions
(three differences, three multiply-adds, a comparison, two selections), and nothing of size N × M is ever in memory.

A comparison that is strict keeps the first tile within a lane, and the lowest column wins among the lanes: the lowest
index wins a tie. Differences of coordinates are squared, never |x|² + |y|² − 2xy, and no matrix unit is used: tf32
has ten bits for differences of near points.

A lane beyond the last column loads +∞ as its first coordinate and is infinitely far from everything, so that any
number of points will do. Offsets of clouds are 64 bits wide, as B · N · 3 may exceed 2³¹.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# A kernel's arguments are pointers and numbers of the GPU; Triton reads annotations as orders to itself.

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pcgen.ops._chunked import Found
from pcgen.ops._triton import on, processors

if TYPE_CHECKING:
    constexpr = Any  # Triton ships partial types and is absent on some machines
    triton: Any
    tl: Any
else:
    import triton
    import triton.language as tl
    from triton.language import constexpr

COLUMNS = 32  # of a tile: one for each lane of a warp, so that a row's coordinates serve a whole warp
ROWS = (16, 64)  # of a program: many where the batch fills the GPU, few where it does not
PULLS = 8  # neighbours that a row adds up at once in the gradient; few have more


@triton.jit
def squared_norm(dx, dy, dz):
    """Add up three squares, always rounded in the same way."""
    return tl.fma(dz, dz, tl.fma(dy, dy, dx * dx))


@triton.jit
def load_points(points, index, inside, outside):
    """Load points (n, 3) at an index; those that are not inside have `outside` as their first coordinate."""
    x = tl.load(points + 3 * index, mask=inside, other=outside)
    y = tl.load(points + 3 * index + 1, mask=inside, other=0)
    z = tl.load(points + 3 * index + 2, mask=inside, other=0)
    return x, y, z


@triton.jit
def keep_nearest(best, tile, cost, start):
    """Lower the lanes' minima by the costs of the tile that begins at column `start`."""
    nearer = cost < best
    return tl.where(nearer, cost, best), tl.where(nearer, start, tile)


@triton.jit
def store_nearest(best, tile, cost, index, row, inside, WIDTH: constexpr):
    """Compare the lanes of each row and write its smallest cost and the lowest index at which it stands."""
    smallest = tl.min(best, 1)
    column = tile + tl.arange(0, WIDTH)[None, :]
    first = tl.min(tl.where(best == smallest[:, None], column, 2147483647), 1)
    tl.store(cost + row, smallest, mask=inside)
    tl.store(index + row, first.to(tl.int64), mask=inside)


@triton.jit
def search_points(x, y, cost, index, bad, n, m, LIMIT: constexpr, HEIGHT: constexpr, WIDTH: constexpr):
    """Find the nearest point of y (B, m, 3) for a block of rows of x (B, n, 3), and say whether the rows are bad."""
    program = tl.program_id(0)
    blocks = tl.cdiv(n, HEIGHT)
    cloud = (program // blocks).to(tl.int64)
    row = program % blocks * HEIGHT + tl.arange(0, HEIGHT)
    inside = row < n
    ax, ay, az = load_points(x + cloud * n * 3, row, inside, 0)
    good = (tl.abs(ax) <= LIMIT) & (tl.abs(ay) <= LIMIT) & (tl.abs(az) <= LIMIT)
    tl.store(bad + program, tl.max(tl.where(good, 0, 1), 0).to(tl.int8))
    best = tl.full((HEIGHT, WIDTH), float("inf"), ax.dtype)
    tile = tl.zeros((HEIGHT, WIDTH), tl.int32)
    for start in range(0, m, WIDTH):
        column = start + tl.arange(0, WIDTH)
        bx, by, bz = load_points(y + cloud * m * 3, column, column < m, float("inf"))
        d = squared_norm(ax[:, None] - bx[None, :], ay[:, None] - by[None, :], az[:, None] - bz[None, :])
        best, tile = keep_nearest(best, tile, d, start)
    store_nearest(best, tile, cost + cloud * n, index + cloud * n, row, inside, WIDTH)


@triton.jit
def search_gaussians(
    x, y, scale, offset, cost, index, n, m, ROWS_ARE_POINTS: constexpr, HEIGHT: constexpr, WIDTH: constexpr
):
    """Find the smallest bracket of each row of x (B, n, 3) over y (B, m, 3).

    One of the two is a cloud of Gaussians with 1 / (√2 σ), `scale` (B, ·, 3), and Σ log σ, `offset` (B, ·): y where
    the rows are points, x where they are not.
    """
    program = tl.program_id(0)
    blocks = tl.cdiv(n, HEIGHT)
    cloud = (program // blocks).to(tl.int64)
    row = program % blocks * HEIGHT + tl.arange(0, HEIGHT)
    inside = row < n
    ax, ay, az = load_points(x + cloud * n * 3, row, inside, 0)
    if not ROWS_ARE_POINTS:
        rx, ry, rz = load_points(scale + cloud * n * 3, row, inside, 1)
        sx, sy, sz = rx[:, None], ry[:, None], rz[:, None]
        base = tl.load(offset + cloud * n + row, mask=inside, other=0)[:, None]
    best = tl.full((HEIGHT, WIDTH), float("inf"), ax.dtype)
    tile = tl.zeros((HEIGHT, WIDTH), tl.int32)
    for start in range(0, m, WIDTH):
        column = start + tl.arange(0, WIDTH)
        present = column < m
        bx, by, bz = load_points(y + cloud * m * 3, column, present, float("inf"))
        if ROWS_ARE_POINTS:
            cx, cy, cz = load_points(scale + cloud * m * 3, column, present, 1)
            sx, sy, sz = cx[None, :], cy[None, :], cz[None, :]
            base = tl.load(offset + cloud * m + column, mask=present, other=0)[None, :]
        dx = (ax[:, None] - bx[None, :]) * sx
        dy = (ay[:, None] - by[None, :]) * sy
        dz = (az[:, None] - bz[None, :]) * sz
        c = tl.fma(dz, dz, tl.fma(dy, dy, tl.fma(dx, dx, base + tl.zeros_like(dx))))
        best, tile = keep_nearest(best, tile, c, start)
    store_nearest(best, tile, cost + cloud * n, index + cloud * n, row, inside, WIDTH)


@triton.jit
def pull_points(x, y, index, gradient, order, begin, pull, out, n, m, HEIGHT: constexpr, WIDTH: constexpr):
    """Write the gradient of a block of rows of x (B, n, 3).

    A row is pulled by its own neighbour, `index` (B, n), times `gradient` (B, n), and by those points of y (B, m, 3)
    whose neighbour it is: order[begin[row]] … order[begin[row + 1] − 1], times `pull` (B, m). They are added in that
    order by one program, without atomic operations.
    """
    program = tl.program_id(0)
    blocks = tl.cdiv(n, HEIGHT)
    cloud = (program // blocks).to(tl.int64)
    row = program % blocks * HEIGHT + tl.arange(0, HEIGHT)
    inside = row < n
    y += cloud * m * 3
    ax, ay, az = load_points(x + cloud * n * 3, row, inside, 0)
    bx, by, bz = load_points(y, tl.load(index + cloud * n + row, mask=inside, other=0), inside, 0)
    g = 2 * tl.load(gradient + cloud * n + row, mask=inside, other=0)
    gx, gy, gz = g * (ax - bx), g * (ay - by), g * (az - bz)
    first = tl.load(begin + cloud * (n + 1) + row, mask=inside, other=0)
    last = tl.load(begin + cloud * (n + 1) + row + 1, mask=inside, other=0)
    for k in range(0, tl.max(last - first, 0), WIDTH):
        place = first[:, None] + k + tl.arange(0, WIDTH)[None, :]
        present = place < last[:, None]
        other = tl.load(order + cloud * m + place, mask=present, other=0)
        weight = 2 * tl.load(pull + cloud * m + other, mask=present, other=0)
        cx, cy, cz = load_points(y, other, present, 0)
        gx += tl.sum(weight * (ax[:, None] - cx), 1)
        gy += tl.sum(weight * (ay[:, None] - cy), 1)
        gz += tl.sum(weight * (az[:, None] - cz), 1)
    out += cloud * n * 3
    tl.store(out + 3 * row, gx, mask=inside)
    tl.store(out + 3 * row + 1, gy, mask=inside)
    tl.store(out + 3 * row + 2, gz, mask=inside)


def nearest_both_ways(x: Tensor, y: Tensor, limit: float) -> tuple[Found, Tensor]:
    """Find squared distances and indices, (B, N) from x (B, N, 3) and (B, M) from y (B, M, 3).

    Args:
        x: Contiguous.
        y: Contiguous.
        limit: The largest coordinate that is good.

    Returns:
        What was found, and whether any coordinate is not finite or larger, a number on the device: with such a
        coordinate the rest means nothing.
    """
    d_xy, i_xy, bad_x = _nearest(x, y, limit)
    d_yx, i_yx, bad_y = _nearest(y, x, limit)
    return (d_xy, i_xy, d_yx, i_yx), torch.cat((bad_x, bad_y)).any()


def _nearest(x: Tensor, y: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    height = _height(x)
    programs = len(x) * triton.cdiv(x.shape[1], height)
    d, i = x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2], dtype=torch.int64)
    bad = x.new_zeros(programs, dtype=torch.int8)
    if programs:
        with on(x.device):
            search_points[(programs,)](
                x, y, d, i, bad, x.shape[1], y.shape[1], LIMIT=limit, HEIGHT=height, WIDTH=COLUMNS
            )
    return d, i, bad


def gaussian_both_ways(x: Tensor, y: Tensor, log_scale: Tensor) -> Found:
    """Find the smallest brackets of `pcgen.ops.gaussian_nearest_neighbors` and their indices; all contiguous."""
    scale, offset = (-log_scale).exp() * 0.5**0.5, log_scale.sum(2)  # (B, M, 3), (B, M)
    return *_brackets(x, y, scale, offset, rows_are_points=True), *_brackets(y, x, scale, offset, rows_are_points=False)


def _brackets(x: Tensor, y: Tensor, scale: Tensor, offset: Tensor, *, rows_are_points: bool) -> tuple[Tensor, Tensor]:
    height = _height(x)
    programs = len(x) * triton.cdiv(x.shape[1], height)
    c, i = x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2], dtype=torch.int64)
    if programs:
        with on(x.device):
            search_gaussians[(programs,)](
                *(x, y, scale, offset, c, i, x.shape[1], y.shape[1]),
                ROWS_ARE_POINTS=rows_are_points,
                HEIGHT=height,
                WIDTH=COLUMNS,
            )
    return c, i


def _height(x: Tensor) -> int:
    """Choose the rows of a program: a GPU wants some programs for each of its processors."""
    few, many = ROWS
    return many if len(x) * triton.cdiv(x.shape[1], many) >= 8 * processors(x.device) else few


def pull_back(x: Tensor, y: Tensor, i_xy: Tensor, i_yx: Tensor, g_xy: Tensor, g_yx: Tensor) -> Tensor:
    """Give the gradient (B, N, 3) of x from those of the squared distances, (B, N) and (B, M); x, y contiguous.

    A stable sort lists, for each point of x, the points of y whose neighbour it is: every run adds in the same order.
    """
    n, m = x.shape[1], y.shape[1]
    target, order = i_yx.int().sort(dim=1, stable=True)  # (B, M)
    points = torch.arange(n + 1, dtype=torch.int32, device=x.device).expand(len(x), -1).contiguous()
    begin = torch.searchsorted(target, points, out_int32=True)  # (B, N + 1)
    out = torch.empty_like(x)
    programs = len(x) * triton.cdiv(n, ROWS[0])
    if programs:
        with on(x.device):
            pull_points[(programs,)](
                *(x, y, i_xy.contiguous(), g_xy.contiguous(), order, begin, g_yx.contiguous(), out, n, m),
                HEIGHT=ROWS[0],
                WIDTH=PULLS,
            )
    return out
