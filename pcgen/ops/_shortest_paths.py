"""The exact end of an assignment: from any prices to the optimum by shortest augmenting paths, in double precision.

Reference: R. Jonker, A. Volgenant, "A Shortest Augmenting Path Algorithm for Dense and Sparse Linear Assignment
Problems", Computing 38, 1987. With a dual value v for each column (minus its price) and u[i] = min_j c[i, j] − v[j]
for each row, no reduced cost c − u − v is negative; rows keep columns of reduced cost zero, and each free row finds
the shortest path, in reduced costs, to a free column. After an auction nearly all arcs of such paths are among the
few dozens of smallest reduced cost of their rows, so each row lists those alone and remembers a bound below which
nothing is hidden; a path that may be shorter through what is hidden makes its row look at everything. The result is
exact whatever the lists hold, and Σ u + Σ v equals its cost: the proof that it is optimal.
"""

import math
from typing import Any

import numpy as np

from pcgen.ops._auction import NO_BIDDER, UNAFFORDABLE, columns_below, empty_kept, leaves_below, two_smallest
from pcgen.ops._simd import Array, helper, maximum, minimum, use_widest_vectors
from pcgen.ops._vectors import LANES, LEAF, lowest_bit

LISTED = 96  # arcs of a row at most: with their costs, 1.2 kB a point
WIDTH = 16.0  # listed are reduced costs up to so many of the auction's last ε
SINGLE, DOUBLE = 4e-6, 1e-14  # what values of clouds within ±½ are computed to, with a margin


@helper
def precision(points: Array) -> float:
    """Give what the values of an auction are computed to."""
    return SINGLE if points.itemsize == 4 else DOUBLE


@helper
def squared_distance(x: Array, i: int, y: Array, j: int) -> Any:
    """Give the squared distance between columns i of x (3, N) and j of y (3, M)."""
    a, b, c = y[0, j] - x[0, i], y[1, j] - x[1, i], y[2, j] - x[2, i]
    return a * a + b * b + c * c


@helper
def exact_cost(x: Array, i: int, y: Array, j: int, root: bool) -> float:
    """Give the cost between columns i of x (3, N) and j of y (3, M)."""
    d = squared_distance(x, i, y, j)
    return math.sqrt(d) if root else d


@helper
def list_below(
    i: int, limit: float, points: Array, leaves: Array, prices: Array, lowest: Array, x: Array, root: bool,
    columns: Array,
) -> int:  # fmt: skip
    """List the columns that may have a value below the limit for row i; gives their number, or −1 for too many."""
    number = points.dtype.type
    a, b, c, most = number(x[0, i]), number(x[1, i]), number(x[2, i]), number(limit)
    found = 0
    for group in range(0, leaves.shape[1], LANES):
        candidates = leaves_below(leaves, lowest, group, a, b, c, most, root)
        while candidates != 0:
            leaf = group + lowest_bit(candidates)
            candidates &= candidates - 1
            hits = columns_below(points, prices, leaf, a, b, c, most, root)
            while hits != 0:
                j = leaf * LEAF + lowest_bit(hits)
                hits &= hits - 1
                if prices[j] >= UNAFFORDABLE:
                    continue
                if found == columns.shape[0]:
                    return -1
                columns[found] = j
                found += 1
    return found


