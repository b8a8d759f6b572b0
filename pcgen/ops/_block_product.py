"""Products of a matrix with a tile of points, for kernels that make the tile themselves.

A library's product wants its factors in memory. Here the factor is a panel (depth, BLOCK) that was just written to the
first-level cache by whatever stands before the product, and the sums of a block of ROWS channels stay in registers.
Both together make a per-point layer with its normalisation as fast as its bare product.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pcgen.ops._simd import BLOCK, Array, helper, kernel, use_widest_vectors

ROWS = 6  # channels of a block: with the vectors below, sums and factors just fit into the registers
DEPTH = 128  # summands before the next block's turn: a panel stays in the first-level cache


def _registers() -> tuple[int, int]:
    """Give the bytes of a vector, and how many vectors of points a block has at once."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 4
    return (32, 2) if features.get("avx") else (16, 4)


_BYTES, _VECTORS = _registers()


@kernel
def arrange(weights: Array, widths: Array, rows: Array, forwards: Array, backwards: Array) -> None:
    """Lay weights out in blocks, (R/ROWS, K, ROWS) for a matrix (R, K), with zeros behind its last row.

    Args:
        weights: Flat: of each layer (widths[l + 1], widths[l]), one behind the other.
        widths: (L + 1,).
        rows: (L + 1,): widths in whole blocks.
        forwards: To be filled: blocks of each matrix, one behind the other.
        backwards: To be filled: blocks of each matrix transposed, one behind the other.
    """
    begin = forward = backward = 0
    for layer in range(widths.shape[0] - 1):
        K, R = widths[layer], widths[layer + 1]
        for r in range(rows[layer + 1]):
            for k in range(K):
                value = weights[begin + r * K + k] if r < R else 0
                forwards[forward + (r // ROWS * K + k) * ROWS + r % ROWS] = value
        for k in range(rows[layer]):
            for r in range(R):
                value = weights[begin + r * K + k] if k < K else 0
                backwards[backward + (k // ROWS * R + r) * ROWS + k % ROWS] = value
        begin, forward, backward = begin + R * K, forward + rows[layer + 1] * K, backward + rows[layer] * R


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def multiply_block(
    typingctx: Any,  # noqa: ARG001  # numba's protocol
    weight: Any,
    w: Any,  # noqa: ARG001  # as above, and below
    panel: Any,
    depth: Any,  # noqa: ARG001 -- for the typing alone
    out: Any,
    o: Any,  # noqa: ARG001 -- for the typing alone
    stride: Any,  # noqa: ARG001 -- for the typing alone
    fresh: Any,  # noqa: ARG001 -- for the typing alone
) -> Any:
    """Multiply a block of weights, from weight[w], by a panel (depth, BLOCK) into ROWS rows of out[o:].

    The rows lie `stride` apart. Where not `fresh`, the product is added to what they hold.
    """
    element = panel.dtype

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, kind = args[1].type, context.get_value_type(element)
        size = 4 if isinstance(kind, ir.FloatType) else 8
        vector, at = ir.VectorType(kind, _BYTES // size), [ir.Constant(word, i) for i in range(BLOCK)]
        weights, points, begin = (
            builder.gep(context.make_array(signature.args[k])(context, builder, args[k]).data, [start])
            for k, start in ((0, args[1]), (2, at[0]), (4, args[5]))
        )
        for tile in range(0, BLOCK, _VECTORS * vector.count):
            rows = [builder.gep(begin, [builder.add(builder.mul(at[i], args[6]), at[tile])]) for i in range(ROWS)]
            targets = [_vectors(builder, row, vector, at) for row in rows]
            sums = [[cgutils.alloca_once(builder, vector) for _ in row] for row in targets]
            _begin(builder, args[7], targets, sums, size)
            with cgutils.for_range(builder, args[3]) as loop:
                column = builder.gep(weights, [builder.mul(loop.index, at[ROWS])])
                place = builder.add(builder.mul(loop.index, ir.Constant(word, BLOCK)), at[tile])
                sources = _vectors(builder, builder.gep(points, [place]), vector, at)
                _add_outer_product(builder, column, sources, sums, size)
            for value, target in (
                (v, t) for pair in zip(sums, targets, strict=True) for v, t in zip(*pair, strict=True)
            ):
                builder.store(builder.load(value), target, align=size)
        return context.get_dummy_value()

    i = types.intp
    return types.void(weight, i, panel, i, out, i, i, types.boolean), emit


def _vectors(builder: Any, base: Any, vector: Any, at: list[Any]) -> list[Any]:
    """Give pointers to the vectors that follow each other from here."""
    places = [builder.gep(base, [at[v * vector.count]]) for v in range(_VECTORS)]
    return [builder.bitcast(place, vector.as_pointer()) for place in places]


def _begin(builder: Any, fresh: Any, targets: list[list[Any]], sums: list[list[Any]], size: int) -> None:
    pairs = [pair for t, s in zip(targets, sums, strict=True) for pair in zip(t, s, strict=True)]
    with builder.if_else(cgutils.is_true(builder, fresh)) as (is_fresh, is_not):
        with is_fresh:
            for _, value in pairs:
                builder.store(ir.Constant(value.type.pointee, None), value)
        with is_not:
            for target, value in pairs:
                builder.store(builder.load(target, align=size), value)


def _add_outer_product(builder: Any, column: Any, sources: list[Any], sums: list[list[Any]], size: int) -> None:
    """Add a column of the block times a row of the panel."""
    row = [builder.load(source, align=size) for source in sources]
    vector, number = row[0].type, ir.IntType(32)
    undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(number, vector.count), None)
    kind = ir.FunctionType(vector, [vector] * 3)
    name = f"llvm.fmuladd.v{vector.count}f{8 * size}"
    multiply_add = cgutils.get_or_insert_function(builder.module, kind, name)
    for i, own in enumerate(sums):
        weight = builder.load(builder.gep(column, [ir.Constant(ir.IntType(64), i)]))
        lane = builder.insert_element(undefined, weight, ir.Constant(number, 0))
        factor = builder.shuffle_vector(lane, undefined, first)
        for value, points in zip(own, row, strict=True):
            builder.store(builder.call(multiply_add, [factor, points, builder.load(value)]), value)


@helper
def multiply(
    weight: Array, columns: int, panel: Array, begin: int, depth: int, out: Array, o: int, stride: int, rows: int
) -> None:
    """Multiply the columns from `begin` of a matrix in blocks by a panel (depth, BLOCK) into rows of out[o:]."""
    use_widest_vectors()
    for row in range(0, rows, ROWS):
        multiply_block(weight, row * columns + begin * ROWS, panel, depth, out, o + row * stride, stride, begin == 0)
