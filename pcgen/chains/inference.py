"""The code of a datum under a chain: the beginning from which the chain without noise comes to it."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.ops import chamfer_distance, gather_points, optimal_assignment
from pcgen.ops.langevin_map import ChainGradient
from pcgen.recipe import Recorded


class CodeInference(Recorded):
    """Finds Z with M(Z) near X by gradient descent through the chain M: min ‖X − M(Z)‖² over Z.

    All descents begin at one and the same draw of noise, whose points are matched with those of X by the optimal
    assignment. So point i of every code began at the same place, and codes of different clouds correspond point by
    point: a walk between two of them moves each point a little, and stays where noise is.

    Args:
        steps: Of Adam.
        learning_rate: Of Adam, in the units of the data, along half a cosine to 0.
        gradient: "straight-through" takes each step's drift for a constant, as the authors' code does; "exact" goes
            back through the chain with recomputed activations. The exact one costs many times as much, and on
            ModelNet10's chairs it stayed further away.
        distance: "pointwise", ‖X − M(Z)‖² of the matched points, or "chamfer".
    """

    def __init__(
        self,
        steps: int = 40,
        learning_rate: float = 0.02,
        gradient: ChainGradient = "straight-through",
        distance: Literal["pointwise", "chamfer"] = "pointwise",
    ) -> None:
        if steps < 1:
            raise ConfigurationError(f"steps is {steps}; give 1 or more")
        if not learning_rate > 0:
            raise ConfigurationError(f"learning_rate is {learning_rate}; give a number above 0")
        if gradient not in ("exact", "straight-through"):
            raise ConfigurationError(f'gradient is {gradient!r}; choose "exact" or "straight-through"')
        if distance not in ("pointwise", "chamfer"):
            raise ConfigurationError(f'distance is {distance!r}; choose "pointwise" or "chamfer"')
        self.steps, self.learning_rate, self.gradient, self.distance = steps, learning_rate, gradient, distance

    def __call__(self, chain: Callable[[Tensor], Tensor], x: Tensor, noise: Tensor) -> Tensor:
        """Give the codes (B, N, 3) of clouds, without a graph.

        Args:
            chain: M, (B, N, 3) -> (B, N, 3), differentiable.
            x: Clouds (B, N, 3).
            noise: A draw of noise (N, 3), the same for all.
        """
        with torch.inference_mode(mode=False), torch.enable_grad():
            z = noise.clone().expand(len(x), -1, -1).clone().requires_grad_()
            target = _in_order_of(x.clone(), z.detach())
            optimizer = torch.optim.Adam([z], self.learning_rate)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            for _ in range(self.steps):
                optimizer.zero_grad()
                (z.grad,) = torch.autograd.grad(self._error(chain(z), target).sum(), z)
                optimizer.step()
                schedule.step()
        return z.detach()

    def _error(self, made: Tensor, target: Tensor) -> Tensor:
        if self.distance == "chamfer":
            return chamfer_distance(made, target, reduction="sum")
        return (made - target).square().sum((1, 2))


def _in_order_of(x: Tensor, z: Tensor) -> Tensor:
    """Give x (B, N, 3) with its points in the order of those of z that the optimal assignment gives them."""
    return gather_points(x, optimal_assignment(z, x)) if len(x) else x
