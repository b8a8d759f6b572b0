"""Entry points of the assignment solver."""

import math
from typing import Any

import numpy as np

from pcgen.ops._auction import (
    FLOOR,
    NO_BIDDER,
    SHRINK,
    START,
    cost_scale,
    nearest_leaves,
    run_phase,
    start_prices,
)
from pcgen.ops._pruned import enclose, spatial_order
from pcgen.ops._shortest_paths import (
    WIDTH,
    assign_free_rows,
    empty_lists,
    exact_cost,
    keep_tight,
    precision,
    price_rows,
    squared_distance,
)
from pcgen.ops._simd import Array, helper, kernel
from pcgen.ops._vectors import LANES, LEAF

LAST = 0.02  # ε of the last phase before the exact end, of what a step from point to point changes in cost
NARROW = 0.1  # of the rows may have more candidates than they can list; else ε was too coarse for the pair
CHECKED = 0.5  # the gap is computed only when ε is at most so much of the one that is sure to be small enough


@kernel
def arrange(
    clouds: Array, order: Array, exact: Array, planes: Array, leaves: Array, spacing: Array, begin: int, end: int
) -> None:
    """Order clouds begin … end−1 of (S, N, 3) in space.

    Fills `order` (S, N), the coordinates in that order, `exact` (S, 3, N) and in single precision, padded, `planes`
    (S, 3, M), the boxes of the leaves (S, 6, L) and the mean distance between neighbours (S,).
    """
    n = clouds.shape[1]
    for s in range(begin, end):
        ordered = spatial_order(clouds[s])
        for i in range(n):
            order[s, i] = ordered[i]
            for k in range(3):
                exact[s, k, i] = clouds[s, ordered[i], k]
        pad(exact[s], planes[s], leaves[s])
        spacing[s] = neighbor_distance(exact[s])


@helper
def pad(exact: Array, planes: Array, leaves: Array) -> None:
    """Fill padded coordinates (3, M) and the boxes of their leaves (6, L)."""
    n = exact.shape[1]
    for k in range(3):
        for i in range(planes.shape[1]):
            planes[k, i] = exact[k, min(i, n - 1)]
    enclose(planes, LEAF, leaves)


@helper
def neighbor_distance(x: Array) -> float:
    """Average the distance to the nearest other point of the same leaf."""
    n, total = x.shape[1], 0.0
    for i in range(n):
        begin, nearest = i // LEAF * LEAF, np.inf
        for j in range(begin, min(begin + LEAF, n)):
            if j != i:
                nearest = min(nearest, squared_distance(x, i, x, j))
        total += math.sqrt(nearest) if nearest < np.inf else 0.0
    return total / n