@helper
def price_rows(
    n: int, width: float, lists: Any, auctioned: Any, x: Array, y: Array, near: Array, u: Array, v: Array,
    root: bool,
) -> int:  # fmt: skip
    """Fill v from the prices, u (n,) exactly, and each row's list of columns, their costs and the bound of the hidden.

    `lists` is (columns, costs (n, LISTED) each, count, hidden (n,) each), `auctioned` the columns of the auction:
    points, leaves, prices, lowest. Gives the number of rows whose list does not reach as far as the width.
    """
    columns, costs, count, hidden = lists
    points, leaves, prices, lowest = auctioned
    narrow = 0
    for j in range(n):
        v[j] = -np.float64(prices[j])
    kept, number, error = empty_kept(points), points.dtype.type, precision(points)
    for i in range(n):
        a, b, c = number(x[0, i]), number(x[1, i]), number(x[2, i])
        smallest = np.float64(two_smallest(points, leaves, prices, lowest, a, b, c, near[i], kept, root)[0])
        wide = width
        found = list_below(i, smallest + wide, points, leaves, prices, lowest, x, root, columns[i])
        while found < 0 and wide > 2 * error:
            wide = maximum(wide / 2, 2 * error)
            found = list_below(i, smallest + wide, points, leaves, prices, lowest, x, root, columns[i])
        u[i] = np.inf
        narrow += wide < width
        if found < 0:  # more equals than a list holds
            found, wide = 0, 0.0
            for j in range(n):
                u[i] = minimum(u[i], exact_cost(x, i, y, j, root) - v[j])
        for k in range(found):
            costs[i, k] = exact_cost(x, i, y, columns[i, k], root)
            u[i] = minimum(u[i], costs[i, k] - v[columns[i, k]])
        count[i], hidden[i] = found, smallest + wide - error - u[i]
    return narrow


@helper
def keep_tight(
    n: int, lists: Any, assigned: Array, owner: Array, x: Array, y: Array, u: Array, v: Array, root: bool
) -> None:
    """Keep what the auction assigned at reduced cost zero, and assign greedily what else is at zero."""
    columns, costs, count, _ = lists
    owner[:] = NO_BIDDER
    for i in range(n):
        j = assigned[i]
        if j != NO_BIDDER and exact_cost(x, i, y, j, root) - v[j] <= u[i]:
            owner[j] = i
        else:
            assigned[i] = NO_BIDDER
    for i in range(n):
        if assigned[i] != NO_BIDDER:
            continue
        for k in range(count[i]):
            j = columns[i, k]
            if owner[j] == NO_BIDDER and costs[i, k] - v[j] <= u[i]:
                owner[j], assigned[i] = i, j
                break


@helper
def lower(item: Any, distance: float, size: Any, key: Array, heap: Array, place: Array) -> Any:
    """Set the key of an item of the heap, new or old, to a smaller one; gives the heap's size."""
    key[item] = distance
    at = place[item]
    if at < 0:
        at, size = size, size + 1
    while at > 0:
        parent = (at - 1) >> 1
        if key[heap[parent]] <= distance:
            break
        heap[at] = heap[parent]
        place[heap[at]] = at
        at = parent
    heap[at], place[item] = item, at
    return size


@helper
def pop(size: int, key: Array, heap: Array, place: Array) -> Any:
    """Take the item of the smallest key from a heap of a size."""
    top, item = heap[0], heap[size - 1]
    place[top] = -1
    if size == 1:
        return top
    at = 0
    while True:
        child = 2 * at + 1
        if child + 1 < size - 1 and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        if child >= size - 1 or key[heap[child]] >= key[item]:
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at], place[item] = item, at
    return top


@helper
def relax(
    i: int, distance: float, listed: Array, cost: Array, start: int, size: Any, nearest: float, sink: Any,
    search: Any, u: Array, v: Array, owner: Array,
) -> Any:  # fmt: skip
    """Lower the distances of columns through row i; gives the heap's size, the nearest free column and its distance."""
    key, heap, place, come, seen = search
    for k in range(listed.shape[0]):
        j = np.int64(listed[k])
        reach = distance + maximum(0.0, cost[k] - v[j] - u[i])
        if reach >= nearest:
            continue
        if owner[j] == NO_BIDDER:
            nearest, sink, come[j] = reach, j, i
        elif seen[j] != start or (place[j] >= 0 and reach < key[j]):
            seen[j], come[j] = start, i
            size = lower(j, reach, size, key, heap, place)
    return size, nearest, sink


