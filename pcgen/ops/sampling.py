"""Choosing points of a cloud that are spread over it."""

from functools import partial

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.ops._checks import check_finite, largest_coordinate, refuse
from pcgen.ops._parallel import batch_ranges, run_all


@torch.no_grad()
def farthest_point_sampling(x: Tensor, k: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Choose k points of each cloud, each the farthest from those before it (Gonzalez 1985; Eldar et al. 1997).

    The exact greedy choice: of several points equally far the lowest index. Every index is chosen once, also where
    points coincide. Time O(B N k), memory O(B N).

    Args:
        x: (B, N, C), clouds as a rule (C 3); half precision is computed in float32.
        k: How many points, at most N.
        generator: Draws the first point of each cloud; without one it is point 0.

    Returns:
        Indices (B, k) in the order of choice, so that the first j of them are the choice of j points.

    Raises:
        DataError: If k is not within 1 … N, or a coordinate is not finite.

    >>> line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0]]])
    >>> farthest_point_sampling(line, 3)
    tensor([[0, 3, 2]])
    """
    x = _checked(x, k)
    B, N, C = x.shape
    chosen = torch.empty(B, k, dtype=torch.int64, device=x.device)
    chosen[:, 0] = _first(B, N, generator).to(x.device)
    if x.device.type == "cpu" and C == 3:
        return _on_cpu(x.contiguous(), chosen)
    check_finite(x, "x")
    return _by_torch(x, chosen)


def _on_cpu(x: Tensor, chosen: Tensor) -> Tensor:
    """Fill chosen (B, k) with all threads, and refuse what is not finite."""
    from pcgen.ops._farthest import choose_farthest

    good = torch.ones(len(x), dtype=torch.bool)
    arrays = (x.numpy(), chosen.numpy(), good.numpy())
    limit = largest_coordinate(x.dtype)
    run_all([(1, partial(choose_farthest, *arrays, limit, *r)) for r in batch_ranges(len(x))])
    if not good.all():
        refuse(x, "x", int((~good).nonzero()[0]))
    return chosen


def _by_torch(x: Tensor, chosen: Tensor) -> Tensor:
    """Fill chosen (B, k) on any device."""
    points = x.transpose(1, 2).contiguous()  # (B, C, N): the sum over C runs along the points
    nearest = points.new_full((len(x), x.shape[1]), torch.inf)  # squared distance to the nearest chosen point
    for i in range(1, chosen.shape[1]):
        last = chosen[:, i - 1, None]
        center = points.gather(2, last[:, None].expand(-1, points.shape[1], 1))  # (B, C, 1)
        torch.minimum(nearest, (points - center).square_().sum(1), out=nearest)
        nearest.scatter_(1, last, -1.0)  # below every distance, so that no point is chosen twice
        chosen[:, i] = nearest.argmax(1)  # the first of several
    return chosen


def _first(B: int, N: int, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.zeros(B, dtype=torch.int64)
    return torch.randint(N, (B,), generator=generator, device=generator.device)


def _checked(x: Tensor, k: int) -> Tensor:
    if x.ndim != 3 or not x.shape[2] or not x.dtype.is_floating_point:
        raise DataError(f"x has shape {tuple(x.shape)} and dtype {x.dtype}; clouds are floats (batch, points, 3)")
    if not 1 <= k <= x.shape[1]:
        raise DataError(f"k is {k}, but x has {x.shape[1]} points in a cloud; choose from 1 to that many")
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    return x.detach()
