"""Nearest neighbours between two clouds, in both directions, with gradients.

On the CPU by compiled SIMD kernels (see `pcgen.ops._brute`), on a GPU by Triton kernels (`pcgen.ops._triton_search`),
on any other device by torch in chunks. None ever holds a cloud's N × M matrix. Distances are sums of squared
differences and never |x|² + |y|² − 2xy, which loses all digits far from the origin.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcgen.ops import _chunked, _triton
from pcgen.ops._checks import check_finite, checked_pair, largest_coordinate, refuse
from pcgen.ops._parallel import Task, batch_ranges, run_all, threads

SMALLEST_PART = 256  # points; a cloud is not split finer among threads


def nearest_neighbors(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Find for each point of x the nearest point of y in the same cloud of the batch.

    Args:
        x: Query points (B, N, 3), float32 or float64; half precision is computed in float32.
        y: Points to be found (B, M, 3).

    Returns:
        The squared distances (B, N), differentiable in x and y, and the indices into y (B, N), int64. Of several
        points at the same distance the one with the lowest index is given.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, a cloud is empty, or a coordinate is not finite.

    >>> x, y = torch.zeros(1, 1, 3), torch.tensor([[[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])
    >>> nearest_neighbors(x, y)
    (tensor([[4.]]), tensor([[1]]))
    """
    return bidirectional_nearest_neighbors(x, y)[:2]


