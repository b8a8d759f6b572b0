"""Vector instructions of the auction: what a row is offered by the columns of a leaf.

The value of a column for a row is its cost, a distance or its square, plus the column's price; low is good. Whole
leaves are tried against a threshold without a square root and without a branch for each point, and only a leaf that
holds something better is looked at closely.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pcgen.ops._vectors import LANES, LEAF, call, load_lanes, pointer, splat, vector_at

I32, I64 = ir.IntType(32), ir.IntType(64)
BITS = ir.IntType(LANES)


def _squared_norm(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Give a² + b² + c², rounded as `pcgen.ops._simd.squared_norm` rounds it."""
    ab = call(builder, "llvm.fmuladd", b, b, builder.fmul(a, a))
    return call(builder, "llvm.fmuladd", c, c, ab)


def _squared_distance(context: Any, builder: Any, kind: Any, points: Any, first: Any, query: list[Any]) -> Any:
    """Give the squared distances of a query to the LANES points from `first`."""
    at = [load_lanes(context, builder, kind, points, ir.Constant(first.type, k), first) for k in range(3)]
    return _squared_norm(builder, *(builder.fsub(p, q) for p, q in zip(at, query, strict=True)))


def _is_below(builder: Any, square: Any, price: Any, threshold: Any, root: bool) -> Any:
    """Say, as bits, where cost + price < threshold, given the squared distances."""
    room = builder.fsub(threshold, price)
    if root:  # √d < room without a root
        room = call(builder, "llvm.maxnum", room, ir.Constant(room.type, [0.0] * LANES))
        room = builder.fmul(room, room)
    return builder.zext(builder.bitcast(builder.fcmp_ordered("<", square, room), BITS), I64)


def _both(make: Callable[..., Any]) -> tuple[Any, Any]:
    return make(root=True), make(root=False)


def _make_leaves_below(*, root: bool) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        leaves, lowest, group, *query, threshold = args
        box = [load_lanes(context, builder, kinds[0], leaves, ir.Constant(group.type, k), group) for k in range(6)]
        gap = []
        for k in range(3):
            q = splat(builder, query[k])
            g = call(builder, "llvm.maxnum", builder.fsub(box[k], q), builder.fsub(q, box[3 + k]))
            gap.append(call(builder, "llvm.maxnum", g, ir.Constant(g.type, [0.0] * LANES)))
        price = load_lanes(context, builder, kinds[1], lowest, group)
        return _is_below(builder, _squared_norm(builder, *gap), price, splat(builder, threshold), root)

    def typed(typingctx: Any, leaves: Any, lowest: Any, group: Any, x: Any, y: Any, z: Any, threshold: Any) -> Any:  # noqa: ARG001
        return types.int64(leaves, lowest, types.intp, *[leaves.dtype] * 4), emit

    return intrinsic(typed)


def _make_columns_below(*, root: bool) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        points, prices, start, x, y, z, threshold = args
        query, limit = [splat(builder, q) for q in (x, y, z)], splat(builder, threshold)
        found = ir.Constant(I64, 0)
        for offset in range(0, LEAF, LANES):
            first = builder.add(start, ir.Constant(start.type, offset))
            square = _squared_distance(context, builder, kinds[0], points, first, query)
            price = load_lanes(context, builder, kinds[1], prices, first)
            bits = _is_below(builder, square, price, limit, root)
            found = builder.or_(found, builder.shl(bits, ir.Constant(I64, offset)))
        return found

    def typed(typingctx: Any, points: Any, prices: Any, start: Any, x: Any, y: Any, z: Any, threshold: Any) -> Any:  # noqa: ARG001
        return types.int64(points, prices, types.intp, *[points.dtype] * 4), emit

    return intrinsic(typed)


def _make_look(*, root: bool) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        points, prices, start, x, y, z, *kept = args
        zero, number = ir.Constant(start.type, 0), context.get_value_type(kinds[0].dtype)
        places = [
            vector_at(builder, pointer(context, builder, kinds[6 + k], kept[k], zero), element)
            for k, element in enumerate((number, number, I32))
        ]
        best, second, where = (builder.load(place, align=4) for place in places)
        query = [splat(builder, q) for q in (x, y, z)]
        lanes = ir.Constant(ir.VectorType(I32, LANES), list(range(LANES)))
        for offset in range(0, LEAF, LANES):
            first = builder.add(start, ir.Constant(start.type, offset))
            cost = _squared_distance(context, builder, kinds[0], points, first, query)
            if root:
                cost = call(builder, "llvm.sqrt", cost)
            value = builder.fadd(cost, load_lanes(context, builder, kinds[1], prices, first))
            second = call(builder, "llvm.minnum", second, call(builder, "llvm.maxnum", best, value))
            column = builder.add(splat(builder, builder.trunc(first, I32)), lanes)
            where = builder.select(builder.fcmp_ordered("<", value, best), column, where)
            best = call(builder, "llvm.minnum", best, value)
        for vector, place in zip((best, second, where), places, strict=True):
            builder.store(vector, place, align=4)
        # The second smallest of all: the winner's lane steps back behind its own runner-up.
        smallest = splat(builder, call(builder, "llvm.vector.reduce.fmin", best, reduce=True))
        winners = builder.bitcast(builder.fcmp_ordered("==", best, smallest), BITS)
        lane = splat(builder, builder.zext(builder.cttz(winners, ir.Constant(ir.IntType(1), 0)), I32))
        others = builder.select(builder.icmp_unsigned("==", lanes, lane), second, best)
        return call(builder, "llvm.vector.reduce.fmin", others, reduce=True)

    def typed(
        typingctx: Any, points: Any, prices: Any, start: Any, x: Any, y: Any, z: Any, best: Any, second: Any,  # noqa: ARG001
        where: Any,
    ) -> Any:  # fmt: skip
        return points.dtype(points, prices, types.intp, *[points.dtype] * 3, best, second, where), emit

    return intrinsic(typed)


# Each for distances and for squared distances. A query is (x, y, z); `threshold` a value.
#
# leaves_below(leaves (6, L), lowest (L,), group, query, threshold): which of the LANES leaves from `group`, as bits,
# may hold a column of a value below the threshold, given each leaf's box and lowest price.
leaves_below_distance, leaves_below_square = _both(_make_leaves_below)
# columns_below(points (3, M), prices (M,), start, query, threshold): which of a leaf's columns, as bits, are below.
columns_below_distance, columns_below_square = _both(_make_columns_below)
# look(points, prices, start, query, best, second, where): puts a leaf's columns into the best and second best value
# of each lane and the column of the best, (LANES,) each, and gives the second best value of all.
look_distance, look_square = _both(_make_look)
