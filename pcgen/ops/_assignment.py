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
from pcgen.ops._simd import Array, aligned_empty, helper, kernel
from pcgen.ops._vectors import LANES, LEAF

LAST = 0.02  # ε of the last phase before the exact end, of what a step from point to point changes in cost
NARROW = 0.1  # of the rows may have more candidates than they can list; else ε was too coarse for the pair
EXACT = 1e-13  # of the cost: an auction in double precision that gets so close is at the optimum
ROUNDED = 1e-9  # of the cost; a larger gap of an optimum means that the prices, and their rounding, dwarf the costs
CHECKED = 0.5  # the gap is computed only when ε is at most so much of the one that is sure to be small enough


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
    a: Any, b: Any, pairs: Array, single: Array, root: bool, tolerance: float, assignment: Array, cost: Array,
    bound: Array, begin: int, end: int,
) -> None:  # fmt: skip
    """Assign pairs begin … end−1 of (P, 2), each a cloud of a and one of b; both are what `arrange` filled.

    Args:
        a: order, exact and spacing of clouds.
        b: As a, of as many points.
        pairs: Indices into a and b.
        single: Of the dtype in which the auction is held, empty.
        root: Cost is the distance, not its square.
        tolerance: With one above 0 the auction stops as soon as its gap is proven to be below that share of the
            cost; where the dtype does not get there, or with 0, shortest paths finish exactly.
        assignment: Filled with the index into b's cloud for each point of a's (P, N), unless it has no columns.
        cost: Filled with the assignments' mean costs (P,); NaN where the points lie too close together for single
            precision.
        bound: Filled with lower bounds of the optimal mean costs (P,).
        begin: First pair.
        end: Pair after the last.
    """
    n = a[1].shape[2]
    assigned, framed, auctioned = np.empty(n, np.int32), np.empty((6, n)), empty_auction(n, single)
    lists = empty_lists(n)
    for p in range(begin, end):
        s, r = pairs[p, 0], pairs[p, 1]
        unit = put_in_frame(a[1][s], b[1][r], root, framed)
        spacing = min(a[2][s], b[2][r]) / unit
        worth = (unit if root else unit * unit) / n  # of a cost 1 in the frame, as a share of the mean
        gap = assign(
            a[1][s], b[1][r], framed, spacing, worth, lists, auctioned, root, max(tolerance, EXACT), assigned
        )
        cost[p] = mean_cost(a[1][s], b[1][r], assigned, root) if gap < np.inf else np.nan
        bound[p] = lower_bound(cost[p], gap * worth)
        if assignment.shape[1] > 0:
            for i in range(n):
                assignment[p, a[0][s, i]] = b[0][r, assigned[i]]


@helper
def put_in_frame(a: Array, b: Array, root: bool, framed: Array) -> float:
    """Bring clouds a and b (3, N), moved and scaled into ±½, into rows 0–2 and 3–5; gives the length that became 1.

    Squared costs have the same best assignment wherever a cloud stands, so each is moved to its own mean. The length
    is a power of two: dividing by it rounds nothing.
    """
    n, reach = a.shape[1], 0.0
    for k in range(3):
        low_a, mean_a, high_a = spread(a, k)
        low_b, mean_b, high_b = spread(b, k)
        if root:
            mean_a = mean_b = (min(low_a, low_b) + max(high_a, high_b)) / 2
        reach = max(reach, high_a - mean_a, mean_a - low_a, high_b - mean_b, mean_b - low_b)
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
        low, high = min(low, cloud[k, i]), max(high, cloud[k, i])
        beyond += cloud[k, i] - first  # of equal coordinates the mean is exact
    return low, first + beyond / cloud.shape[1], high


