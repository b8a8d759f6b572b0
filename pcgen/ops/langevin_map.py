"""The Langevin chain without noise as a map of its beginning, with its gradient.

x_0 = z,  x_{k+1} = clamp(x_k − δ²/2 ∇E(x_k)),  M(z) = x_T
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.ops.langevin import Energy, checked_values, langevin, langevin_states

ChainGradient = Literal["exact", "straight-through"]


def langevin_map(
    energy: Energy,
    z: Tensor,
    *,
    steps: int,
    step_size: float,
    clamp: float | None = None,
    gradient: ChainGradient = "exact",
    chunk_size: int | None = None,
) -> Tensor:
    """Give where the chain without noise comes to from z, with a gradient for z.

    The states are kept, and what the energy computes at each of them is computed again in the backward pass: memory is
    that of T states and of one step, whatever the energy is made of.

    Args:
        energy: (B, …) -> (B,), twice differentiable; each datum's energy must not depend on the other data. Its
            parameters get no gradient.
        z: Where the chains begin (B, …).
        steps: T, 0 or more.
        step_size: δ.
        clamp: After each step values are put back into [−clamp, clamp], and pass no gradient where they were outside;
            None leaves them.
        gradient: "exact" goes back through each step with Hessian-vector products, v ← v − δ²/2 ∇²E(x_k) v;
            "straight-through" takes each step's drift for a constant, which costs nothing.
        chunk_size: Data that are handled at once; None for all. It bounds memory and changes nothing else.

    Returns:
        M(z) (B, …).

    Raises:
        ConfigurationError: If a number is out of its range, or the gradient unknown.
        DataError: If the energy does not give one number for each datum, or no gradient.

    The short-run chain as a generator: E. Nijkamp, M. Hill, S.-C. Zhu, Y. N. Wu, "Learning Non-Convergent
    Non-Persistent Short-Run MCMC Toward Energy-Based Model", NeurIPS 2019, https://arxiv.org/abs/1904.09770.

    >>> import torch
    >>> z = torch.tensor([[1.0]], requires_grad=True)
    >>> y = langevin_map(lambda x: (x**2).sum(1) / 2, z, steps=2, step_size=1.0)
    >>> y.item(), torch.autograd.grad(y.sum(), z)[0].item()
    (0.25, 0.25)
    """
    if gradient not in ("exact", "straight-through"):
        raise ConfigurationError(f'gradient is {gradient!r}; choose "exact" or "straight-through"')
    options = {"steps": steps, "step_size": step_size, "clamp": clamp, "chunk_size": chunk_size}
    moved: Tensor = _Map.apply(z, energy, options, gradient)  # type: ignore[no-untyped-call]  # as torch has it
    return moved


class _Map(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, energy: Energy, options: dict[str, Any], gradient: ChainGradient) -> Tensor:
        ctx.energy, ctx.options, ctx.gradient = energy, options, gradient
        if not ctx.needs_input_grad[0]:
            return langevin(energy, z, temperature=0.0, **options)
        if gradient == "straight-through":
            last, ctx.free = _with_free(energy, z, options)
            return last
        *ctx.states, last = langevin_states(energy, z, temperature=0.0, **options)
        return last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, v: Tensor) -> Any:
        if len(v) == 0:
            return v, None, None, None
        if ctx.gradient == "straight-through":
            return v * ctx.free, None, None, None
        drift = ctx.options["step_size"] ** 2 / 2
        size = ctx.options["chunk_size"] or len(v)
        for state in reversed(ctx.states):
            parts = zip(state.split(size), v.split(size), strict=True)
            v = torch.cat([_exact(ctx.energy, x, w, drift, ctx.options["clamp"]) for x, w in parts])
        return v, None, None, None


def _with_free(energy: Energy, z: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Give the chain's end, and which values (B, …) were never put back by the clamp."""
    clamp = math.inf if options["clamp"] is None else options["clamp"]
    free = torch.ones_like(z, dtype=torch.bool)
    first, *rest = langevin_states(energy, z, temperature=0.0, **options)
    for state in rest:
        free &= state.abs() < clamp
    return (rest or [first])[-1], free


def _exact(energy: Energy, x: Tensor, v: Tensor, drift: float, clamp: float | None) -> Tensor:
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(checked_values(energy, leaf).sum(), leaf, create_graph=True)
        v = _within(v.clone(), leaf.detach() - drift * slope.detach(), clamp)
        if not slope.requires_grad:  # a linear energy
            return v
        (curved,) = torch.autograd.grad(slope, leaf, v, materialize_grads=True)
    return v - drift * curved


def _within(v: Tensor, moved: Tensor, clamp: float | None) -> Tensor:
    return v if clamp is None else v * (moved.abs() <= clamp)
