"""Farthest point sampling on the CPU: one pass of SIMD arithmetic over a cloud for each point that is chosen."""

import numpy as np

from pcgen.ops._simd import (
    Array,
    Planes,
    aligned_empty,
    helper,
    kernel,
    maximum,
    minimum,
    pack,
    squared_norm,
    use_widest_vectors,
)


@helper
def approach(column: Planes, last: int, nearest: Array, best: float) -> float:
    """Lower each point's distance to the chosen ones by the last of them, and give the largest that remains."""
    use_widest_vectors()
    x, y, z = column
    a, b, c = x[last], y[last], z[last]
    for j in range(nearest.shape[0]):
        d = minimum(nearest[j], squared_norm(x[j] - a, y[j] - b, z[j] - c))
        nearest[j] = d
        best = maximum(best, d)
    return best


@kernel
def choose_farthest(points: Array, chosen: Array, good: Array, limit: float, begin: int, end: int) -> None:
    """Fill chosen (B, k), whose first column is given, for the clouds of points (B, N, 3) from begin to end."""
    n = points.shape[1]
    for b in range(begin, end):
        x, y, z, good[b] = pack(points[b], limit)
        taken = points.dtype.type(-1)  # below every distance: such a point is not chosen again
        nearest = aligned_empty(x.shape[0], x)
        nearest[:] = np.inf
        nearest[n:] = taken
        for i in range(1, chosen.shape[1]):
            last = chosen[b, i - 1]
            nearest[last] = taken
            best = approach((x, y, z), last, nearest, taken)
            j = 0
            while nearest[j] != best and j < n - 1:  # not finite: stops at the end, and the cloud is refused
                j += 1
            chosen[b, i] = j