@helper
def assign(
    a: Array, b: Array, framed: Array, spacing: float, worth: float, lists: Any, auctioned: Any, root: bool,
    tolerance: float, assigned: Array,
) -> Any:  # fmt: skip
    """Assign one pair; gives the gap between the sum of its costs and their lower bound, ∞ where precision fails."""
    points, leaves, prices, lowest = auctioned
    x, y = framed[:3], framed[3:]
    n, M, number = x.shape[1], points.shape[1], points.dtype.type
    owner, near = np.empty(M, np.int32), np.empty(n, np.int32)
    u, v = np.empty(n), np.zeros(M)
    if n == 1:
        assigned[0] = 0
        return 0.0
    pad(y, points, leaves)
    start_prices(n, prices, lowest)
    nearest_leaves(x, n, leaves, near)
    largest, last = schedule(x, y, spacing, root)
    floor = max(FLOOR * largest if points.itemsize == 4 else 0.0, precision(points) / 10)
    last = max(floor if tolerance > EXACT else last, floor)
    epsilon = max(START * largest, last)
    while True:
        complete = run_phase(x, n, points, leaves, prices, lowest, owner, assigned, near, epsilon, root)
        for j in range(n):
            v[j] = -np.float64(prices[j])
        cost = mean_cost(a, b, assigned, root) if complete else 0.0
        if complete and n * epsilon * CHECKED * worth <= tolerance * cost:
            price_rows(n, 2 * precision(points), lists, auctioned, x, y, near, u, v, root)
            gap = total_cost(x, y, assigned, root) - dual_value(u, v)
            if cost - lower_bound(cost, gap * worth) <= tolerance * cost:
                return gap
        if epsilon <= last or not complete:
            narrow = price_rows(
                n, max(WIDTH * epsilon, 4 * precision(points)), lists, auctioned, x, y, near, u, v, root
            )
            if narrow <= NARROW * n or not complete:
                break
            if epsilon <= floor:
                if points.itemsize == 4:
                    return np.inf
                break
            last = max(SHRINK * epsilon, floor)
        epsilon = max(SHRINK * epsilon, last)
    gap = finish(n, lists, auctioned, x, y, u, v, owner, assigned, root)
    if gap * worth > ROUNDED * mean_cost(a, b, assigned, root):
        start_prices(n, prices, lowest)
        v[:], assigned[:] = 0, NO_BIDDER
        price_rows(n, 4 * precision(points), lists, auctioned, x, y, near, u, v, root)
        gap = finish(n, lists, auctioned, x, y, u, v, owner, assigned, root)
    return gap


@helper
def finish(
    n: int, lists: Any, auctioned: Any, x: Array, y: Array, u: Array, v: Array, owner: Array, assigned: Array,
    root: bool,
) -> float:  # fmt: skip
    """Go on from the duals to the optimum; gives the gap, which is rounding."""
    keep_tight(n, lists, assigned, owner, x, y, u, v, root)
    assign_free_rows(n, lists, auctioned, x, y, u, v, owner, assigned, root)
    return total_cost(x, y, assigned, root) - dual_value(u, v)


@helper
def pad(exact: Array, points: Array, leaves: Array) -> None:
    """Fill padded coordinates (3, M) and the boxes of their leaves (6, L)."""
    n = exact.shape[1]
    for k in range(3):
        for i in range(points.shape[1]):
            points[k, i] = exact[k, min(i, n - 1)]
    enclose(points, LEAF, leaves)


@helper
def schedule(x: Array, y: Array, spacing: float, root: bool) -> Any:
    """Give the largest cost of a pair, and the ε of the last phase before the exact end."""
    nearest, largest = cost_scale(x, y)
    if root:
        return math.sqrt(largest), LAST * spacing
    return largest, LAST * spacing * max(2 * math.sqrt(nearest), spacing)


@helper
def lower_bound(cost: float, gap: float) -> float:
    """Give the lower bound of a cost with a gap, which at an optimum is rounding of either sign."""
    return max(cost - max(gap, 0.0), 0.0)


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


@helper
def mean_cost(x: Array, y: Array, assigned: Array, root: bool) -> float:
    """Average the costs of an assignment, in a way that does not overflow."""
    total, n = 0.0, assigned.shape[0]
    for i in range(n):
        total += exact_cost(x, i, y, assigned[i], root) / n
    return total


@helper
def empty_auction(n: int, like: Array) -> Any:
    """Allocate the columns of an auction: coordinates (3, M), boxes of leaves (6, L), prices (M,) and lowest (L,)."""
    leaves = -(-n // LEAF)
    padded = -(-leaves // LANES) * LANES
    return (
        aligned_empty(3 * leaves * LEAF, like).reshape(3, leaves * LEAF),
        aligned_empty(6 * padded, like).reshape(6, padded),
        aligned_empty(leaves * LEAF, like),
        aligned_empty(padded, like),
    )


def empty_arranged(count: int, points: int) -> tuple[Array, ...]:
    """Allocate what `arrange` fills."""
    return np.empty((count, points), np.int64), np.empty((count, 3, points)), np.empty(count)
