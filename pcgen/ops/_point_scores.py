"""Scores of clouds by a per-point network, and their gradients, in one pass over each cloud that keeps nothing.

A per-point layer, its gradient backwards (h for what the layer takes, d for a derivative of the score; the sums are
over the points j of one cloud):

    z = W h, z ← z − mean(z),  y = u z + b,  h' = max(y, 0)       u = scale/√(var(z) + ε), b = shift
    dy = [y > 0] dh',  dz = u (dy − mean(dy) − z mean(dy z)/(var(z) + ε)),  dh = Wᵀ dz

With `PAPER`, u = 1/√(var(z) + ε), y = scale_j u z + shift_j and dy = [y > 0] scale_j dh'. With `NONE` nothing is
centred, u = 1, and b is the linear layer's.

Between its way forwards and backwards a cloud's z (C, N) stays in the second-level cache. Everything but the products
happens while their factors are brought into the first-level cache.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit

from pcgen.ops._block_product import DEPTH, multiply
from pcgen.ops._simd import BLOCK, Array, aligned_empty, helper, kernel, select_less, use_widest_vectors

F = TypeVar("F", bound=Callable[..., Any])

NONE, CHANNEL, PAPER = 0, 1, 2  # kinds of normalisation
_GAP = 16  # values between rows; without, rows of a power of two would meet at few places of a cache


class Network(NamedTuple):
    """What the kernel reads. `…_begin` says where each layer's part of an array begins, and where the last ends."""

    widths: Array  # (L + 1,) of the per-point layers, the input's 3 first
    row_begin: Array  # of its rows of z, in whole blocks
    channel_begin: Array  # of its channels
    forward_begin: Array  # of its blocks of weights
    backward_begin: Array  # of the blocks of its transposed weights
    head_widths: Array  # (H + 1,), the last 1
    head_weight_begin: Array
    head_bias_begin: Array
    forwards: Array  # weights in blocks, see `arrange`
    backwards: Array  # transposed weights in blocks
    scale: Array  # of the normalisation: (1, channels), or (L, N and more) with PAPER
    shift: Array  # and its shift, or with NONE the linear layer's
    head_weights: Array
    head_biases: Array


class Factors(NamedTuple):
    """What the normalisation makes of one layer's rows, a number each."""

    u: Array
    b: Array
    r2: Array  # 1/(var + ε)
    p: Array  # dz = u dy + p + q z
    q: Array


def summing(function: F) -> F:
    """Compile a helper whose sums may be taken in any order, and so in vectors."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    compiled: F = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)
    return compiled


# ── what happens to one row of points ─────────────────────────────────────────────────────────────────────────────


@summing
def centre(z: Array) -> Any:
    """Take its mean from a row, and give its variance."""
    use_widest_vectors()
    n, zero = z.dtype.type(z.shape[0]), z.dtype.type(0)
    total, squares = zero, zero
    for j in range(z.shape[0]):
        total += z[j]
    mean = total / n
    for j in range(z.shape[0]):
        z[j] -= mean
        squares += z[j] * z[j]
    return squares / n


@helper
def activate(z: Array, u: float, b: float, out: Array) -> None:
    """Normalise a tile's row, and set what is below zero to zero; not a number stays so."""
    use_widest_vectors()
    zero = z.dtype.type(0)
    for j in range(BLOCK):
        y = u * z[j] + b
        out[j] = select_less(y, zero, zero, y)


@helper
def activate_by_place(z: Array, u: float, scale: Array, shift: Array, out: Array) -> None:
    """`activate` with a scale and a shift for each point."""
    use_widest_vectors()
    zero = z.dtype.type(0)
    for j in range(BLOCK):
        y = u * z[j] * scale[j] + shift[j]
        out[j] = select_less(y, zero, zero, y)


@summing
def pool(z: Array, u: float, b: float) -> Any:
    """Give the mean of a row's activations."""
    use_widest_vectors()
    zero = z.dtype.type(0)
    total = zero
    for j in range(z.shape[0]):
        y = u * z[j] + b
        total += select_less(y, zero, zero, y)
    return total / z.dtype.type(z.shape[0])


@summing
def pool_by_place(z: Array, u: float, scale: Array, shift: Array) -> Any:
    """`pool` with a scale and a shift for each point."""
    use_widest_vectors()
    zero = z.dtype.type(0)
    total = zero
    for j in range(z.shape[0]):
        y = u * z[j] * scale[j] + shift[j]
        total += select_less(y, zero, zero, y)
    return total / z.dtype.type(z.shape[0])


