"""The assignment problem between two clouds of equal size by an ε-scaled auction.

Reference: D. P. Bertsekas, "Auction Algorithms for Network Flow Problems: A Tutorial Introduction", Computational
Optimization and Applications 1, 1992. Rows bid for columns, one after the other, from a first-in first-out queue. A
bid finds the column of the smallest value (cost plus price) and the second smallest value; it takes the column and
raises its price by the difference and ε. The assignment of the last phase is within ε a point of the optimum, and
whatever the prices are, they bound the optimum from below: `pcgen.ops._shortest_paths` computes that bound in double
precision, and goes on from the prices to the exact optimum.

No matrix of costs is held. The columns lie in the spatial order of `pcgen.ops._pruned`: the distance of a row to a
leaf's box plus the leaf's lowest price bounds its values, and leaves whose bound is above the second best are skipped.
"""

from typing import Any

import numpy as np

from pcgen.ops import _offers
from pcgen.ops._simd import Array, aligned_empty, helper, maximum, minimum, squared_norm, use_widest_vectors
from pcgen.ops._vectors import LANES, LEAF, lowest_bit

NO_BIDDER = -1
UNAFFORDABLE = 1e30  # price of padding; finite, since ∞ − ∞ is no number
ROUNDING = 1 + 1e-6  # thresholds are compared without a root, which rounds differently

# The phases: ε from START of the largest cost down by SHRINK. Measured on real chairs of 2048 points, with the exact
# end by shortest paths; the time changes by less than a tenth for factors of two around these.
START = 0.03
SHRINK = 0.2
FLOOR = 4e-7  # of the largest cost: below, single precision swallows ε
BIDS = 2000  # for each point in a phase, after which a phase is given up; usual are ten


@helper
def leaves_below(
    leaves: Array, lowest: Array, group: int, x: float, y: float, z: float, limit: float, root: bool
) -> Any:
    """Give the leaves of a group that may hold a value below the limit, as bits."""
    if root:
        return _offers.leaves_below_distance(leaves, lowest, group, x, y, z, limit)
    return _offers.leaves_below_square(leaves, lowest, group, x, y, z, limit)


@helper
def columns_below(
    points: Array, prices: Array, leaf: int, x: float, y: float, z: float, limit: float, root: bool
) -> Any:
    """Give the columns of a leaf of a value below the limit, as bits."""
    if root:
        return _offers.columns_below_distance(points, prices, leaf * LEAF, x, y, z, limit)
    return _offers.columns_below_square(points, prices, leaf * LEAF, x, y, z, limit)


@helper
def look(points: Array, prices: Array, leaf: Any, x: float, y: float, z: float, kept: Any, root: bool) -> Any:
    """Keep the two best values of each lane, and give the second best of all."""
    best, second, where = kept
    if root:
        return _offers.look_distance(points, prices, leaf * LEAF, x, y, z, best, second, where)
    return _offers.look_square(points, prices, leaf * LEAF, x, y, z, best, second, where)


@helper
def empty_kept(like: Array) -> Any:
    """Allocate what `look` keeps."""
    return aligned_empty(LANES, like), aligned_empty(LANES, like), np.empty(LANES, np.int32)


@helper
def two_smallest(
    points: Array, leaves: Array, prices: Array, lowest: Array, x: float, y: float, z: float, near: int, kept: Any,
    root: bool,
) -> Any:  # fmt: skip
    """Find the smallest value for a row, the second smallest and the column of the smallest.

    `near` is a leaf where low values are likely: searched first, it lets others be skipped.
    """
    best, second, where = kept
    number = points.dtype.type
    best[:], second[:] = UNAFFORDABLE, UNAFFORDABLE
    first = np.int64(near)
    threshold = look(points, prices, first, x, y, z, kept, root)
    for group in range(0, leaves.shape[1], LANES):
        candidates = leaves_below(leaves, lowest, group, x, y, z, number(threshold * ROUNDING), root)
        while candidates != 0:
            leaf = group + lowest_bit(candidates)
            candidates &= candidates - 1
            if leaf != first and columns_below(points, prices, leaf, x, y, z, number(threshold * ROUNDING), root) != 0:
                threshold = look(points, prices, leaf, x, y, z, kept, root)
    lane = 0
    for k in range(1, LANES):
        if best[k] < best[lane]:
            lane = k
    return best[lane], threshold, where[lane]


