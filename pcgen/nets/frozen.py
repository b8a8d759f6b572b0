"""Scores by a network whose parameters stay, with their gradient by the clouds: what a step of a Langevin chain asks.

Autograd goes through a whole batch layer by layer and keeps every activation. Here a compiled kernel takes one cloud
after the other forwards and backwards while it lies in the cache, and only the gradient, as large as the cloud, is
kept. Figures: `benchmarks/langevin.py`.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from pcgen.nets.critical import has_hooks, runs_as_written
from pcgen.ops._parallel import batch_ranges, run_all, threads

_HELD = 1 << 17  # values: clouds whose activations are about as many go through the head together
_LEAST_POINTS = 2  # torch refuses to normalise over less

Score = Callable[[Tensor], Tensor]


class Parts(NamedTuple):
    """What a score is made of, each linear layer but the last with a ReLU behind it (and behind its normalisation)."""

    points: list[nn.Conv1d]
    norms: list[nn.GroupNorm | nn.LayerNorm]  # none, or one for each layer
    head: list[nn.Linear]

    def parameters(self) -> list[Tensor]:
        """Give all of them."""
        both = [value for layer in (*self.points, *self.norms, *self.head) for value in (layer.weight, layer.bias)]
        return [value for value in both if value is not None]


def parts_of(points: Iterable[tuple[nn.Module, nn.Module | None]], head: nn.Sequential) -> Parts | None:
    """Give the parts of a score (per-point layers, the mean, a head), None if some layer is of another kind."""
    found = Parts([], [], [layer for layer in head if type(layer) is nn.Linear])
    between = [layer for layer in head if type(layer) is not nn.Linear]
    for linear, norm in points:
        if type(linear) is not nn.Conv1d or type(norm) not in (nn.GroupNorm, nn.LayerNorm, type(None)):
            return None
        found.points.append(linear)
        if isinstance(norm, nn.GroupNorm | nn.LayerNorm):
            found.norms.append(norm)
    known = len(between) == len(found.head) - 1 and all(type(layer) is nn.ReLU for layer in between)
    return None if not known or has_hooks(head, *head, *found.points, *found.norms) else found


def is_computed(x: Tensor, parts: Parts) -> bool:
    """Tell whether the kernel can take the place of the plain way: on a CPU, if no parameter asks for a gradient."""
    if x.device.type != "cpu" or not runs_as_written(x) or torch._C._is_tracing():  # noqa: SLF001  # the public one has no annotations
        return False
    if len(x) == 0 or x.shape[1] < _LEAST_POINTS or forward_ad.unpack_dual(x).tangent is not None:
        return False
    parameters = parts.parameters()
    if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
        return False
    return all(type(p) is nn.Parameter and p.dtype == x.dtype and p.device == x.device for p in parameters)


def score(x: Tensor, parts: Parts, plainly: Score) -> Tensor:
    """Give the scores (B,) of clouds (B, N, 3), with derivatives of any order by the clouds.

    Args:
        x: Clouds that `is_computed` says yes to.
        parts: Of the network.
        plainly: The same function by torch's operations; second derivatives go through it.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        f: Tensor = _Score.apply(x, parts, plainly, *parts.parameters())  # type: ignore[no-untyped-call]  # torch's
        return f
    return _computed(x, parts, with_gradient=False)[0]


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: Parts, plainly: Score, *parameters: Tensor) -> Tensor:
        f, gradient = _computed(x, parts, with_gradient=True)
        ctx.plainly = plainly
        ctx.save_for_backward(x, gradient, *parameters)  # these, so that a change before the backward pass is noticed
        return f

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        x, gradient, *parameters = ctx.saved_tensors
        (v,) = slopes
        if torch.is_grad_enabled():  # the gradient's own graph is asked for
            (g,) = torch.autograd.grad(ctx.plainly(x), x, v, create_graph=True)
        else:
            g = v[:, None, None] * gradient
        return g, None, None, *[None] * len(parameters)


def _computed(x: Tensor, parts: Parts, *, with_gradient: bool) -> tuple[Tensor, Tensor]:
    """Give the scores (B,), and their gradients (B, N, 3) or an empty tensor."""
    from pcgen.ops._point_scores import CHANNEL, NONE, PAPER, scores

    x = x.detach().contiguous()
    f, g = x.new_empty(len(x)), x.new_empty(x.shape if with_gradient else (0, 0, 3))
    kind, eps = NONE, 0.0
    if parts.norms:
        kind, eps = (CHANNEL if isinstance(parts.norms[0], nn.GroupNorm) else PAPER), parts.norms[0].eps
    layout = _layout(
        tuple(layer.out_channels for layer in parts.points), tuple(layer.in_features for layer in parts.head)
    )
    held = max(1, _HELD // (layout.rows * x.shape[1]))
    f_array = f.numpy()
    arguments = (x.numpy(), layout.points, layout.heads, _values(parts, layout), kind, f_array.dtype.type(eps), held)
    ranges = batch_ranges(len(x)) if threads() > 1 else [(0, len(x))]  # memory is taken once a range
    run_all([(1, partial(scores, *arguments, f_array, g.numpy(), *r)) for r in ranges])
    return f, g


class _Layout(NamedTuple):
    """Where everything begins, as the kernel reads it."""

    points: Any  # (5, L + 1)
    heads: Any  # (3, H + 1)
    rows: int
    blocks: Any  # (L + 1,): widths in whole blocks


@lru_cache(maxsize=16)
def _layout(widths: tuple[int, ...], head_widths: tuple[int, ...]) -> _Layout:
    from pcgen.ops._block_product import ROWS

    width, heads = np.array([3, *widths]), np.array([*head_widths, 1])
    rows = -(-width // ROWS) * ROWS
    points = [width, *map(_begins, (rows[1:], width[1:], rows[1:] * width[:-1], rows[:-1] * width[1:]))]
    return _Layout(
        np.stack(points), np.stack([heads, _begins(heads[1:] * heads[:-1]), _begins(heads[1:])]), sum(rows[1:]), rows
    )


def _begins(sizes: Any) -> Any:
    return np.concatenate([[0], np.cumsum(sizes)])


def _values(parts: Parts, layout: _Layout) -> tuple[Any, ...]:
    """Give all parameters as the kernel reads them."""
    from pcgen.ops._block_product import arrange

    weights = _flat(layer.weight for layer in parts.points)
    forwards, backwards = (np.empty(size, weights.dtype) for size in layout.points[3:, -1])
    arrange(weights, layout.points[0], layout.blocks, forwards, backwards)
    head = _flat(layer.weight for layer in parts.head), _flat(layer.bias for layer in parts.head)
    return forwards, backwards, *_scale_and_shift(parts), *head


def _scale_and_shift(parts: Parts) -> tuple[Any, Any]:
    from pcgen.ops._simd import BLOCK

    if not parts.norms:
        biases = _flat(layer.bias for layer in parts.points if layer.bias is not None)[None]
        return biases, biases
    both = [_flat(norm.weight for norm in parts.norms)[None], _flat(norm.bias for norm in parts.norms)[None]]
    if isinstance(parts.norms[0], nn.LayerNorm):
        behind = ((0, 0), (0, -len(parts.norms[0].weight) % BLOCK))  # a tile of points is read as a whole
        both = [np.pad(values.reshape(len(parts.norms), -1), behind) for values in both]
    return both[0], both[1]


def _flat(values: Iterable[Tensor]) -> Any:
    return np.concatenate([value.detach().numpy().ravel() for value in values])