@summing
def gate(z: Array, u: float, b: float, d: Array) -> Any:
    """Turn a row's dh into dy, and give the sums of dy and of dy z."""
    use_widest_vectors()
    zero = z.dtype.type(0)
    total, product = zero, zero
    for j in range(z.shape[0]):
        d[j] = select_less(zero, u * z[j] + b, d[j], zero)
        total += d[j]
        product += d[j] * z[j]
    return total, product


@summing
def gate_by_place(z: Array, u: float, scale: Array, shift: Array, d: Array) -> Any:
    """`gate` with a scale and a shift for each point."""
    use_widest_vectors()
    zero = z.dtype.type(0)
    total, product = zero, zero
    for j in range(z.shape[0]):
        d[j] = scale[j] * select_less(zero, u * z[j] * scale[j] + shift[j], d[j], zero)
        total += d[j]
        product += d[j] * z[j]
    return total, product


@helper
def differentiate(z: Array, d: Array, u: float, p: float, q: float, out: Array) -> None:
    """Turn a tile's row of dy into dz."""
    use_widest_vectors()
    for j in range(BLOCK):
        out[j] = u * d[j] + (p + q * z[j])


# ── a layer of one cloud ──────────────────────────────────────────────────────────────────────────────────────────


@helper
def product_of_points(x: Array, weight: Array, panel: Array, z: Array, stride: int, width: int) -> None:
    """Fill z with the first layer's product of a cloud (N, 3); places behind the last point hold zeros."""
    use_widest_vectors()
    for j0 in range(0, stride - _GAP, BLOCK):
        n = min(BLOCK, x.shape[0] - j0)
        panel[: 3 * BLOCK] = 0
        for j in range(n):
            for k in range(3):
                panel[k * BLOCK + j] = x[j0 + j, k]
        multiply(weight, 3, panel, 0, 3, z, j0, stride, width)


@helper
def product_of_activations(
    network: Network, norm: int, layer: int, before: Array, factors: Factors, panel: Array, z: Array, stride: int
) -> None:
    """Fill z with the product of a layer and the activations of the layer before."""
    use_widest_vectors()
    depth, width = network.widths[layer], network.widths[layer + 1]
    weight = network.forwards[network.forward_begin[layer] :]
    for j0 in range(0, stride - _GAP, BLOCK):
        j1 = j0 + BLOCK
        for k0 in range(0, depth, DEPTH):
            k1 = min(depth, k0 + DEPTH)
            for k in range(k0, k1):
                row, out = before[k * stride + j0 : k * stride + j1], panel[(k - k0) * BLOCK : (k - k0 + 1) * BLOCK]
                if norm == PAPER:
                    scale, shift = network.scale[layer - 1, j0:j1], network.shift[layer - 1, j0:j1]
                    activate_by_place(row, factors.u[k], scale, shift, out)
                else:
                    activate(row, factors.u[k], factors.b[k], out)
            multiply(weight, depth, panel, k0, k1 - k0, z, j0, stride, width)


@helper
def normalise(
    network: Network, norm: int, layer: int, z: Array, factors: Factors, n: int, stride: int, eps: Any
) -> None:
    """Centre the rows of z and find what their normalisation multiplies by and adds."""
    use_widest_vectors()
    first = network.channel_begin[layer]
    for c in range(network.widths[layer + 1]):
        if norm == NONE:
            factors.u[c], factors.b[c] = 1, network.shift[0, first + c]
            continue
        factors.r2[c] = 1 / (centre(z[c * stride : c * stride + n]) + eps)
        factors.u[c] = np.sqrt(factors.r2[c])
        if norm == CHANNEL:
            factors.u[c] *= network.scale[0, first + c]
            factors.b[c] = network.shift[0, first + c]


@helper
def pool_all(network: Network, norm: int, z: Array, factors: Factors, n: int, stride: int, out: Array) -> None:
    """Fill `out` with the means over the points of the last layer's activations."""
    use_widest_vectors()
    last = network.widths.shape[0] - 2
    for c in range(network.widths[last + 1]):
        row = z[c * stride : c * stride + n]
        if norm == PAPER:
            out[c] = pool_by_place(row, factors.u[c], network.scale[last, :n], network.shift[last, :n])
        else:
            out[c] = pool(row, factors.u[c], factors.b[c])