@helper
def augment(
    start: int, lists: Any, auctioned: Any, search: Any, rooms: Any, x: Array, y: Array, u: Array, v: Array,
    owner: Array, assigned: Array, root: bool,
) -> None:  # fmt: skip
    """Give row `start` a column along the shortest path, and move the duals so that reduced costs stay ≥ 0.

    `search` is (key, heap, place (M + n,) each, come, seen (M,) each): items below M of the heap are columns, item
    M + i is what row i hides. `rooms` are two for columns and one for costs (M,).
    """
    columns, costs, count, hidden = lists
    key, heap, place, come, _ = search
    settled, all_columns, all_costs = rooms
    points, leaves, prices, lowest = auctioned
    M = come.shape[0]
    # Typed, since numba would compile `relax` and `lower` for a constant 0 and for a variable.
    size, done, nearest, sink = np.int64(0), 0, np.inf, np.int64(NO_BIDDER)
    i, distance, hides = start, 0.0, True
    while True:
        if hides:
            listed, cost, number = columns[i], costs[i], count[i]
        else:
            limit = u[i] + nearest - distance + precision(points)
            number = list_below(i, limit, points, leaves, prices, lowest, x, root, all_columns)
            listed, cost = all_columns, all_costs
            for k in range(number):
                cost[k] = exact_cost(x, i, y, listed[k], root)
        size, nearest, sink = relax(i, distance, listed[:number], cost, start, size, nearest, sink, search, u, v, owner)
        if hides and distance + maximum(0.0, hidden[i]) < nearest:
            size = lower(M + i, distance + maximum(0.0, hidden[i]), size, key, heap, place)
        if size == 0 or key[heap[0]] >= nearest:
            break
        top = pop(size, key, heap, place)
        size -= 1
        hides = top < M
        if hides:
            settled[done] = top
            done += 1
            i, distance = owner[top], key[top]
        else:
            i = top - M
            distance = 0.0 if i == start else key[assigned[i]]
    for k in range(size):
        place[heap[k]] = -1
    move_duals(start, nearest, settled[:done], key, owner, u, v, hidden)
    take_path(start, sink, come, owner, assigned)


@helper
def move_duals(
    start: int, nearest: float, settled: Array, key: Array, owner: Array, u: Array, v: Array, hidden: Array
) -> None:
    """Make the arcs of the shortest paths tight."""
    u[start] += nearest
    hidden[start] -= nearest
    for j in settled:
        move = nearest - key[j]
        v[j] -= move
        u[owner[j]] += move
        hidden[owner[j]] -= move


@helper
def take_path(start: int, sink: int, come: Array, owner: Array, assigned: Array) -> None:
    """Assign along a path, backwards from its free column."""
    j = sink
    while True:
        i = come[j]
        owner[j] = i
        assigned[i], j = j, assigned[i]
        if i == start:
            return


@helper
def empty_lists(n: int) -> Any:
    """Allocate what `price_rows` fills."""
    return np.empty((n, LISTED), np.int32), np.empty((n, LISTED)), np.empty(n, np.int32), np.empty(n)


@helper
def assign_free_rows(
    n: int, lists: Any, auctioned: Any, x: Array, y: Array, u: Array, v: Array, owner: Array, assigned: Array,
    root: bool,
) -> None:  # fmt: skip
    """Complete the assignment to the optimum."""
    use_widest_vectors()
    M = auctioned[0].shape[1]
    place, seen = np.empty(M + n, np.int32), np.empty(M, np.int32)
    place[:], seen[:] = -1, -1
    search = (np.empty(M + n), np.empty(M + n, np.int32), place, np.empty(M, np.int32), seen)
    rooms = (np.empty(M, np.int32), np.empty(M, np.int32), np.empty(M))
    for i in range(n):
        if assigned[i] == NO_BIDDER:
            augment(i, lists, auctioned, search, rooms, x, y, u, v, owner, assigned, root)
