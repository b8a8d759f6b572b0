"""The shape side of a deforming autoencoder: codes to deformations of a template.

Reference: Z. Shu et al., "Deforming Autoencoders", ECCV 2018, https://arxiv.org/abs/1806.06503.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgen.errors import ConfigurationError
from pcgen.nets.base import Decoder, check_positive, check_weight
from pcgen.nets.folding import FoldingDecoder
from pcgen.nets.initialization import zero_output
from pcgen.nets.templates import ONE, Price, soft_length, wide
from pcgen.ops import affine_grid, grid_from_increments, identity_grid, total_variation, warp_images
from pcgen.recipe import Recorded

PAIRS = 1 << 24  # distances of points held at once: bounds memory


class Deformed(NamedTuple):
    """What becomes of a template.

    Attributes:
        x: Data (B, …) of the template's shape.
        deformation: Sampling grid (B, H, W, 2) of images, displacements (B, N, 3) of clouds.
        price: Computes what it costs, for those who ask; sums over pixels or points.
    """

    x: Tensor
    deformation: Tensor
    price: Callable[[], Price]


class Deformation(Recorded, nn.Module):
    """Codes and templates to data.

    Attributes:
        latent_dim: Length of the code it sees: its own, "shape", and of a class-aware model that of the class after it.
        terms: Names of what it costs: `smoothness`, and the vector `bias`, whose mean over the data shall be 0.
    """

    latent_dim: int
    terms = ("smoothness", "bias")

    @abstractmethod
    def forward(self, z: Tensor, template: Tensor) -> Deformed:
        """Deform templates (B, …) by codes (B, Z)."""

    @abstractmethod
    def center_size(self, sample_shape: tuple[int, ...]) -> int:
        """Give the length of the vector `bias` for templates of this shape."""

    @abstractmethod
    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Raise a ConfigurationError if it cannot deform templates of this shape."""