@helper
def layer_backwards(
    network: Network,
    norm: int,
    layer: int,
    z: Array,
    factors: Factors,
    d: Array,
    panel: Array,
    out: Array,
    n: int,
    stride: int,
) -> None:
    """Fill `out` with the derivatives by what a layer takes, given d, those by what it gives, which is overwritten."""
    use_widest_vectors()
    width, depth = network.widths[layer], network.widths[layer + 1]
    for c in range(depth):
        row, own = z[c * stride : c * stride + n], d[c * stride : c * stride + n]
        if norm == PAPER:
            sums = gate_by_place(row, factors.u[c], network.scale[layer, :n], network.shift[layer, :n], own)
        else:
            sums = gate(row, factors.u[c], factors.b[c], own)
        factors.p[c] = factors.q[c] = 0
        if norm != NONE:
            factors.p[c] = -factors.u[c] * sums[0] / n
            factors.q[c] = -factors.u[c] * factors.r2[c] * sums[1] / n
    weight = network.backwards[network.backward_begin[layer] :]
    for j0 in range(0, stride - _GAP, BLOCK):
        for k0 in range(0, depth, DEPTH):
            k1 = min(depth, k0 + DEPTH)
            for k in range(k0, k1):
                i0, i1 = k * stride + j0, k * stride + j0 + BLOCK
                out_row = panel[(k - k0) * BLOCK : (k - k0 + 1) * BLOCK]
                differentiate(z[i0:i1], d[i0:i1], factors.u[k], factors.p[k], factors.q[k], out_row)
            multiply(weight, depth, panel, k0, k1 - k0, out, j0, stride, width)


# ── the head, of some clouds together: its weights are read once ──────────────────────────────────────────────────


@summing
def dot(a: Array, b: Array) -> Any:
    """Give the inner product."""
    use_widest_vectors()
    total = a.dtype.type(0)
    for j in range(a.shape[0]):
        total += a[j] * b[j]
    return total


@helper
def head_forwards(network: Network, layer: int, h: Array, out: Array) -> None:
    """Fill out (m, R) with a layer of the head of h (m, K), ReLU behind all but the last."""
    use_widest_vectors()
    K, R = network.head_widths[layer], network.head_widths[layer + 1]
    last, begin = layer == network.head_widths.shape[0] - 2, network.head_weight_begin[layer]
    for i in range(R):
        row = network.head_weights[begin + i * K : begin + (i + 1) * K]
        for c in range(h.shape[0]):
            y = dot(row, h[c, :K]) + network.head_biases[network.head_bias_begin[layer] + i]
            out[c, i] = 0 if y < 0 and not last else y


@helper
def head_backwards(network: Network, layer: int, h: Array, d: Array, out: Array) -> None:
    """Fill out (m, K) with the derivatives by h (m, K), itself behind a ReLU unless it is the first."""
    use_widest_vectors()
    K, R = network.head_widths[layer], network.head_widths[layer + 1]
    begin = network.head_weight_begin[layer]
    out[:, :K] = 0
    for i in range(R):
        row = network.head_weights[begin + i * K : begin + (i + 1) * K]
        for c in range(h.shape[0]):
            target, factor = out[c, :K], d[c, i]
            for k in range(K):
                target[k] += factor * row[k]
    if layer > 0:
        for c in range(h.shape[0]):
            for k in range(K):
                out[c, k] = out[c, k] if h[c, k] > 0 else 0


# ── whole clouds ──────────────────────────────────────────────────────────────────────────────────────────────────


@helper
def layer_factors(network: Network, layer: int, all_factors: Array) -> Factors:
    """Take one layer's part of the factors (5, channels)."""
    begin, end = network.channel_begin[layer], network.channel_begin[layer + 1]
    u, b, r2 = all_factors[0, begin:end], all_factors[1, begin:end], all_factors[2, begin:end]
    return Factors(u, b, r2, all_factors[3, begin:end], all_factors[4, begin:end])


