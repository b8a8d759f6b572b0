"""Nearest neighbours when each point of one cloud is a Gaussian with its own scale on each axis."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.ops import _chunked, _triton
from pcgen.ops._checks import check_finite, checked_pair, largest_coordinate, refuse
from pcgen.ops._parallel import batch_ranges, run_all

LARGEST_LOG_SCALE = 40.0  # e⁴⁰ squared is still far from float32's end


def gaussian_nearest_neighbors(x: Tensor, y: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the smallest Gaussian cost of each point of x over y, and of each point of y over x.

    The cost of a pair is Σ_k [log σ(y)_k + (x_k − y_k)² / (2 σ(y)_k²)]: the negative logarithm of a normal density
    but for a constant. The minimum is over the whole bracket, not over the distance. Gradients follow the pairs that
    were found. Memory O(B (N + M)), and without a compiled kernel (a device that is neither the CPU nor a GPU
    with Triton) a chunk of bounded size besides; deterministic.

    Args:
        x: Points (B, N, 3), float32 or float64; half precision is computed in float32.
        y: Means (B, M, 3).
        log_scale: log σ(y) (B, M, 3), each within ±40.

    Returns:
        Costs (B, N) of the points of x, indices (B, N) into y, costs (B, M) of the points of y, indices (B, M) into
        x. The lowest index wins a tie.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, a cloud is empty, or a value is not finite.

    >>> x, y = torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]])
    >>> cost, index, _, _ = gaussian_nearest_neighbors(x, y, torch.zeros_like(y))
    >>> cost, index  # log 1 + 1²/2
    (tensor([[0.5000]]), tensor([[0]]))
    """
    x, y = checked_pair(x, y)
    y, log_scale = checked_pair(y, log_scale, ("y", "log_scale"))
    if log_scale.shape != y.shape:
        raise DataError(f"log_scale has shape {tuple(log_scale.shape)}; it must be that of y, {tuple(y.shape)}")
    if x.device.type == "cpu" and not _triton.available(x.device):
        c_x, i_x, c_y, i_y = _GaussianNeighbors.apply(x, y, log_scale)  # type: ignore[no-untyped-call]  # torch's stub
        return c_x, i_x, c_y, i_y
    for tensor, name in (x, "x"), (y, "y"), (log_scale, "log_scale"):
        check_finite(tensor, name)
    _check_scales(log_scale)
    _, i_x, _, i_y = _search_elsewhere(x.detach(), y.detach(), log_scale.detach())
    c_x, c_y = _costs(x, y, log_scale, i_x, i_y)
    return c_x, i_x, c_y, i_y


def _search_elsewhere(x: Tensor, y: Tensor, log_scale: Tensor) -> _chunked.Found:
    if not _triton.available(x.device):
        return _chunked.gaussian_both_ways(x, y, log_scale)
    from pcgen.ops._triton_search import gaussian_both_ways

    return gaussian_both_ways(x.contiguous(), y.contiguous(), log_scale.contiguous())


def _check_scales(log_scale: Tensor) -> None:
    if log_scale.numel() and (largest := float(log_scale.detach().abs().max())) > LARGEST_LOG_SCALE:
        raise DataError(f"log_scale reaches ±{largest:g}; clamp it to ±{LARGEST_LOG_SCALE:g}")


def _costs(x: Tensor, y: Tensor, log_scale: Tensor, i_x: Tensor, i_y: Tensor) -> tuple[Tensor, Tensor]:
    """Give the costs (B, N) and (B, M) of pairs that were found, by torch."""

    def bracket(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
        return (s + 0.5 * ((a - b) * (-s).exp()).square()).sum(2)

    there = bracket(x, gather_points(y, i_x), gather_points(log_scale, i_x))
    return there, bracket(gather_points(x, i_y), y, log_scale)


class _GaussianNeighbors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, log_scale: Tensor) -> tuple[Tensor, ...]:
        found = _search_on_cpu(x, y, log_scale)
        ctx.save_for_backward(x, y, log_scale, found[1], found[3])
        ctx.mark_non_differentiable(found[1], found[3])
        return found

    @staticmethod
    def backward(ctx: Any, g_cx: Tensor, _: Any, g_cy: Tensor, __: Any) -> tuple[Tensor | None, ...]:
        x, y, log_scale, i_x, i_y = ctx.saved_tensors
        data = (x, y, log_scale)
        if torch.is_grad_enabled():  # create_graph: a gradient that is itself to be differentiated
            return _pull_back_with_graph(data, _costs(*data, i_x, i_y), (g_cx, g_cy))
        gradients = [torch.zeros(t.shape, dtype=t.dtype) for t in data]
        arguments = [_arrays(group) for group in (data, (i_x, i_y), (g_cx, g_cy), gradients)]
        from pcgen.ops._gaussian_search import pull_back

        run_all([(1, partial(pull_back, *arguments, *r)) for r in batch_ranges(len(data[0]))])
        return tuple(g if needed else None for g, needed in zip(gradients, ctx.needs_input_grad, strict=True))


def _pull_back_with_graph(
    data: tuple[Tensor, ...], costs: tuple[Tensor, Tensor], gradients: tuple[Tensor, Tensor]
) -> tuple[Tensor | None, ...]:
    """Differentiate by torch, so that the result can be differentiated too."""
    wanted = [t for t in data if t.requires_grad]
    found = iter(torch.autograd.grad(costs, wanted, gradients, create_graph=True))
    return tuple(next(found) if t.requires_grad else None for t in data)


def _arrays(tensors: Iterable[Tensor]) -> tuple[Any, ...]:
    return tuple(t.detach().contiguous().numpy() for t in tensors)


def _search_on_cpu(x: Tensor, y: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Search the batch with all threads, and refuse what is not finite."""
    from pcgen.ops._gaussian_search import smallest_both_ways

    c_x, i_x = torch.empty(x.shape[:2], dtype=x.dtype), torch.empty(x.shape[:2], dtype=torch.int64)
    c_y, i_y = torch.empty(y.shape[:2], dtype=y.dtype), torch.empty(y.shape[:2], dtype=torch.int64)
    good = torch.ones(3, len(x), dtype=torch.bool)
    arguments = (_arrays((x, y, log_scale)), _arrays((c_x, i_x, c_y, i_y)), good.numpy())
    limits = (largest_coordinate(x.dtype), LARGEST_LOG_SCALE)
    run_all([(1, partial(smallest_both_ways, *arguments, *limits, *r)) for r in batch_ranges(len(x))])
    for tensor, name, flags in zip((x, y, log_scale), ("x", "y", "log_scale"), good, strict=True):
        if not flags.all():
            if name == "log_scale":
                check_finite(log_scale, name)
                _check_scales(log_scale)
            refuse(tensor, name, int((~flags).nonzero()[0]))
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
    """Pick points (B, M, C) by index (B, N), giving (B, N, C), with a deterministic gradient.

    >>> gather_points(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[2, 0, 2]])).flatten()
    tensor([3., 1., 3.])
    """
    picked: Tensor = _Gather.apply(points, index)  # type: ignore[no-untyped-call]  # torch's stub
    return picked