class GridDeformation(Deformation):
    """x(p) = T(A W(p) + t): pixels keep their order along each axis, then an affine map of the whole.

    The decoder's two channels a become increments softplus(a) ≥ 0, 1 where it gives 0, whose cumulative sum along
    their axis is W. Both the decoder and the affine head begin by giving 0: the first warp is the identity.

    smoothness · TV(W − W₀), the sum of absolute differences of neighbouring pixels, and
    bias · (Σ_p ‖mean W(p) − W₀(p)‖² + H W ‖mean [A | t] − I‖²) over the batch, which makes the template the mean shape.

    Args:
        decoder: Codes to images (2, H, W).
        affine: Add the affine map, one linear layer on the code.
        smoothness: Weight of the total variation. Of a loss that sums over pixels; the published 1e-6 stands beside a
            mean over a batch of B = 100 images of C · H · W values, which makes it 1e-6 · B · C · H · W here: 1.2.
        bias: Weight of the means.
    """

    def __init__(self, decoder: Decoder, affine: bool = True, smoothness: float = 1.0, bias: float = 1.0) -> None:
        super().__init__()
        if len(decoder.sample_shape) != 3 or decoder.sample_shape[0] != 2:
            raise ConfigurationError(
                f"the decoder makes data {decoder.sample_shape}; increments along x and y are images (2, H, W)"
            )
        self.decoder = zero_output(decoder)
        self.latent_dim = decoder.latent_dim
        self.affine = zero_output(nn.Linear(decoder.latent_dim, 6)) if affine else None
        self.smoothness, self.bias = check_weight(smoothness=smoothness), check_weight(bias=bias)

    def center_size(self, sample_shape: tuple[int, ...]) -> int:
        """Give 2 H W, and 6 for the affine map."""
        return 2 * math.prod(sample_shape[1:]) + (0 if self.affine is None else 6)

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Refuse clouds, and images of another size."""
        if len(sample_shape) != 3 or sample_shape[1:] != self.decoder.sample_shape[1:]:
            raise ConfigurationError(
                f"the deformation is for images of {self.decoder.sample_shape[1:]} pixels and the template's shape is "
                f"{sample_shape}: give the deformation's decoder the image_shape [2, H, W] of the template"
            )

    def forward(self, z: Tensor, template: Tensor) -> Deformed:
        """Warp templates (B, C, H, W)."""
        # Half precision cannot tell neighbouring pixels apart in a long sum.
        increments = F.softplus(wide(self.decoder(z)) + ONE)
        local = grid_from_increments(increments)  # (B, H, W, 2)
        H, W = local.shape[1:3]
        residual = local - identity_grid(H, W, device=local.device, dtype=local.dtype)
        centers, grid = [residual.flatten(1)], local
        if self.affine is not None:
            change = wide(self.affine(z)).unflatten(1, (2, 3))  # [A | t] − I
            grid = affine_grid(local, change + torch.eye(2, 3, device=change.device, dtype=change.dtype))
            centers.append((H * W) ** 0.5 * change.flatten(1))
        return Deformed(warp_images(wide(template), grid), grid, lambda: self._price(residual, centers))

    def _price(self, residual: Tensor, centers: list[Tensor]) -> Price:
        smooth = self.smoothness * total_variation(residual).mean()
        return Price({"smoothness": smooth}, {"bias": self.bias**0.5 * torch.cat(centers, 1).mean(0)})


class PointDeformation(Deformation):
    """x_i = T_i + d_i: each point of the template is moved by a smooth field of its place, which the code steers.

    Point i of every output is the same point of the template. With several steps the field is followed for that many
    short ones, T ← T + v(T, z) / steps: small increments that add up, which keep neighbours together where a single
    large one could throw them past each other. The field begins by giving 0.

    smoothness · Σ_i mean_{j ∈ kNN(i)} ‖d_i − d_j‖ over the template's k nearest neighbours, and
    bias · Σ_i ‖mean d_i‖² over the batch, which makes the template the mean shape.

    Args:
        field: The network v of codes and places; its own template is not used.
        steps: In which the field is followed.
        neighbors: k.
        smoothness: Weight of the differences of neighbours' displacements.
        bias: Weight of the mean displacements.
    """

    def __init__(
        self,
        field: FoldingDecoder,
        steps: int = 1,
        neighbors: int = 8,
        smoothness: float = 1.0,
        bias: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive(steps=steps, neighbors=neighbors)
        if field.extra_channels:
            raise ConfigurationError(
                f"field has extra_channels {field.extra_channels}; a displacement has none, give 0"
            )
        self.field = zero_output(field)
        self.latent_dim, self.steps, self.neighbors = field.latent_dim, steps, neighbors
        self.smoothness, self.bias = check_weight(smoothness=smoothness), check_weight(bias=bias)

    def center_size(self, sample_shape: tuple[int, ...]) -> int:
        """Give 3 N."""
        return math.prod(sample_shape)

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Refuse images, and clouds of too few points."""
        if len(sample_shape) != 2:
            raise ConfigurationError(
                f"PointDeformation is for clouds (N, 3) and the template's shape is {sample_shape}: take a "
                "GridDeformation for images"
            )
        if sample_shape[0] <= self.neighbors:
            raise ConfigurationError(
                f"neighbors is {self.neighbors} and the template has {sample_shape[0]} points; take fewer neighbours"
            )

    def forward(self, z: Tensor, template: Tensor) -> Deformed:
        """Move the points of templates (B, N, 3)."""
        x = template
        for _ in range(self.steps):
            x = x + wide(self.field.steer(x, z)) / self.steps
        d = x - template
        return Deformed(x, d, lambda: self._price(template, d))

    def _price(self, template: Tensor, d: Tensor) -> Price:
        near = nearest_points(template, self.neighbors)  # (B, N, k)
        rows = torch.arange(len(d), device=d.device)[:, None, None]
        apart = soft_length(d[:, :, None] - d[rows, near])  # (B, N, k)
        smooth = self.smoothness * apart.mean(2).sum(1).mean()
        return Price({"smoothness": smooth}, {"bias": self.bias**0.5 * d.mean(0).flatten()})


def nearest_points(x: Tensor, k: int) -> Tensor:
    """Give for each point of clouds (B, N, 3) its k nearest others, indices (B, N, k)."""
    with torch.no_grad():
        if len(x) > 1 and x.stride(0) == 0:  # one template for all
            return nearest_points(x[:1], k).expand(len(x), -1, -1)
        x = wide(x.detach())
        parts = x.split(max(PAIRS // x.shape[1] ** 2, 1))  # few clouds' distances at once
        return torch.cat([_nearest(part, k) for part in parts])


def _nearest(x: Tensor, k: int) -> Tensor:
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")  # products in TF32 mistake neighbours
    apart.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return apart.topk(k, dim=2, largest=False, sorted=False).indices
