"""Clouds as the assignment solver wants them: ordered in space, and a pair in a common frame."""

import math
from typing import Any

import numpy as np

from pcgen.ops._pruned import enclose, spatial_order
from pcgen.ops._shortest_paths import squared_distance
from pcgen.ops._simd import Array, helper, kernel, maximum, minimum
from pcgen.ops._vectors import LEAF


@kernel
def arrange(clouds: Array, order: Array, exact: Array, spacing: Array, begin: int, end: int) -> None:
    """Order clouds begin … end−1 of (S, N, 3) in space.

    Fills `order` (S, N), the coordinates in that order, `exact` (S, 3, N), and the mean distance between neighbours
    (S,).
    """
    n = clouds.shape[1]
    for s in range(begin, end):
        ordered = spatial_order(clouds[s])
        for i in range(n):
            order[s, i] = ordered[i]
            for k in range(3):
                exact[s, k, i] = clouds[s, ordered[i], k]
        spacing[s] = neighbor_distance(exact[s])


@helper
def neighbor_distance(x: Array) -> Any:
    """Average the distance to the nearest other point of the same leaf."""
    n, total = x.shape[1], 0.0
    for i in range(n):
        begin, nearest = i // LEAF * LEAF, np.inf
        for j in range(begin, min(begin + LEAF, n)):
            if j != i:
                nearest = minimum(nearest, squared_distance(x, i, x, j))
        total += math.sqrt(nearest) if nearest < np.inf else 0.0
    return total / n


@helper
def put_in_frame(a: Array, b: Array, root: bool, framed: Array) -> Any:
    """Bring clouds a and b (3, N), moved and scaled into ±½, into rows 0–2 and 3–5; gives the length that became 1.

    Squared costs have the same best assignment wherever a cloud stands, so each is moved to its own mean. The length
    is a power of two: dividing by it rounds nothing.
    """
    n, reach = a.shape[1], 0.0
    for k in range(3):
        low_a, mean_a, high_a = spread(a, k)
        low_b, mean_b, high_b = spread(b, k)
        if root:
            mean_a = mean_b = (minimum(low_a, low_b) + maximum(high_a, high_b)) / 2
        reach = maximum(reach, maximum(high_a - mean_a, mean_a - low_a))
        reach = maximum(reach, maximum(high_b - mean_b, mean_b - low_b))
        for i in range(n):
            framed[k, i], framed[3 + k, i] = a[k, i] - mean_a, b[k, i] - mean_b
    unit = math.ldexp(1.0, math.frexp(reach)[1] + 1)
    for k in range(6):
        for i in range(n):
            framed[k, i] /= unit
    return unit


@helper
def spread(cloud: Array, k: int) -> Any:
    """Give the smallest, the mean and the largest coordinate on an axis."""
    first = low = high = cloud[k, 0]
    beyond = 0.0
    for i in range(cloud.shape[1]):
        low, high = minimum(low, cloud[k, i]), maximum(high, cloud[k, i])
        beyond += cloud[k, i] - first  # of equal coordinates the mean is exact
    return low, first + beyond / cloud.shape[1], high


@helper
def pad(exact: Array, points: Array, leaves: Array) -> None:
    """Fill padded coordinates (3, M) and the boxes of their leaves (6, L)."""
    n = exact.shape[1]
    for k in range(3):
        for i in range(points.shape[1]):
            points[k, i] = exact[k, min(i, n - 1)]
    enclose(points, LEAF, leaves)


def empty_arranged(count: int, points: int) -> tuple[Array, ...]:
    """Allocate what `arrange` fills."""
    return np.empty((count, points), np.int64), np.empty((count, 3, points)), np.empty(count)
