"""Finding numbers that are not finite."""

from collections.abc import Iterable

import torch
from torch import Tensor


def not_finite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Give the names of those tensors that hold NaN or infinity.

    Where all are finite, that costs one pass over each, and on a GPU one wait.

    Args:
        named: Names and tensors of any shape, such as `module.named_parameters()`; those without a fraction are passed
            over.

    Returns:
        Names in the order given, [] if all is well.
    """
    real = [(name, t.detach()) for name, t in named if t.is_floating_point() and t.numel()]
    if not real or all_finite([t for _, t in real]):
        return []
    return [name for name, t in real if not bool(t.isfinite().all())]


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Say whether no tensor holds NaN or infinity."""
    tensors = list(tensors)
    # The norm is the fastest pass there is: NaN and infinity go through it. It may be too large to be told although
    # each number is finite, and then each is looked at.
    norm = torch.nn.utils.get_total_norm(tensors)
    return bool(norm.isfinite()) or all(bool(t.isfinite().all()) for t in tensors)