@helper
def cloud_forwards(
    network: Network, norm: int, eps: Any, x: Array, z: Array, all_factors: Array, panel: Array, pooled: Array
) -> None:
    """Take a cloud (N, 3) through the per-point layers, whose products and factors are kept, to the mean."""
    n, layers = x.shape[0], network.widths.shape[0] - 1
    stride = -(-n // BLOCK) * BLOCK + _GAP
    product_of_points(x, network.forwards, panel, z, stride, network.widths[1])
    factors, own = layer_factors(network, 0, all_factors), z
    normalise(network, norm, 0, own, factors, n, stride, eps)
    for layer in range(1, layers):
        before, own = own, z[network.row_begin[layer] * stride :]
        product_of_activations(network, norm, layer, before, factors, panel, own, stride)
        factors = layer_factors(network, layer, all_factors)
        normalise(network, norm, layer, own, factors, n, stride, eps)
    pool_all(network, norm, own, factors, n, stride, pooled)


@helper
def cloud_backwards(
    network: Network, norm: int, z: Array, all_factors: Array, panel: Array, d_pooled: Array, slopes: Array, g: Array
) -> None:
    """Take the derivatives by a cloud's mean back to its points, g (N, 3)."""
    n, layers = g.shape[0], network.widths.shape[0] - 1
    stride, half = -(-n // BLOCK) * BLOCK + _GAP, slopes.shape[0] // 2
    d, out = slopes[:half], slopes[half:]
    for c in range(network.widths[layers]):
        d[c * stride : (c + 1) * stride] = d_pooled[c] / d.dtype.type(n)
    for layer in range(layers - 1, -1, -1):
        own = z[network.row_begin[layer] * stride :]
        factors = layer_factors(network, layer, all_factors)
        layer_backwards(network, norm, layer, own, factors, d, panel, out, n, stride)
        d, out = out, d
    for j in range(n):
        for k in range(3):
            g[j, k] = d[k * stride + j]


@kernel
def scores(
    x: Array,
    points: Array,
    heads: Array,
    values: tuple[Array, ...],
    norm: int,
    eps: Any,
    held: int,
    f: Array,
    g: Array,
    begin: int,
    end: int,
) -> None:
    """Write the scores f (B,) of clouds begin … end−1 of x (B, N, 3), and their gradients g unless that is empty.

    Args:
        x: Clouds.
        points: (5, L + 1), the first fields of a `Network`.
        heads: (3, H + 1), the next.
        values: The others.
        norm: NONE, CHANNEL or PAPER.
        eps: What the normalisation adds to a variance.
        held: Clouds that go through the per-point layers before they go through the head together.
        f: To be filled.
        g: To be filled.
        begin: First cloud.
        end: Cloud after the last.
    """
    use_widest_vectors()
    network = Network(
        points[0],
        points[1],
        points[2],
        points[3],
        points[4],
        heads[0],
        heads[1],
        heads[2],
        values[0],
        values[1],
        values[2],
        values[3],
        values[4],
        values[5],
    )
    n, last, outputs = x.shape[1], points.shape[1] - 1, heads.shape[1] - 1
    stride, held = -(-n // BLOCK) * BLOCK + _GAP, min(held, end - begin)
    rows, channels = network.row_begin[last], network.channel_begin[last]
    widest = (network.row_begin[1:] - network.row_begin[:-1]).max()
    z, panel = aligned_empty(held * rows * stride, f), aligned_empty(DEPTH * BLOCK, f)
    slopes = aligned_empty(2 * widest * stride if g.shape[0] else 0, f)
    factors = np.zeros((held, 5, channels), f.dtype)
    h = np.zeros((outputs + 1, held, network.head_widths.max()), f.dtype)
    d = np.zeros_like(h)
    for first in range(begin, end, held):
        m = min(held, end - first)
        for i in range(m):
            own = z[i * rows * stride : (i + 1) * rows * stride]
            cloud_forwards(network, norm, eps, x[first + i], own, factors[i], panel, h[0, i])
        for layer in range(outputs):
            head_forwards(network, layer, h[layer, :m], h[layer + 1, :m])
        f[first : first + m] = h[outputs, :m, 0]
        if g.shape[0] == 0:
            continue
        d[outputs] = 1
        for layer in range(outputs - 1, -1, -1):
            head_backwards(network, layer, h[layer, :m], d[layer + 1, :m], d[layer, :m])
        for i in range(m):
            own = z[i * rows * stride : (i + 1) * rows * stride]
            cloud_backwards(network, norm, own, factors[i], panel, d[0, i], slopes, g[first + i])
