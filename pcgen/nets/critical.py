"""The critical points of a cloud: those that win at least one feature of a max-pooled per-point network.

After C. R. Qi, H. Su, K. Mo, L. J. Guibas, "PointNet: Deep Learning on Point Sets for 3D Classification and
Segmentation", CVPR 2017, https://arxiv.org/abs/1612.00593, theorem 2: what the network says of a cloud is decided by a
subset of at most F points, F being the number of pooled features.
"""

from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch._C._functorch import maybe_current_level
from torch.nn import functional as F
from torch.nn.utils.parametrize import type_before_parametrizations

# Values of the widest layer that are held at once: on a CPU what stays near it, on a GPU enough to keep it busy.
_HELD = {"cpu": 1 << 20, "cuda": 1 << 26}
_LEAST_POINTS = 128
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Step(NamedTuple):
    """A linear layer with the normalisation behind it, and the slope of its activation below zero."""

    weight: Tensor  # (F, C)
    bias: Tensor  # (F,)
    slope: float = 1.0

    def __call__(self, rows: Tensor) -> Tensor:
        """Give (R, F) of rows (R, C)."""
        return activate_(F.linear(rows, self.weight, self.bias), self.slope)


def activate_(x: Tensor, slope: float) -> Tensor:
    """Multiply what is below zero by the slope, in place."""
    if slope == 1:
        return x
    return F.leaky_relu_(x, slope) if slope else F.relu_(x)


def slope_of(layer: nn.Module) -> float | None:
    """Give the slope below zero of a ReLU or LeakyReLU, None of anything else."""
    if type(layer) is nn.LeakyReLU:
        return layer.negative_slope
    return 0.0 if type(layer) is nn.ReLU else None


