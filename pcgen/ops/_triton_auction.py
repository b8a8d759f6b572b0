"""Triton kernels of the auction: the bids of one phase, and the value of the dual at its prices.

One program has one pair of clouds and makes one bid after the other (Gauss-Seidel, first in, first out). It keeps the
columns' coordinates and prices in registers, sixteen columns a thread: a bid reads its row's three coordinates, and no
more. Bids need each other's prices, so the parallel work is in the columns of one bid and in the pairs; programs share
nothing, so every run makes the same bids.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# A kernel's arguments are pointers and numbers of the GPU; Triton reads annotations as orders to itself.

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pcgen.ops._triton import on
from pcgen.ops._triton_search import load_points

if TYPE_CHECKING:
    constexpr = Any  # as in pcgen.ops._triton_search
    triton: Any
    tl: Any
else:
    import triton
    import triton.language as tl
    from triton.language import constexpr

COLUMNS_OF_A_WARP = 512  # sixteen columns a thread
MOST_WARPS = 16
TILE = (16, 32)  # rows and columns of the dual's tile


@triton.jit
def cost_of(dx, dy, dz, SQUARED: constexpr):
    """Give the squared distance, or the distance."""
    squared = tl.fma(dz, dz, tl.fma(dy, dy, dx * dx))
    return squared if SQUARED else tl.sqrt(squared)


@triton.jit
def bid(x, y, price, owner, queue, state, step, limit, n, LEAST_RISE: constexpr, SQUARED: constexpr, SIZE: constexpr):
    """Make bids until no row of the pair is without a column, or `limit` were made.

    Args:
        x: Rows (pairs, n, 3).
        y: Columns (pairs, n, 3).
        price: Of the columns (pairs, n).
        owner: The row that has each column (pairs, n), −1 for none.
        queue: A ring (pairs, n) of the rows that have no column.
        state: Where the ring begins and how many rows are in it (pairs, 2).
        step: ε of each pair (pairs,).
        limit: Bids at most.
        n: Points.
        LEAST_RISE: A price rises at least by this part of itself: in float32 it would else stand still.
        SQUARED: The cost is the squared distance.
        SIZE: n or more, a power of two.
    """
    pair = tl.program_id(0).to(tl.int64)
    x, y = x + pair * n * 3, y + pair * n * 3
    price, owner, queue, state = price + pair * n, owner + pair * n, queue + pair * n, state + pair * 2
    column = tl.arange(0, SIZE)
    inside = column < n
    bx, by, bz = load_points(y, column, inside, float("inf"))
    p = tl.load(price + column, mask=inside, other=0)
    epsilon = tl.load(step + pair)
    head, waiting = tl.load(state), tl.load(state + 1)
    bids = 0
    while (waiting > 0) & (bids < limit):
        row = tl.load(queue + head)
        ax, ay, az = tl.load(x + 3 * row), tl.load(x + 3 * row + 1), tl.load(x + 3 * row + 2)
        value = cost_of(ax - bx, ay - by, az - bz, SQUARED) + p
        best, chosen = tl.min(value, 0, return_indices=True)
        here = column == chosen
        second = tl.min(tl.where(here, float("inf"), value), 0)
        second = tl.where(second < float("inf"), second, best)  # the only column has no rival
        p = tl.where(here, tl.maximum(p + (second - best + epsilon), p * LEAST_RISE), p)
        before = tl.load(owner + chosen)
        tl.debug_barrier()  # every thread has read the owner and the ring's head before one of them writes
        tl.store(owner + chosen, row)
        head = tl.where(head + 1 == n, 0, head + 1)
        tail = head + waiting - 1
        tail = tl.where(tail >= n, tail - n, tail)
        tl.store(queue + tail, before, mask=before >= 0)
        waiting = tl.where(before >= 0, waiting, waiting - 1)
        tl.debug_barrier()  # and has been written to before it is read again
        bids += 1
    tl.store(price + column, p, mask=inside)
    tl.store(state, head)
    tl.store(state + 1, waiting)


@triton.jit
def lowest_value(x, y, price, out, n, SQUARED: constexpr, HEIGHT: constexpr, WIDTH: constexpr):
    """Write for a block of rows of x (pairs, n, 3) the least of cost and price over y (pairs, n, 3), in float64."""
    program = tl.program_id(0)
    blocks = tl.cdiv(n, HEIGHT)
    pair = (program // blocks).to(tl.int64)
    row = program % blocks * HEIGHT + tl.arange(0, HEIGHT)
    ax, ay, az = load_points(x + pair * n * 3, row, row < n, 0)
    lowest = tl.full((HEIGHT, WIDTH), float("inf"), tl.float64)
    for start in range(0, n, WIDTH):
        column = start + tl.arange(0, WIDTH)
        inside = column < n
        bx, by, bz = load_points(y + pair * n * 3, column, inside, float("inf"))
        p = tl.load(price + pair * n + column, mask=inside, other=0)
        c = cost_of(ax[:, None] - bx[None, :], ay[:, None] - by[None, :], az[:, None] - bz[None, :], SQUARED)
        lowest = tl.minimum(lowest, c + p[None, :])
    tl.store(out + pair * n + row, tl.min(lowest, 1), mask=row < n)


def make_bids(
    x: Tensor,
    y: Tensor,
    price: Tensor,
    owner: Tensor,
    queue: Tensor,
    state: Tensor,
    step: Tensor,
    *,
    limit: int,
    least_rise: float,
    squared: bool,
) -> None:
    """Run `bid` for every pair; price, owner, queue and state (int32) change in place."""
    size = triton.next_power_of_2(x.shape[1])
    with on(x.device):
        bid[(len(x),)](
            *(x, y, price, owner, queue, state, step, limit, x.shape[1]),
            LEAST_RISE=least_rise,
            SQUARED=squared,
            SIZE=size,
            num_warps=max(1, min(MOST_WARPS, size // COLUMNS_OF_A_WARP)),
        )


def lowest_values(x: Tensor, y: Tensor, price: Tensor, *, squared: bool) -> Tensor:
    """Give for each row (B, N) the least of cost and price; float64 and contiguous throughout."""
    out = x.new_empty(x.shape[:2], dtype=torch.float64)
    height, width = TILE
    with on(x.device):
        lowest_value[(len(x) * triton.cdiv(x.shape[1], height),)](
            *(x, y, price, out, x.shape[1]), SQUARED=squared, HEIGHT=height, WIDTH=width
        )
    return out
