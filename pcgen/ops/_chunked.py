"""The same searches by torch operations, for any device.

Of no cloud is more than a quarter of its N × M matrix held, and of all the clouds together no more than `ELEMENTS`
numbers.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

ELEMENTS = 2**24  # costs held at once, in two or three tensors: enough for a device with thousands of lanes
PARTS = 4  # into which the rows of every cloud are cut at least, be the budget as it may

Found = tuple[Tensor, Tensor, Tensor, Tensor]
Cost = Callable[[slice, slice], Tensor]  # clouds, points of x -> (b, n, M)


def nearest_both_ways(x: Tensor, y: Tensor) -> Found:
    """Find squared distances and indices, (B, N) from x (B, N, 3) and (B, M) from y (B, M, 3)."""

    def squared_distance(clouds: slice, rows: slice) -> Tensor:
        a, b = x[clouds, rows, None], y[clouds, None]  # (b, n, 1, 3), (b, 1, M, 3)
        total = (a[..., 0] - b[..., 0]).square_()
        for k in (1, 2):
            difference = a[..., k] - b[..., k]
            total.addcmul_(difference, difference)
        return total

    return smallest_both_ways(squared_distance, x, y)


def gaussian_both_ways(x: Tensor, y: Tensor, log_scale: Tensor) -> Found:
    """Find the smallest brackets of `pcgen.ops.gaussian_nearest_neighbors` and their indices."""
    root_precision = (-log_scale).exp() * 0.5**0.5
    offset = log_scale.sum(2)  # (B, M)

    def bracket(clouds: slice, rows: slice) -> Tensor:
        a, b, s = x[clouds, rows, None], y[clouds, None], root_precision[clouds, None]
        total = offset[clouds, None].expand(-1, a.shape[1], -1).clone()
        for k in range(3):
            difference = (a[..., k] - b[..., k]).mul_(s[..., k])
            total.addcmul_(difference, difference)
        return total

    return smallest_both_ways(bracket, x, y)


def smallest_both_ways(cost: Cost, x: Tensor, y: Tensor) -> Found:
    """Find the smallest cost of each row and column and the lowest index at which it stands."""
    c_x, i_x = x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2], dtype=torch.int64)
    c_y, i_y = y.new_full(y.shape[:2], torch.inf), y.new_zeros(y.shape[:2], dtype=torch.int64)
    for clouds, rows in chunks(x, y):
        c = cost(clouds, rows)  # (b, n, M)
        # min's index is arbitrary among equals, argmin's is the first.
        i_x[clouds, rows] = nearest = c.argmin(2)
        c_x[clouds, rows] = c.gather(2, nearest[..., None])[..., 0]
        nearest = c.argmin(1, keepdim=True)  # (b, 1, M)
        lowest = c.gather(1, nearest)[:, 0]
        i_y[clouds] = torch.where(lowest < c_y[clouds], nearest[:, 0] + rows.start, i_y[clouds])
        c_y[clouds] = torch.minimum(lowest, c_y[clouds])
    return c_x, i_x, c_y, i_y


def chunks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cut clouds and rows so that at most ELEMENTS costs, and of no cloud more than a part, are held at once."""
    n, m = x.shape[1], y.shape[1]
    rows = max(1, min(n // PARTS, ELEMENTS // m))
    clouds = max(1, ELEMENTS // (rows * m))
    for b in range(0, len(x), clouds):
        for i in range(0, n, rows):
            yield slice(b, b + clouds), slice(i, i + rows)


def pull_back(x: Tensor, y: Tensor, i_xy: Tensor, i_yx: Tensor, g_xy: Tensor, g_yx: Tensor) -> Tensor:
    """Give the gradient (B, N, 3) of x from those of the squared distances, (B, N) and (B, M)."""
    own = 2 * g_xy[..., None] * (x - take(y, i_xy))
    return own + scatter_sum(2 * g_yx[..., None] * (take(x, i_yx) - y), i_yx, x.shape[1])


def take(points: Tensor, index: Tensor) -> Tensor:
    """Pick points (B, M, C) by index (B, N), giving (B, N, C)."""
    return points.gather(1, index[..., None].expand(-1, -1, points.shape[2]))


def scatter_sum(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum values (B, M, C) into rows `index` (B, M) of (B, size, C), in the same order every time."""
    total = values.new_zeros(len(values), size, values.shape[2])
    if values.device.type == "cpu":
        return total.scatter_add_(1, index[..., None].expand_as(values), values)
    # On a GPU scatter_add_ adds in any order; an accumulating index_put_ sorts first.
    rows = (index + size * torch.arange(len(values), device=index.device)[:, None]).flatten()
    total.view(-1, values.shape[2]).index_put_((rows,), values.reshape(-1, values.shape[2]), accumulate=True)
    return total