def bidirectional_nearest_neighbors(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the nearest neighbours in both directions in one pass.

    Deterministic to the bit, whatever the number of threads. Memory O(B (N + M)), and without a compiled kernel (a
    device that is neither the CPU nor a GPU with Triton) a chunk of bounded size besides. The gradient follows the
    pairs that were found, and may be differentiated again.

    Args:
        x: (B, N, 3), float32 or float64; half precision is computed in float32.
        y: (B, M, 3).

    Returns:
        Squared distances (B, N) from x to y, indices (B, N) into y, squared distances (B, M) from y to x, indices
        (B, M) into x. Of several points at the same distance the one with the lowest index is given.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, a cloud is empty, or a coordinate is not finite.

    >>> x, y = torch.zeros(1, 1, 3), torch.tensor([[[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])
    >>> d_x, i_x, d_y, i_y = bidirectional_nearest_neighbors(x, y)
    >>> d_x.tolist(), i_x.tolist(), d_y.tolist(), i_y.tolist()
    ([[4.0]], [[1]], [[9.0, 4.0]], [[0, 0]])
    """
    x, y = checked_pair(x, y)
    d_xy, i_xy, d_yx, i_yx = _NearestNeighbors.apply(x, y)  # type: ignore[no-untyped-call]  # torch's stub
    return d_xy, i_xy, d_yx, i_yx


class _NearestNeighbors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        d_xy, i_xy, d_yx, i_yx = _search_for(x.device)(x.contiguous(), y.contiguous())
        ctx.save_for_backward(x, y, i_xy, i_yx)
        ctx.mark_non_differentiable(i_xy, i_yx)
        return d_xy, i_xy, d_yx, i_yx

    @staticmethod
    def backward(ctx: Any, g_xy: Tensor, _: Any, g_yx: Tensor, __: Any) -> tuple[Tensor | None, Tensor | None]:
        x, y, i_xy, i_yx = ctx.saved_tensors
        pull_back = _pull_back_for(x.device)
        g_x = pull_back(x, y, i_xy, i_yx, g_xy, g_yx) if ctx.needs_input_grad[0] else None
        g_y = pull_back(y, x, i_yx, i_xy, g_yx, g_xy) if ctx.needs_input_grad[1] else None
        return g_x, g_y


def _search_for(device: torch.device) -> Callable[[Tensor, Tensor], _chunked.Found]:
    if _triton.available(device):
        return _search_by_triton
    return _search_on_cpu if device.type == "cpu" else _search_by_torch


def _pull_back_for(device: torch.device) -> Callable[..., Tensor]:
    """Choose who puts the gradient together: torch, where it is itself to be differentiated (create_graph)."""
    if torch.is_grad_enabled():
        return _chunked.pull_back
    if _triton.available(device):
        return _pull_back_by_triton
    return _pull_back_on_cpu if device.type == "cpu" else _chunked.pull_back


def _search_by_torch(x: Tensor, y: Tensor) -> _chunked.Found:
    check_finite(x, "x")
    check_finite(y, "y")
    return _chunked.nearest_both_ways(x, y)


def _search_by_triton(x: Tensor, y: Tensor) -> _chunked.Found:
    """Search by the GPU's kernels, which look for coordinates that are not finite on their way."""
    from pcgen.ops._triton_search import nearest_both_ways

    found, bad = nearest_both_ways(x.detach(), y.detach(), largest_coordinate(x.dtype))
    if bad:
        check_finite(x, "x")
        check_finite(y, "y")
    return found


def _pull_back_by_triton(x: Tensor, y: Tensor, i_xy: Tensor, i_yx: Tensor, g_xy: Tensor, g_yx: Tensor) -> Tensor:
    from pcgen.ops._triton_search import pull_back

    return pull_back(x.contiguous(), y.contiguous(), i_xy, i_yx, g_xy, g_yx)


def _search_on_cpu(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Search the batch with all threads; few clouds are cut into parts of x."""
    parts = torch.split(x, -(-x.shape[1] // _parts(len(x), x.shape[1])), dim=1)
    found = [_empty_results(part, y) for part in parts]
    _run_search(list(zip(parts, found, strict=True)), x, y)
    if len(parts) == 1:
        return found[0]
    d_xy, i_xy = torch.cat([f[0] for f in found], 1), torch.cat([f[1] for f in found], 1)
    starts = torch.tensor([0] + [p.shape[1] for p in parts[:-1]]).cumsum(0)
    d_parts, i_parts = torch.stack([f[2] for f in found]), torch.stack([f[3] for f in found])  # (P, B, M)
    best = d_parts.argmin(0, keepdim=True)  # (1, B, M); the first part wins a tie
    return d_xy, i_xy, d_parts.gather(0, best)[0], (i_parts.gather(0, best) + starts[best])[0]


def _parts(clouds: int, points: int) -> int:
    """Say into how many parts to cut each cloud so that no thread is idle."""
    if clouds == 0 or clouds >= 4 * threads():
        return 1
    return max(1, min(threads() // math.gcd(clouds, threads()), points // SMALLEST_PART))


def _empty_results(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    def indices(t: Tensor) -> Tensor:
        return torch.empty(t.shape[:2], dtype=torch.int64)

    return x.new_empty(x.shape[:2]), indices(x), y.new_empty(y.shape[:2]), indices(y)


def _run_search(jobs: list[tuple[Tensor, tuple[Tensor, ...]]], x: Tensor, y: Tensor) -> None:
    """Fill the results of each part of x, and refuse what is not finite."""
    from pcgen.ops._brute import nearest_both_ways

    limit = largest_coordinate(x.dtype)
    good = torch.ones(len(jobs), 2, len(x), dtype=torch.bool)
    y_array = y.detach().numpy()
    tasks: list[Task] = []
    for (part, found), flags in zip(jobs, good.numpy(), strict=True):
        arrays = [part.detach().contiguous().numpy(), y_array, *(f.numpy() for f in found), *flags]
        tasks += [(1, partial(nearest_both_ways, *arrays, limit, *r)) for r in batch_ranges(len(x))]
    run_all(tasks)
    for tensor, name, flags in (x, "x", good[:, 0].all(0)), (y, "y", good[:, 1].all(0)):
        if not flags.all():
            refuse(tensor, name, int((~flags).nonzero()[0]))


def _pull_back_on_cpu(x: Tensor, y: Tensor, i_xy: Tensor, i_yx: Tensor, g_xy: Tensor, g_yx: Tensor) -> Tensor:
    from pcgen.ops._brute import pull_back

    g_x = torch.empty(x.shape, dtype=x.dtype)
    arrays = [t.detach().contiguous().numpy() for t in (x, y, i_xy, i_yx, g_xy, g_yx, g_x)]
    run_all([(1, partial(pull_back, *arrays, *r)) for r in batch_ranges(len(x))])
    return g_x