def is_linear(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Tell whether this is a linear layer, be its weight parametrised or not, and none that computes otherwise."""
    return type_before_parametrizations(layer) is nn.Linear


def has_hooks(*layers: nn.Module) -> bool:
    """Tell whether something runs beside the layers' own `forward`, so that they must be called as a whole."""
    return any(getattr(layer, name) for layer in layers for name in _HOOKS)


def couples_points(layers: nn.Sequential) -> bool:
    """Tell whether more than linear layers, fixed normalisations and activations stands between a point and the pool.

    A normalisation over the batch in training couples all points, and a hook may do anything.
    """
    return has_hooks(layers, *layers) or not all(map(_is_of_one_point, layers))


def _is_of_one_point(layer: nn.Module) -> bool:
    if type(layer) in (nn.BatchNorm1d, nn.SyncBatchNorm):
        return not layer.training and layer.running_mean is not None
    return is_linear(layer) or slope_of(layer) is not None


def runs_as_written(x: Tensor) -> bool:
    """Tell whether operations on x happen at once and in float32 or float64, on a CPU or a CUDA device.

    Not so under torch.compile and the transforms of torch.func, where no number can be looked at; and in half precision
    many points win alike, so that the order of the sums would decide which has the gradient.
    """
    if type(x) not in (Tensor, nn.Parameter) or x.dtype not in (torch.float32, torch.float64):
        return False
    kind, transformed = x.device.type, maybe_current_level() is not None
    at_once = not transformed and not torch.compiler.is_compiling()
    return at_once and kind in _HELD and not torch.is_autocast_enabled(kind)


def pays(x: Tensor, layers: nn.Sequential) -> bool:
    """Tell whether `max_over_points` is likely to be faster than the plain way.

    The search for the winners is one more pass forwards, so it pays where few points win. Of a chair's 512 points 109
    win one of 512 features, of 2048 points 162 (random weights, `benchmarks/critic.py`), and fewer as a critic learns.
    From about 128 points on it was the faster way with 64 to 1024 features on a CPU; on a GPU it was not measured.
    """
    return len(x) > 0 and x.shape[1] >= _LEAST_POINTS and len(layers) > 0


def max_over_points(x: Tensor, layers: nn.Sequential) -> Tensor:
    """Give the maximum over the points of a per-point network, with gradient through the critical points alone.

    Behind a maximum only the winner of each feature has a gradient. A pass without gradient finds the winners, in
    parts that stay in the cache; then the winners of each cloud, F at most and often far fewer, go through the layers
    once more. Value and derivatives of any order are those of the plain way, but activations are kept for the winners
    only, and every pass backwards (a gradient penalty has three) costs their share. Where several points win alike,
    the first has the gradient, as with `torch.max`.

    Args:
        x: Clouds (B, N, C).
        layers: Linear layers, each with an activation that does not fall, with or without batch normalisation in
            evaluation mode.

    Returns:
        (B, F).
    """
    steps = read(layers)
    B, N = x.shape[:2]
    winner = winners(x, steps) + N * torch.arange(B, device=x.device)[:, None]  # (B, F), rows of all clouds
    critical = torch.zeros(B * N, dtype=torch.bool, device=x.device)
    critical[winner.flatten()] = True
    rows = x.flatten(0, 1).index_select(0, critical.nonzero()[:, 0])  # (R, C), a cloud behind the other
    for step in steps:
        rows = step(rows)
    place = critical.cumsum(0) - 1
    return rows.gather(0, place[winner])


def read(layers: nn.Sequential) -> list[Step]:
    """Read every weight once: a parametrised one (spectral normalisation) may move at each reading."""
    steps: list[Step] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            W = layer.weight
            bias = getattr(layer, "bias", None)  # torch's stub says that there always is one
            steps.append(Step(W, W.new_zeros(len(W)) if bias is None else bias))
        elif isinstance(layer, nn.BatchNorm1d | nn.SyncBatchNorm):
            steps[-1] = _folded(steps[-1], layer)
        else:
            steps[-1] = steps[-1]._replace(slope=slope_of(layer) or 0.0)
    return steps


def _folded(step: Step, norm: nn.BatchNorm1d | nn.SyncBatchNorm) -> Step:
    """Take a normalisation by fixed statistics into the linear layer before it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale, shift = torch.rsqrt(norm.running_var + norm.eps), step.bias - norm.running_mean
    if norm.affine:
        scale = scale * norm.weight
        return Step(step.weight * scale[:, None], shift * scale + norm.bias)
    return Step(step.weight * scale[:, None], shift * scale)


@torch.no_grad()
def winners(x: Tensor, steps: list[Step]) -> Tensor:
    """Give the point with the largest value of each feature, the first of equals: (B, N, C) -> (B, F)."""
    x, steps = x.detach(), [Step(W.detach(), bias.detach(), slope) for W, bias, slope in steps]  # of every derivative
    N, widest = x.shape[1], max(len(step.weight) for step in steps)
    clouds = max(1, _HELD[x.device.type] // (N * widest))
    # Two buffers in turn: new memory for every product would cost a CPU half as much again as the product.
    held = [x.new_empty(widest * min(clouds, len(x)) * N) for _ in range(2)]
    found = []
    for part in x.split(clouds):
        h = part.flatten(0, 1).T  # (C, b·N): the points last, so that the search below runs along memory
        for k, step in enumerate(steps):
            out = held[k % 2][: len(step.weight) * h.shape[1]].view(-1, h.shape[1])
            h = torch.addmm(step.bias[:, None], step.weight, h, out=out)
            if k < len(steps) - 1:  # the last activation changes no order
                activate_(h, step.slope)
        found.append(_first_largest(h.unflatten(1, part.shape[:2])))
    return torch.cat(found, 1).T


def _first_largest(values: Tensor) -> Tensor:
    """Give the index of the largest value along the last dimension."""
    # On few threads NumPy's search, which uses wide registers, is five times as fast as torch's.
    if values.device.type == "cpu" and torch.get_num_threads() <= 4:
        return torch.from_numpy(values.numpy().argmax(2))
    return values.argmax(2)
