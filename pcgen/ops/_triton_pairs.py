"""A Triton kernel: the Chamfer distances of many pairs of clouds, both directions in one pass, no index.

A program is one warp and takes one pair after the other. For sixteen rows it walks over the other cloud 32 columns at
a time: a lane has one column and all the rows, so that the minimum over the rows costs no exchange between lanes, and
the rows' own minima wait in registers until the walk is over. A pair of points costs eight instructions (three
differences, three multiply-adds, two minima), which is the least when both directions share the distance.

The columns' minima of a pair lie in scratch memory, M numbers a program: a program makes them anew for each pair, and
there are only as many programs as the GPU can hold at once. Nothing else is stored but the results.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# A kernel's arguments are pointers and numbers of the GPU; Triton reads annotations as orders to itself.

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pcgen.ops._parallel import Progress
from pcgen.ops._triton import on, processors
from pcgen.ops._triton_search import load_points, squared_norm

if TYPE_CHECKING:
    constexpr = Any  # as in pcgen.ops._triton_search
    triton: Any
    tl: Any
else:
    import triton
    import triton.language as tl
    from triton.language import constexpr

ROWS, COLUMNS = 16, 32  # of a tile: a column a lane
PROGRAMS = 32  # of one warp for each processor: as many as an NVIDIA GPU holds
SCRATCH = 2**28  # bytes at most, whatever the size of the clouds (34 MB for 2048 points on 132 processors)
POINT_PAIRS_AT_ONCE = 2**36  # of one launch, some tens of milliseconds: progress is seen, and a break is heard


@triton.jit
def distance(squared, NORM: constexpr):
    """Give the distance, or its square, in float64: it is to be summed."""
    wide = squared.to(tl.float64)
    return tl.sqrt(wide) if NORM == 1 else wide


@triton.jit
def chamfer_pairs(
    a,
    b,
    pairs,
    scratch,
    out,
    count,
    n,
    m,
    NORM: constexpr,
    MEAN: constexpr,
    HEIGHT: constexpr,
    WIDTH: constexpr,
):
    """Write the distance of a[pairs[0, t]] (S, n, 3) and b[pairs[1, t]] (R, m, 3) to out[t], for t < count."""
    program = tl.program_id(0)
    lowest = scratch + program.to(tl.int64) * m
    for t in range(program, count, tl.num_programs(0)):
        x = a + tl.load(pairs + t) * n * 3
        y = b + tl.load(pairs + count + t) * m * 3
        there = tl.zeros((HEIGHT,), tl.float64)
        for top in range(0, n, HEIGHT):
            row = top + tl.arange(0, HEIGHT)
            # Rows beyond the last are infinitely far in y, columns in x: ∞ − ∞ never meets.
            ax, ay, az = load_points(x, row, row < n, 0)
            ay = tl.where(row < n, ay, float("inf"))
            nearest = tl.full((HEIGHT, WIDTH), float("inf"), ax.dtype)
            for start in range(0, m, WIDTH):
                column = start + tl.arange(0, WIDTH)
                inside = column < m
                bx, by, bz = load_points(y, column, inside, float("inf"))
                d = squared_norm(ax[:, None] - bx[None, :], ay[:, None] - by[None, :], az[:, None] - bz[None, :])
                nearest = tl.minimum(nearest, d)
                before = tl.load(lowest + column, mask=inside & (top > 0), other=float("inf"))
                tl.store(lowest + column, tl.minimum(before, tl.min(d, 0)), mask=inside)
            there += tl.where(row < n, distance(tl.min(nearest, 1), NORM), 0)
            tl.debug_barrier()  # what a lane wrote, another may read
        back = tl.zeros((WIDTH,), tl.float64)
        for start in range(0, m, WIDTH):
            column = start + tl.arange(0, WIDTH)
            back += distance(tl.load(lowest + column, mask=column < m, other=0), NORM)
        tl.debug_barrier()
        total_there, total_back = tl.sum(there, 0), tl.sum(back, 0)
        if MEAN:
            total_there, total_back = total_there / n, total_back / m
        tl.store(out + t, (total_there + total_back).to(out.dtype.element_ty))


def pairwise_chamfer(a: Tensor, b: Tensor | None, norm: int, reduction: str, progress: Progress | None) -> Tensor:
    """Give the distances (S, R) of a (S, N, 3) to b (R, M, 3), contiguous; b None stands for a."""
    columns = a if b is None else b
    out = a.new_empty(len(a), len(columns))
    scratch = a.new_empty(_programs(columns), columns.shape[1])
    at_once = max(1, POINT_PAIRS_AT_ONCE // (a.shape[1] * columns.shape[1]))
    for pairs in _pairs(len(a), len(columns), at_once, a.device, triangle=b is None):
        found = _launch(a, columns, pairs, scratch, norm, reduction)
        out[pairs[0], pairs[1]] = found
        if b is None:
            out[pairs[1], pairs[0]] = found
        if progress is not None:
            progress(_finished(pairs, triangle=b is None))
    return out


def _programs(columns: Tensor) -> int:
    """Choose how many pairs are worked on at once."""
    return max(1, min(PROGRAMS * processors(columns.device), SCRATCH // (columns.shape[1] * columns.element_size())))


def _launch(a: Tensor, b: Tensor, pairs: Tensor, scratch: Tensor, norm: int, reduction: str) -> Tensor:
    count = pairs.shape[1]
    found = a.new_empty(count)
    with on(a.device):
        chamfer_pairs[(min(count, len(scratch)),)](
            *(a, b, pairs, scratch, found, count, a.shape[1], b.shape[1]),
            NORM=norm,
            MEAN=reduction == "mean",
            HEIGHT=ROWS,
            WIDTH=COLUMNS,
            num_warps=1,
        )
    return found


def _finished(pairs: Tensor, *, triangle: bool) -> int:
    """Count the entries that some pairs fill, when the GPU has done them."""
    if pairs.device.type == "cuda":
        torch.cuda.synchronize(pairs.device)
    count = pairs.shape[1]
    return 2 * count - int((pairs[0] == pairs[1]).sum()) if triangle else count


def _pairs(rows: int, columns: int, at_once: int, device: torch.device, *, triangle: bool) -> Iterator[Tensor]:
    """Number the entries of the matrix, or of its upper triangle, in parts: (2, P) rows and columns."""
    total = rows * (rows + 1) // 2 if triangle else rows * columns
    for begin in range(0, total, at_once):
        entry = torch.arange(begin, min(begin + at_once, total), device=device)
        yield _fold(entry, rows) if triangle else torch.stack((entry // columns, entry % columns))


def _fold(entry: Tensor, size: int) -> Tensor:
    """Place the entries of a rectangle in the upper triangle of a square.

    Row k of the triangle has size − k entries. With row size − k (an odd size) or size − 1 − k (an even one), it
    fills a row of the rectangle, whose width is size or size + 1.
    """
    even = 1 - size % 2
    row, column = entry // (size + even), entry % (size + even)
    second = column >= size - row
    place = (torch.where(second, size - even - row, row), torch.where(second, column - even, row + column))
    return torch.stack(place)
