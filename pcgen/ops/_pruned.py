"""Nearest-neighbour sums between many clouds, exact, looking at few pairs of points.

Each cloud is ordered once by a k-d split, so that every 32 consecutive points (a leaf) and every 16 (a block of
queries, one per vector lane) lie in a small box. For a block, the distances of its box to all leaves' boxes are
computed at once; the leaf with the nearest centre is searched first, and then only leaves whose bound is below the
largest of the sixteen current minima.

A bound is rounded like a distance, and rounding is monotone, so no bound exceeds a distance that it bounds: the
minima have the bits of an exhaustive search.
"""

import math
from typing import Any

import numpy as np

from pcgen.ops._simd import (
    NOWHERE,
    Array,
    Planes,
    aligned_empty,
    helper,
    kernel,
    maximum,
    minimum,
    minimum_int,
    select_less,
    squared_norm,
    use_widest_vectors,
)
from pcgen.ops._vectors import LANES, LEAF, lanes_below, lowest_bit, search_leaf

# ── once a cloud ──────────────────────────────────────────────────────────────────────────────────────────────────────


@helper
def select_smallest(value: Array, item: Array, count: int) -> None:
    """Reorder both so that the `count` smallest values come first (Hoare's quickselect)."""
    left, right = 0, value.shape[0] - 1
    while left < right:
        pivot = value[(left + right) >> 1]
        i, j = left, right
        while i <= j:
            while value[i] < pivot:
                i += 1
            while value[j] > pivot:
                j -= 1
            if i <= j:
                value[i], value[j] = value[j], value[i]
                item[i], item[j] = item[j], item[i]
                i, j = i + 1, j - 1
        if count - 1 <= j:
            right = j
        elif count - 1 >= i:
            left = i
        else:
            return


@helper
def longest_axis(cloud: Array, order: Array) -> int:
    """Give the axis along which some of a cloud's points spread the most."""
    axis, longest = 0, -1.0
    for k in range(3):
        low = high = cloud[order[0], k]
        for i in order:
            low, high = min(low, cloud[i, k]), max(high, cloud[i, k])
        if high - low > longest:
            axis, longest = k, high - low
    return axis


