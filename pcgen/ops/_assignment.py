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
from pcgen.ops._frames import pad, put_in_frame
from pcgen.ops._shortest_paths import (
    SINGLE,
    WIDTH,
    assign_free_rows,
    empty_lists,
    exact_cost,
    keep_tight,
    precision,
    price_rows,
)
from pcgen.ops._simd import Array, aligned_empty, helper, kernel, maximum, minimum
from pcgen.ops._vectors import LANES, LEAF

LAST = 0.02  # ε of the last phase before the exact end, of what a step from point to point changes in cost
NARROW = 0.1  # of the rows may have more candidates than they can list; else ε was too coarse for the pair
EXACT = 1e-13  # of the cost: an auction in double precision that gets so close is at the optimum
ROUNDED = 1e-9  # of the cost; a larger gap of an optimum means that the prices, and their rounding, dwarf the costs
CHECKED = 0.5  # the gap is computed only when ε is at most so much of the one that is sure to be small enough


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
        spacing = minimum(a[2][s], b[2][r]) / unit
        worth = (unit if root else unit * unit) / n  # of a cost 1 in the frame, as a share of the mean
        gap = assign(
            a[1][s], b[1][r], framed, spacing, worth, lists, auctioned, root, maximum(tolerance, EXACT), assigned
        )
        if gap == np.inf:
            cost[p], bound[p] = np.nan, np.nan
            continue
        cost[p] = mean_cost(a[1][s], b[1][r], assigned, root)
        bound[p] = lower_bound(cost[p], gap * worth)
        if assignment.shape[1] > 0:
            for i in range(n):
                assignment[p, a[0][s, i]] = b[0][r, assigned[i]]


@helper
def assign(
    a: Array, b: Array, framed: Array, spacing: float, worth: float, lists: Any, auctioned: Any, root: bool,
    tolerance: float, assigned: Array,
) -> Any:  # fmt: skip
    """Assign one pair; gives the gap between the sum of its costs and their lower bound, ∞ where precision fails."""
    points, leaves, prices, lowest = auctioned
    x, y = framed[:3], framed[3:]
    n, M = x.shape[1], points.shape[1]
    owner, near = np.empty(M, np.int32), np.empty(n, np.int32)
    u, v = np.empty(n), np.zeros(M)
    if n == 1:
        assigned[0] = 0
        return 0.0
    pad(y, points, leaves)
    start_prices(n, prices, lowest)
    nearest_leaves(x, n, leaves, near)
    epsilon, last, floor = schedule(x, y, spacing, root, precision(points))
    last = floor if tolerance > EXACT else last
    while True:
        complete = run_phase(x, n, points, leaves, prices, lowest, owner, assigned, near, epsilon, root)
        if complete:
            cost = mean_cost(a, b, assigned, root)
            gap = proven_gap(lists, auctioned, x, y, near, u, v, assigned, root, epsilon, cost, worth, tolerance)
            if gap < np.inf:
                return gap
        if epsilon <= last or not complete:
            narrow = price_rows(
                n, maximum(WIDTH * epsilon, 4 * precision(points)), lists, auctioned, x, y, near, u, v, root
            )
            if narrow <= NARROW * n or not complete:
                break
            if epsilon <= floor:
                if points.itemsize == 4:
                    return np.inf
                break
            last = maximum(SHRINK * epsilon, floor)
        epsilon = maximum(SHRINK * epsilon, last)
    gap = finish(n, lists, auctioned, x, y, u, v, owner, assigned, root)
    if gap * worth <= ROUNDED * mean_cost(a, b, assigned, root):
        return gap
    return start_anew(n, lists, auctioned, x, y, near, u, v, owner, assigned, root)


@helper
def proven_gap(
    lists: Any, auctioned: Any, x: Array, y: Array, near: Array, u: Array, v: Array, assigned: Array, root: bool,
    epsilon: float, cost: float, worth: float, tolerance: float,
) -> float:  # fmt: skip
    """Give the gap of a complete assignment of a mean cost, ∞ where it is not below the tolerance."""
    n = x.shape[1]
    if n * epsilon * CHECKED * worth > tolerance * cost:
        return np.inf
    price_rows(n, 2 * precision(auctioned[0]), lists, auctioned, x, y, near, u, v, root)
    gap = total_cost(x, y, assigned, root) - dual_value(u, v)
    return gap if cost - lower_bound(cost, gap * worth) <= tolerance * cost else np.inf


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
def start_anew(
    n: int, lists: Any, auctioned: Any, x: Array, y: Array, near: Array, u: Array, v: Array, owner: Array,
    assigned: Array, root: bool,
) -> float:  # fmt: skip
    """Find the optimum from prices of zero, which of near twins stay as small as the costs; gives the gap."""
    points, _, prices, lowest = auctioned
    start_prices(n, prices, lowest)
    assigned[:] = NO_BIDDER
    price_rows(n, 4 * precision(points), lists, auctioned, x, y, near, u, v, root)
    return finish(n, lists, auctioned, x, y, u, v, owner, assigned, root)


@helper
def schedule(x: Array, y: Array, spacing: float, root: bool, error: float) -> Any:
    """Give the ε of the first phase, that of the last before the exact end, and the smallest that makes sense."""
    nearest, largest = cost_scale(x, y)
    if root:
        largest, last = math.sqrt(largest), LAST * spacing
    else:
        last = LAST * spacing * maximum(2 * math.sqrt(nearest), spacing)
    floor = maximum(FLOOR * largest if error == SINGLE else 0.0, error / 10)
    last = maximum(last, floor)
    return maximum(START * largest, last), last, floor


@helper
def lower_bound(cost: float, gap: float) -> Any:
    """Give the lower bound of a cost with a gap, which at an optimum is rounding of either sign."""
    return maximum(cost - maximum(gap, 0.0), 0.0)


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
