"""The Chamfer distance between two clouds.

Definition (Fan et al., "A Point Set Generation Network", 2017,
https://arxiv.org/abs/1612.00603): the distances from each point to the nearest point of the other cloud, averaged or
summed in each direction, both directions added.
"""

from typing import Literal

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.ops.neighbors import bidirectional_nearest_neighbors

Reduction = Literal["mean", "sum"]


def chamfer_distance(x: Tensor, y: Tensor, *, norm: int = 2, reduction: Reduction = "mean") -> Tensor:
    """Compute the Chamfer distance of each pair of clouds (x[i], y[i]).

    Exact to the rounding of the dtype, also far from the origin; deterministic; memory O(B (N + M)), and on a device
    other than the CPU a chunk of bounded size besides. The gradient of a distance that is zero is zero.

    Args:
        x: (B, N, 3), float32 or float64; half precision is computed in float32.
        y: (B, M, 3).
        norm: 2 takes squared distances, 1 takes distances.
        reduction: `"mean"`: (1/N) Σ_x min_y d + (1/M) Σ_y min_x d; `"sum"`: the two sums.

    Returns:
        (B,), in squared units of the coordinates for norm 2, in their units for norm 1.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, a cloud is empty, or a coordinate is not finite.
        ConfigurationError: If norm or reduction is none of the above.

    >>> x, y = torch.zeros(1, 1, 3), torch.tensor([[[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])
    >>> chamfer_distance(x, y)  # 4 + (9 + 4)/2
    tensor([10.5000])
    >>> chamfer_distance(x, y, norm=1, reduction="sum")  # 2 + (3 + 2)
    tensor([7.])
    """
    check_options(norm, reduction)
    d_xy, _, d_yx, _ = bidirectional_nearest_neighbors(x, y)
    return _reduce(d_xy, norm, reduction) + _reduce(d_yx, norm, reduction)


def check_options(norm: int, reduction: str) -> None:
    """Refuse a norm or reduction that there is not."""
    if norm not in (1, 2):
        raise ConfigurationError(f"norm is {norm!r}; 2 takes squared distances, 1 takes distances")
    if reduction not in ("mean", "sum"):
        raise ConfigurationError(f'reduction is {reduction!r}; choose "mean" or "sum" (over points)')


def _reduce(squared: Tensor, norm: int, reduction: str) -> Tensor:
    """Reduce squared distances (B, N) to (B,), adding in float64 where the device has it."""
    d = squared if norm == 2 else safe_sqrt(squared)
    wide = torch.float32 if d.device.type == "mps" else torch.float64
    total = d.sum(1, dtype=wide)
    return (total / d.shape[1] if reduction == "mean" else total).to(d.dtype)


def safe_sqrt(x: Tensor) -> Tensor:
    """Take the root of x ≥ 0 with gradient 0, not infinity, where x is 0."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)
