"""Vector instructions of the searches that no compiled loop turns into, and what such instructions are made of."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # queries at a time: one vector of float32 with AVX-512, two with AVX2
LEAF = 32  # points


def pointer(context: Any, builder: Any, kind: Any, array: Any, *index: Any) -> Any:
    """Point to an element of a C-contiguous array."""
    view = context.make_array(kind)(context, builder, array)
    shape = cgutils.unpack_tuple(builder, view.shape, kind.ndim)
    offset = index[0]
    for size, i in zip(shape[1:], index[1:], strict=True):
        offset = builder.add(builder.mul(offset, size), i)
    return builder.gep(view.data, [offset])


def vector_at(builder: Any, pointer: Any, element: Any) -> Any:
    """Give a pointer to LANES elements."""
    return builder.bitcast(pointer, ir.VectorType(element, LANES).as_pointer())


def load_lanes(context: Any, builder: Any, kind: Any, array: Any, *index: Any) -> Any:
    """Load LANES elements of a C-contiguous array."""
    element = context.get_value_type(kind.dtype)
    return builder.load(vector_at(builder, pointer(context, builder, kind, array, *index), element), align=4)


def splat(builder: Any, value: Any) -> Any:
    """Repeat a scalar in every lane."""
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    lane = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def call(builder: Any, name: str, *args: Any, reduce: bool = False) -> Any:
    """Call an LLVM intrinsic on vectors that hold no NaN."""
    vector = args[0].type
    width = 32 if isinstance(vector.element, ir.FloatType) else 64
    kind = ir.FunctionType(vector.element if reduce else vector, [vector] * len(args))
    function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{LANES}f{width}")
    return builder.call(function, args, fastmath=() if name == "llvm.fmuladd" else ("nnan", "nsz"))


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def search_leaf(typingctx: Any, points: Any, start: Any, queries: Any, first: Any, best: Any) -> Any:  # noqa: ARG001
    """Lower `best` (LANES,) by a leaf, and give the largest that remains.

    points (3, M) from `start` are the leaf, queries (3, N) from `first` the block. A compiled loop would load each
    point's coordinates into registers that it has not got; here they are operands in memory, which cost nothing.
    """
    element = points.dtype

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, word = signature.args, args[1].type
        kind = context.get_value_type(element)
        plane = [ir.Constant(word, k) for k in range(3)]
        query = [
            builder.load(vector_at(builder, pointer(context, builder, kinds[2], args[2], k, args[3]), kind), align=4)
            for k in plane
        ]
        leaf = [pointer(context, builder, kinds[0], args[0], k, args[1]) for k in plane]
        lowest: list[Any] = []
        for i in range(LEAF):
            at = [builder.load(builder.gep(leaf[k], [ir.Constant(word, i)])) for k in range(3)]
            a, b, c = (builder.fsub(query[k], splat(builder, at[k])) for k in range(3))
            d = call(builder, "llvm.fmuladd", b, b, builder.fmul(a, a))
            lowest.append(call(builder, "llvm.fmuladd", c, c, d))
            if i >= 4:  # four chains of minima hide the latency of one
                lowest.append(call(builder, "llvm.minnum", lowest.pop(0), lowest.pop()))
        target = vector_at(builder, pointer(context, builder, kinds[4], args[4], ir.Constant(word, 0)), kind)
        result = builder.load(target, align=4)
        for d in lowest:
            result = call(builder, "llvm.minnum", result, d)
        builder.store(result, target, align=4)
        return call(builder, "llvm.vector.reduce.fmax", result, reduce=True)

    return element(points, types.intp, queries, types.intp, best), emit


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def lanes_below(typingctx: Any, values: Any, start: Any, limit: Any) -> Any:  # noqa: ARG001  # numba's protocol
    """Give the set, as bits, of the LANES values from `start` that are below the limit."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = load_lanes(context, builder, signature.args[0], *args[:2])
        below = builder.fcmp_ordered("<", vector, splat(builder, args[2]))
        return builder.zext(builder.bitcast(below, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(values, types.intp, values.dtype), emit


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def lowest_bit(typingctx: Any, bits: Any) -> Any:  # noqa: ARG001  # numba's protocol
    """Give the position of the lowest bit that is set, of at least one."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001  # numba's protocol
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), emit