@helper
def raise_price(prices: Array, lowest: Array, column: int, rise: float) -> None:
    """Raise the price of a column, and the lowest of its leaf where it was that."""
    leaf, old = column // LEAF, prices[column]
    prices[column] = old + rise
    if old <= lowest[leaf]:
        least = prices.dtype.type(UNAFFORDABLE)
        for j in range(leaf * LEAF, (leaf + 1) * LEAF):
            least = minimum(least, prices[j])
        lowest[leaf] = least


@helper
def lower_prices(n: int, prices: Array, lowest: Array) -> None:
    """Lower all prices until the lowest is zero: only differences count, and small numbers are finer.

    When all columns are assigned no two prices differ by more than the largest cost and ε, so they never grow large.
    """
    least = prices[0]
    for j in range(n):
        least = minimum(least, prices[j])
    for j in range(n):
        prices[j] -= least
    for leaf in range(-(-n // LEAF)):
        lowest[leaf] -= least


@helper
def run_phase(
    rows: Array, n: int, points: Array, leaves: Array, prices: Array, lowest: Array, owner: Array, assigned: Array,
    near: Array, epsilon: float, root: bool,
) -> bool:  # fmt: skip
    """Auction all columns off at one ε, starting from the prices that there are.

    Args:
        rows: Coordinates (3, n) of the bidders.
        n: Number of points of each cloud, at least 2.
        points: Coordinates of the columns (3, M), padded.
        leaves: Their boxes (6, L).
        prices: (M,), raised.
        lowest: The lowest price in each leaf (L,).
        owner: Filled with each column's row (M,).
        assigned: Filled with each row's column (n,).
        near: A leaf to begin with for each row (n,), updated.
        epsilon: Least rise of a price that is bid for.
        root: The cost is the distance, not its square.

    Returns:
        Whether all have been assigned.
    """
    use_widest_vectors()
    kept, queue, number = empty_kept(points), np.empty(n, np.int32), points.dtype.type
    for i in range(n):
        queue[i], assigned[i] = i, NO_BIDDER
    lower_prices(n, prices, lowest)
    owner[:] = NO_BIDDER
    head, waiting = 0, n
    for _ in range(BIDS * n):
        if waiting == 0:
            return True
        i = queue[head]
        a, b, c = number(rows[0, i]), number(rows[1, i]), number(rows[2, i])
        m, second, j = two_smallest(points, leaves, prices, lowest, a, b, c, near[i], kept, root)
        raise_price(prices, lowest, j, second - m + number(epsilon))
        head = head + 1 if head + 1 < n else 0
        loser = owner[j]
        owner[j], assigned[i], near[i] = i, j, j // LEAF
        if loser == NO_BIDDER:
            waiting -= 1
        else:
            assigned[loser] = NO_BIDDER
            last = head + waiting - 1
            queue[last - n if last >= n else last] = loser
    return waiting == 0


@helper
def nearest_leaves(rows: Array, n: int, leaves: Array, near: Array) -> None:
    """Fill for each row the leaf whose box has the nearest centre."""
    use_widest_vectors()
    for i in range(n):
        best = np.inf
        for q in range(leaves.shape[1]):
            d = squared_norm(
                leaves[0, q] + leaves[3, q] - 2 * rows[0, i],
                leaves[1, q] + leaves[4, q] - 2 * rows[1, i],
                leaves[2, q] + leaves[5, q] - 2 * rows[2, i],
            )
            if d < best:
                best, near[i] = d, q


@helper
def cost_scale(x: Array, y: Array) -> Any:
    """Give the mean squared distance to the nearest column and the largest, from a sample of rows."""
    n, nearest, largest, count = x.shape[1], 0.0, 0.0, 0
    for i in range(0, n, 1 + n // 64):
        low, high = np.inf, 0.0
        for j in range(n):
            d = squared_norm(y[0, j] - x[0, i], y[1, j] - x[1, i], y[2, j] - x[2, i])
            low, high = minimum(low, d), maximum(high, d)
        nearest, largest, count = nearest + low, maximum(largest, high), count + 1
    return nearest / count, largest


@helper
def start_prices(n: int, prices: Array, lowest: Array) -> None:
    """Set the prices to zero, and those of padding out of reach."""
    prices[:n], prices[n:] = 0, UNAFFORDABLE
    for leaf in range(lowest.shape[0]):
        lowest[leaf] = 0 if leaf * LEAF < n else UNAFFORDABLE