@helper
def spatial_order(cloud: Array) -> Array:
    """Order the points (N, 3) so that every LEAF and every LANES of them lie close together."""
    n = cloud.shape[0]
    order, value = np.arange(n), np.empty(n, cloud.dtype)
    stack = [(0, n)]
    while len(stack) > 0:
        begin, end = stack.pop()
        size = end - begin
        if size <= LANES:
            continue
        unit = LEAF if size > LEAF else LANES
        half = max(unit, size // (2 * unit) * unit)
        part, key = order[begin:end], value[begin:end]
        axis = longest_axis(cloud, part)
        for i in range(size):
            key[i] = cloud[part[i], axis]
        select_smallest(key, part, half)
        stack.append((begin, begin + half))
        stack.append((begin + half, end))
    return order


@helper
def enclose(planes: Array, size: int, boxes: Array) -> None:
    """Fill boxes (6, K), lower then upper corners, of each `size` points; those beyond the points lie at infinity."""
    for box in range(boxes.shape[1]):
        begin, end = box * size, (box + 1) * size
        for k in range(3):
            low = high = planes[k, begin] if end <= planes.shape[1] else np.inf
            for i in range(begin, min(end, planes.shape[1])):
                low, high = min(low, planes[k, i]), max(high, planes[k, i])
            boxes[k, box], boxes[3 + k, box] = low, high


@kernel
def prepare(
    clouds: Array, planes: Array, block_boxes: Array, leaf_boxes: Array, good: Array, limit: float, begin: int, end: int
) -> None:
    """Order clouds begin … end−1 of (S, N, 3) into planes (S, 3, padded), with the boxes of blocks and leaves.

    Padding repeats the last point. `good` (S,) says which clouds are finite and at most `limit`.
    """
    for s in range(begin, end):
        cloud = clouds[s]
        good[s] = True
        for i in range(cloud.shape[0]):
            for k in range(3):
                good[s] &= abs(cloud[i, k]) <= limit
        if not good[s]:
            continue
        order = spatial_order(cloud)
        for i in range(planes.shape[2]):
            for k in range(3):
                planes[s, k, i] = cloud[order[min(i, cloud.shape[0] - 1)], k]
        enclose(planes[s], LANES, block_boxes[s])
        enclose(planes[s], LEAF, leaf_boxes[s])


def empty_prepared(count: int, points: int, dtype: Any) -> tuple[Array, Array, Array]:
    """Allocate what `prepare` fills: planes, boxes of blocks, boxes of leaves (padded to whole vectors)."""
    leaves = math.ceil(points / LEAF)
    padded_leaves = math.ceil(leaves / LANES) * LANES
    planes = _aligned((count, 3, leaves * LEAF), dtype)
    return planes, np.empty((count, 6, leaves * LEAF // LANES), dtype), _aligned((count, 6, padded_leaves), dtype)


def _aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """Allocate at the start of a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    aligned: Array = raw[start : start + size].view(dtype).reshape(shape)
    return aligned


# ── once a pair ───────────────────────────────────────────────────────────────────────────────────────────────────────


@helper
def bound_leaves(block: Array, p: int, leaves: Array, bound: Array, centre: Array) -> None:
    """Fill the smallest squared distance and four times that of the centres, of block p's box to every leaf's."""
    use_widest_vectors()
    a0, a1, a2, c0, c1, c2 = block[0, p], block[1, p], block[2, p], block[3, p], block[4, p], block[5, p]
    l0, l1, l2, h0, h1, h2 = leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], leaves[5]
    zero = a0 - a0
    for q in range(bound.shape[0] // LANES * LANES):
        bound[q] = squared_norm(
            maximum(maximum(l0[q] - c0, a0 - h0[q]), zero),
            maximum(maximum(l1[q] - c1, a1 - h1[q]), zero),
            maximum(maximum(l2[q] - c2, a2 - h2[q]), zero),
        )
        centre[q] = squared_norm(l0[q] + h0[q] - a0 - c0, l1[q] + h1[q] - a1 - c1, l2[q] + h2[q] - a2 - c2)


@helper
def position_of_smallest(values: Array) -> Any:
    """Give the first position of the smallest value."""
    use_widest_vectors()
    smallest, first = values[0], NOWHERE
    for q in range(values.shape[0] // LANES * LANES):
        smallest = minimum(smallest, values[q])
    for q in range(values.shape[0] // LANES * LANES):
        first = minimum_int(first, select_less(smallest, values[q], NOWHERE, np.int32(q)))
    return first


@helper
def sum_of_nearest(queries: Array, blocks: Array, n: int, points: Array, leaves: Array, root: bool) -> float:
    """Sum over n queries the squared distance, or the distance, to the nearest of the points."""
    use_widest_vectors()
    bound, centre = aligned_empty(leaves.shape[1], leaves), aligned_empty(leaves.shape[1], leaves)
    best = aligned_empty(LANES, leaves)
    total = 0.0
    for p in range(-(-n // LANES)):
        bound_leaves(blocks, p, leaves, bound, centre)
        leaf = position_of_smallest(centre)
        best[:] = np.inf
        worst = search_leaf(points, leaf * LEAF, queries, p * LANES, best)
        bound[leaf] = np.inf
        for group in range(0, leaves.shape[1], LANES):
            candidates = lanes_below(bound, group, worst)
            while candidates != 0:
                leaf = group + lowest_bit(candidates)
                candidates &= candidates - 1
                if bound[leaf] < worst:
                    worst = search_leaf(points, leaf * LEAF, queries, p * LANES, best)
        for q in range(min(LANES, n - p * LANES)):
            total += math.sqrt(best[q]) if root else best[q]
    return total


@kernel
def chamfer_row(
    a: Planes, n: int, b: Planes, m: int, root: bool, mean: bool, out: Array, s: int, begin: int, end: int
) -> None:
    """Fill out[s, begin:end] with the Chamfer distances of cloud s of a to clouds of b.

    Args:
        a: What `prepare` filled for clouds of n points: planes, boxes of blocks, boxes of leaves.
        n: Number of points of a's clouds, without padding.
        b: As a.
        m: As n.
        root: Take distances, not their squares.
        mean: Take the mean over points, not the sum.
        out: (S, R).
        s: Row.
        begin: First column.
        end: Column after the last.
    """
    a_points, a_blocks, a_leaves = a
    b_points, b_blocks, b_leaves = b
    for r in range(begin, end):
        forth = sum_of_nearest(a_points[s], a_blocks[s], n, b_points[r], b_leaves[r], root)
        back = sum_of_nearest(b_points[r], b_blocks[r], m, a_points[s], a_leaves[s], root)
        out[s, r] = forth / n + back / m if mean else forth + back
