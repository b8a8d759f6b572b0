"""All distances between two sets of clouds, under any of the known distances."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.ops import pairwise_chamfer_distance

PairwiseDistance = Callable[[Tensor, Tensor], Tensor]  # (S, N, 3), (R, M, 3) -> (S, R)
_ROWS = 32  # rows of a matrix between two reports of progress


class Distance(NamedTuple):
    """A distance between clouds: what it is, and how it is computed for all pairs."""

    definition: str
    pairwise: PairwiseDistance


DISTANCES = {
    "cd": Distance("Chamfer, squared distances, mean over points, both directions added", pairwise_chamfer_distance),
}


def matrix(pairwise: PairwiseDistance, a: Tensor, b: Tensor, count: Callable[[int], None] | None = None) -> Tensor:
    """Compute all distances between two sets, a block of rows at a time.

    Args:
        pairwise: (s, N, 3), (r, M, 3) to (s, r).
        a: (S, N, 3).
        b: (R, M, 3).
        count: Called with the number of pairs of each block.

    Returns:
        (S, R) on the CPU: small, and what is made of it wants float64, which not every device has.
    """
    rows = []
    for part in torch.split(a, _ROWS):
        rows.append(pairwise(part, b).cpu())
        if count is not None:
            count(rows[-1].numel())
    return torch.cat(rows)


def symmetric_matrix(pairwise: PairwiseDistance, a: Tensor, count: Callable[[int], None] | None = None) -> Tensor:
    """Compute all distances within a set, (S, S) on the CPU: the lower half, and its mirror image."""
    d = a.new_zeros(len(a), len(a), device="cpu")
    for start in range(0, len(a), _ROWS):
        part = a[start : start + _ROWS]
        stop = start + len(part)
        d[start:stop, start:stop] = pairwise(part, part).cpu()
        if start:
            d[start:stop, :start] = pairwise(part, a[:start]).cpu()
            d[:start, start:stop] = d[start:stop, :start].T
        if count is not None:
            count(len(part) * start + len(part) * (len(part) + 1) // 2)
    return d
