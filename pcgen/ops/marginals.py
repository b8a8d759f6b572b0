"""Lower bounds of the earth mover's distance from one-dimensional marginals, for all pairs at almost no cost."""

import torch
from torch import Tensor

from pcgen.ops._checks import check_same_size, checked_pair

SAFETY = 1 - 1e-9  # sums of thousands of float64 are good to 1e-12
SLACK = 1e-14  # of the clouds' reach: what rounding may add to a displacement, which shows only between near twins
CLOUDS_AT_ONCE = 512  # of a's marginals against all of b's


def pairwise_marginal_bound(a: Tensor, b: Tensor, *, squared: bool = False, frames: int = 4) -> Tensor:
    """Bound the earth mover's distances of all pairs of two sets from below.

    In one dimension the best assignment is by rank, so sorting gives the distance W_k of the marginals along each
    axis. No assignment in space moves less than that along any axis, hence with its displacements v, and since a
    norm is convex, mean ‖v‖ ≥ ‖(mean |v_1|, mean |v_2|, mean |v_3|)‖ ≥ √(W_1² + W_2² + W_3²), and for squared
    distances mean ‖v‖² = Σ mean v_k² ≥ Σ W_k². It holds for the axes of every orthonormal frame; the largest of
    several is given.

    Args:
        a: (S, N, 3), float32 or float64.
        b: (R, N, 3); the same tensor as a for the distances within a set, which are prepared once.
        squared: Bound the mean squared distance.
        frames: Orthonormal frames to try, the first that of the coordinates.

    Returns:
        (S, R) float64, on the CPU where the device has no float64 (mps), without gradient. 0 for clouds that are apart
        by less than rounding.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, or the clouds differ in size.

    Example:
        >>> a = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> pairwise_marginal_bound(a, a + torch.tensor([3.0, 4.0, 0.0])).round(decimals=6)
        tensor([[5.]], dtype=torch.float64)
    """
    same = a is b
    a, b = checked_pair(a.detach(), b.detach(), ("a", "b"), batched=False)
    check_same_size(a, b, ("a", "b"))
    a, b = (x.cpu() if x.device.type == "mps" else x for x in (a, b))
    centre = b.mean((0, 1), dtype=torch.float64)
    b = b.double() - centre
    a = b if same else a.double() - centre
    best = a.new_zeros(len(a), len(b))
    for frame in _frames(frames).to(a):
        squares = sum(_marginal_cost(a, b, axis, squared) for axis in frame)
        best = torch.maximum(best, torch.as_tensor(squares))
    slack = SLACK * torch.maximum(_reach(a)[:, None], _reach(b))
    bound = (best.sqrt() - slack).clamp(min=0) * SAFETY
    return bound.square() if squared else bound


def _marginal_cost(a: Tensor, b: Tensor, axis: Tensor, squared: bool) -> Tensor:
    """Give (S, R): the mean squared difference by rank along an axis, or the square of the mean difference."""
    columns = (b @ axis).sort(1).values
    a, b = columns if a is b else (a @ axis).sort(1).values, columns
    n = a.shape[1]
    rows: list[Tensor] = []
    for some in a.split(CLOUDS_AT_ONCE):
        norm = torch.cdist(some, b, p=2.0 if squared else 1.0, compute_mode="donot_use_mm_for_euclid_dist")
        rows.append(norm.square() / n if squared else (norm / n).square())
    return torch.cat(rows) if rows else a.new_zeros(0, len(b))


def _reach(clouds: Tensor) -> Tensor:
    """Give the largest distance from the origin in each of (S, N, 3)."""
    reach: Tensor = torch.linalg.vector_norm(clouds, dim=2).amax(1)
    return reach


def _frames(count: int) -> Tensor:
    """Give the coordinates' frame and random ones, always the same, (count, 3, 3) float64."""
    generator = torch.Generator().manual_seed(0)
    random = torch.linalg.qr(torch.randn(count - 1, 3, 3, dtype=torch.float64, generator=generator)).Q
    return torch.cat([torch.eye(3, dtype=torch.float64)[None], random])
