"""PointNet: one small MLP for every point, then a symmetric pool.

Reference: C. R. Qi, H. Su, K. Mo, L. J. Guibas, "PointNet: Deep Learning on Point Sets for 3D Classification and
Segmentation", CVPR 2017, https://arxiv.org/abs/1612.00593. The default widths are those of P. Achlioptas et al.,
"Learning Representations and Generative Models for 3D Point Clouds", ICML 2018, https://arxiv.org/abs/1707.02392.

Difference: the optional input transform has no orthogonality penalty (the original has one on its feature transform
only).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pcgen.nets.base import Encoder, check_clouds
from pcgen.nets.mlp import MLP

Pool = Literal["max", "mean"]


class PointNetEncoder(Encoder):
    """Features of a cloud that do not depend on the order of its points; any number of points.

    Args:
        widths: Width of each per-point layer; the last is the number of pooled features.
        head_widths: Width of each layer after the pool.
        pool: `max` (the critical points of the shape) or `mean` (its distribution).
        input_transform: Learn a 3 × 3 matrix for each cloud that is applied to its points first (T-Net).
        batch_norm: Normalise each layer over the batch (and the points).
    """

    permutation_invariant = True

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 128, 256, 128),
        head_widths: Sequence[int] = (),
        pool: Pool = "max",
        input_transform: bool = False,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.out_features = (*widths, *head_widths)[-1]
        self.input_transform = InputTransform(batch_norm=batch_norm) if input_transform else None
        self.points = PointwiseMLP(3, widths, pool, batch_norm=batch_norm)
        self.head = MLP(widths[-1], head_widths, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of clouds (B, N, 3)."""
        check_clouds(x)
        if self.input_transform is not None:
            x = x @ self.input_transform(x)  # (B, N, 3)
        features: Tensor = self.head(self.points(x))
        return features


class PointwiseMLP(nn.Module):
    """The same MLP for every point, then a pool over the points: (B, N, C) -> (B, F)."""

    def __init__(self, in_features: int, widths: Sequence[int], pool: Pool, *, batch_norm: bool) -> None:
        super().__init__()
        self.pool = pool
        self.layers = MLP(in_features, widths, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Give the pooled features (B, F) of (B, N, C)."""
        # One tall matrix: batch normalisation then runs over batch and points, and the products are plain GEMMs.
        h: Tensor = self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # (B, N, F)
        return h.amax(1) if self.pool == "max" else h.mean(1)


class InputTransform(nn.Module):
    """PointNet's T-Net on coordinates: (B, N, 3) -> (B, 3, 3), the identity at the start."""

    def __init__(self, widths: Sequence[int] = (64, 128, 256), *, batch_norm: bool) -> None:
        super().__init__()
        self.points = PointwiseMLP(3, widths, "max", batch_norm=batch_norm)
        self.head = MLP(widths[-1], (128,), 9, batch_norm=batch_norm)
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give a matrix (B, 3, 3) for each cloud (B, N, 3)."""
        residual: Tensor = self.head(self.points(x)).unflatten(1, (3, 3))
        return torch.eye(3, dtype=residual.dtype, device=x.device) + residual
