"""What the CPU kernels are made of: compilation with a disk cache, and the few instructions that numba lacks.

The cache is told to depend on every file of this folder: numba by itself looks at the kernel's own file alone and
would miss a change in a helper.
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import event
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]
Planes = tuple[Array, ...]  # one array for each number that a point has
F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger(__name__)
_CACHE_LINE = 64  # bytes
BLOCK = 64  # clouds are padded to a multiple of this many points, so that vector loops have no remainder
NOWHERE = np.int32(2**31 - 1)
_cached_somewhere = True


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile an entry point: callable from Python without the interpreter lock, kept on disk where possible."""
    global _cached_somewhere  # noqa: PLW0603  # one fact about this process, told by the notice below
    try:
        compiled: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no directory that it may write to
        _cached_somewhere = False
        compiled = njit(nogil=True, error_model="numpy")(function)
    else:
        files = sorted(Path(__file__).parent.glob("*.py"))
        with contextlib.suppress(AttributeError):  # a private name; without it the kernel's own file is looked at
            compiled._cache._cache_file._source_stamp = [  # noqa: SLF001  # as said
                (file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files
            ]
    entry: Callable[..., None] = compiled
    return entry


def helper(function: F) -> F:
    """Compile a function that only kernels call; it is kept as part of them.

    Without the ways into it from Python and C, which would take as long to compile as the function.
    """
    compiled: F = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return compiled


class _CompilationNotice(event.Listener):  # type: ignore[misc]  # numba ships no types
    """Tell once why the first call takes so long; numba gives the event when it compiles, not when it reads its cache.

    As a warning, since that reaches the error stream where nobody has set up logging.
    """

    told = False

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if self.told or not function.__module__.startswith(__package__):
            return
        self.told = True
        if _cached_somewhere:
            _log.warning(
                "compiling the point-set kernels for this processor (up to half a minute, once on this machine)"
            )
        else:
            _log.warning(
                "compiling the point-set kernels (up to half a minute, in every process: no writable cache directory; "
                "set NUMBA_CACHE_DIR to one)"
            )

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _CompilationNotice())


def _elementwise(name: str, arity: int, fastmath: tuple[str, ...] = ()) -> Any:
    """Make an LLVM intrinsic of equal operands callable from kernels."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001  # numba's protocol
        kind = args[0].type
        function = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * arity))
        return builder.call(function, args, fastmath=fastmath)

    if arity == 2:
        return intrinsic(lambda typingctx, a, b: (a(a, a), emit))  # noqa: ARG005  # numba's protocol
    return intrinsic(lambda typingctx, a, b, c: (a(a, a, a), emit))  # noqa: ARG005  # numba's protocol


# Without the promise that no NaN comes, a minimum does not become one vector instruction.
minimum = _elementwise("llvm.minnum", 2, ("nnan", "nsz"))
maximum = _elementwise("llvm.maxnum", 2, ("nnan", "nsz"))
minimum_int = _elementwise("llvm.smin", 2)
# a·b + c, fused wherever the processor can. The same instruction everywhere, scalar or vector, is what makes a
# distance have the same bits whichever loop computes it.
multiply_add = _elementwise("llvm.fmuladd", 3)


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def select_less(typingctx: Any, x: Any, y: Any, a: Any, b: Any) -> Any:  # noqa: ARG001  # numba's protocol
    """Give a if x < y else b, without a branch."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001  # numba's protocol
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return a(x, x, a, a), emit


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def use_widest_vectors(typingctx: Any) -> Any:  # noqa: ARG001  # numba's protocol
    """Let the calling function use 512-bit vectors, which LLVM by default avoids on processors that have them."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001  # numba's protocol
        # llvmlite's own `add` accepts only attributes without a value.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), emit


@helper
def squared_norm(a: float, b: float, c: float) -> Any:
    """Give a² + b² + c², always rounded in the same way."""
    return multiply_add(c, c, multiply_add(b, b, a * a))


@helper
def aligned_empty(size: int, like: Array) -> Array:
    """Allocate (size,) of the dtype of `like` at the start of a cache line: split loads cost double."""
    raw = np.empty(size + _CACHE_LINE // like.itemsize, like.dtype)
    start = (-raw.ctypes.data % _CACHE_LINE) // like.itemsize
    return raw[start : start + size]


@helper
def pack(points: Array, limit: float) -> tuple[Array, Array, Array, bool]:
    """Split a cloud (N, 3) into padded coordinates, and say whether all are finite and at most `limit`.

    Padding repeats the last point: a copy never wins a tie against its original.
    """
    n = points.shape[0]
    size = -(-n // BLOCK) * BLOCK
    x, y, z = aligned_empty(size, points), aligned_empty(size, points), aligned_empty(size, points)
    good = True
    for i in range(n):
        x[i], y[i], z[i] = points[i, 0], points[i, 1], points[i, 2]
        good &= (abs(x[i]) <= limit) & (abs(y[i]) <= limit) & (abs(z[i]) <= limit)
    x[n:], y[n:], z[n:] = points[n - 1, 0], points[n - 1, 1], points[n - 1, 2]
    return x, y, z, good
