"""Nearest neighbours when each point of one cloud is a Gaussian with its own scale on each axis."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.ops import _chunked
from pcgen.ops._checks import check_finite, checked_pair, largest_coordinate
from pcgen.ops._parallel import batch_ranges, run_all

LARGEST_LOG_SCALE = 40.0  # e⁴⁰ squared is still far from float32's end


def gaussian_nearest_neighbors(x: Tensor, y: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the smallest Gaussian cost of each point of x over y, and of each point of y over x.

    The cost of a pair is Σ_k [log σ(y)_k + (x_k − y_k)² / (2 σ(y)_k²)]: the negative logarithm of a normal density
    but for a constant. The minimum is over the whole bracket, not over the distance. Gradients follow the pairs that
    were found. Memory O(B (N + M)) on the CPU; deterministic.

    Args:
        x: Points (B, N, 3), float32 or float64; half precision is computed in float32.
        y: Means (B, M, 3).
        log_scale: log σ(y) (B, M, 3), each within ±40.

    Returns:
        Costs (B, N) of the points of x, indices (B, N) into y, costs (B, M) of the points of y, indices (B, M) into
        x. The lowest index wins a tie.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, a cloud is empty, or a value is not finite.
    """
    x, y = checked_pair(x, y)
    y, log_scale = checked_pair(y, log_scale, ("y", "log_scale"))
    if log_scale.shape != y.shape:
        raise DataError(f"log_scale has shape {tuple(log_scale.shape)}; it must be that of y, {tuple(y.shape)}")
    for tensor, name in (x, "x"), (y, "y"), (log_scale, "log_scale"):
        check_finite(tensor, name)
    if log_scale.numel() and (largest := float(log_scale.detach().abs().max())) > LARGEST_LOG_SCALE:
        raise DataError(f"log_scale reaches ±{largest:g}; clamp it to ±{LARGEST_LOG_SCALE:g}")
    with torch.no_grad():
        _, i_x, _, i_y = _search(x.detach(), y.detach(), log_scale.detach())
    c_x = _bracket(x, gather_points(y, i_x), gather_points(log_scale, i_x))
    c_y = _bracket(gather_points(x, i_y), y, log_scale)
    return c_x, i_x, c_y, i_y


def _bracket(x: Tensor, y: Tensor, log_scale: Tensor) -> Tensor:
    """Give Σ_k [log σ_k + (x_k − y_k)² / (2 σ_k²)] of matched points (B, N, 3), as (B, N)."""
    return (log_scale + 0.5 * ((x - y) * (-log_scale).exp()).square()).sum(2)


def _search(x: Tensor, y: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if x.device.type != "cpu":
        return _chunked.gaussian_both_ways(x, y, log_scale)
    from pcgen.ops._gaussian_search import smallest_both_ways

    c_x, i_x = x.new_empty(x.shape[:2]), torch.empty(x.shape[:2], dtype=torch.int64)
    c_y, i_y = y.new_empty(y.shape[:2]), torch.empty(y.shape[:2], dtype=torch.int64)
    tensors = (x, y, (-log_scale).exp() * 0.5**0.5, log_scale.sum(2), c_x, i_x, c_y, i_y)
    arrays = [t.contiguous().numpy() for t in tensors]
    limit = largest_coordinate(x.dtype)
    run_all([(1, partial(smallest_both_ways, *arrays, limit, *r)) for r in batch_ranges(len(x))])
    return c_x, i_x, c_y, i_y


class _Gather(torch.autograd.Function):
    """Gathering whose gradient is summed in the same order every time, on any device."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.size = points.shape[1]
        return _chunked.take(points, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _chunked.scatter_sum(gradient, index, ctx.size), None


def gather_points(points: Tensor, index: Tensor) -> Tensor:
    """Pick points (B, M, C) by index (B, N), giving (B, N, C), with a deterministic gradient."""
    picked: Tensor = _Gather.apply(points, index)  # type: ignore[no-untyped-call]  # torch's stub
    return picked