@kernel
def assign_pairs(
    a: Any, b: Any, pairs: Array, root: bool, tolerance: float, assignment: Array, cost: Array, bound: Array,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Assign pairs begin … end−1 of (P, 2), each a cloud of a and one of b; both are what `arrange` filled.

    Args:
        a: order, exact, planes and leaves of clouds within ±½.
        b: As a, of as many points.
        pairs: Indices into a and b.
        root: Cost is the distance, not its square.
        tolerance: With one above 0 the auction stops as soon as its gap is proven to be below that share of the
            cost; where single precision does not get there, or with 0, shortest paths finish exactly.
        assignment: Filled with the index into b's cloud for each point of a's (P, N), unless it has no columns.
        cost: Filled with the assignments' costs, sums over points (P,); NaN where the points lie too close together
            for the precision of the planes, which must then be double.
        bound: Filled with lower bounds of the optimal costs (P,).
        begin: First pair.
        end: Pair after the last.
    """
    n = a[1].shape[2]
    assigned = np.empty(n, np.int32)
    for p in range(begin, end):
        s, r = pairs[p, 0], pairs[p, 1]
        cost[p], bound[p] = assign(
            a[1][s], b[1][r], a[2][s], b[2][r], b[3][r], min(a[4][s], b[4][r]), root, tolerance, assigned
        )
        if assignment.shape[1] > 0:
            for i in range(n):
                assignment[p, a[0][s, i]] = b[0][r, assigned[i]]


@helper
def assign(
    x: Array, y: Array, rows: Array, points: Array, leaves: Array, spacing: float, root: bool, tolerance: float,
    assigned: Array,
) -> Any:  # fmt: skip
    """Assign one pair; gives the cost, NaN where the precision does not do, and the lower bound."""
    n, M, number = x.shape[1], points.shape[1], points.dtype.type
    prices, lowest = np.empty(M, points.dtype), np.empty(leaves.shape[1], points.dtype)
    owner, near = np.empty(M, np.int32), np.empty(n, np.int32)
    u, v = np.empty(n), np.zeros(M)
    auctioned, lists = (points, leaves, prices, lowest), empty_lists(n)
    start_prices(n, prices, lowest)
    nearest_leaves(rows, n, leaves, near)
    largest, last = schedule(rows, n, points, spacing, root)
    floor = max(FLOOR * largest if points.itemsize == 4 else 0.0, precision(points) / 10)
    last = max(floor if tolerance > 0 else last, floor)
    epsilon = max(START * largest, last)
    assigned[:] = 0 if n == 1 else NO_BIDDER
    while True:
        complete = n == 1 or run_phase(
            rows, n, points, leaves, prices, lowest, owner, assigned, near, number(epsilon), root
        )
        for j in range(n):
            v[j] = -np.float64(prices[j])
        if complete and tolerance > 0 and n > 1:
            cost = total_cost(x, y, assigned, root)
            if n * epsilon * CHECKED <= tolerance * cost:
                price_rows(n, 2 * precision(points), lists, auctioned, x, y, near, u, v, root)
                bound = dual_value(u, v)
                if cost - bound <= tolerance * cost:
                    return cost, bound
        if epsilon <= last or not complete:
            narrow = price_rows(
                n, max(WIDTH * epsilon, 4 * precision(points)), lists, auctioned, x, y, near, u, v, root
            )
            if narrow <= NARROW * n or spacing == 0 or not complete:
                break
            if epsilon <= floor:
                if points.itemsize == 4:
                    return np.nan, np.nan
                break
            last = max(SHRINK * epsilon, floor)
        epsilon = max(SHRINK * epsilon, last)
    keep_tight(n, lists, assigned, owner, x, y, u, v, root)
    assign_free_rows(n, lists, auctioned, x, y, u, v, owner, assigned, root)
    return total_cost(x, y, assigned, root), dual_value(u, v)


@helper
def schedule(rows: Array, n: int, points: Array, spacing: float, root: bool) -> Any:
    """Give the largest cost of a pair, and the ε of the last phase before the exact end."""
    nearest, largest = cost_scale(rows, n, points)
    if root:
        return math.sqrt(largest), LAST * spacing
    return largest, LAST * spacing * max(2 * math.sqrt(nearest), spacing)


@helper
def dual_value(u: Array, v: Array) -> float:
    """Add up the dual values; those of padding are zero."""
    total = 0.0
    for i in range(u.shape[0]):
        total += u[i] + v[i]
    return total


@helper
def total_cost(x: Array, y: Array, assigned: Array, root: bool) -> float:
    """Sum the costs of an assignment."""
    total = 0.0
    for i in range(assigned.shape[0]):
        total += exact_cost(x, i, y, assigned[i], root)
    return total


def empty_arranged(count: int, points: int, dtype: Any) -> tuple[Array, ...]:
    """Allocate what `arrange` fills."""
    leaves = math.ceil(points / LEAF)
    return (
        np.empty((count, points), np.int64),
        np.empty((count, 3, points)),
        np.empty((count, 3, leaves * LEAF), dtype),
        np.empty((count, 6, math.ceil(leaves / LANES) * LANES), dtype),
        np.empty(count),
    )
