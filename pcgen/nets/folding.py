"""A folding decoder: one small network moves every point of a fixed template, guided by the code.

After Y. Yang, C. Feng, Y. Shen, D. Tian, "FoldingNet: Point Cloud Auto-Encoder via Deep Grid Deformation", CVPR 2018,
https://arxiv.org/abs/1712.07262. Where it differs, and why:

- The code steers each layer by a scale and a shift of its channels (FiLM, E. Perez et al. 2018,
  https://arxiv.org/abs/1709.07871) instead of being repeated beside every point: the wide product with the code is
  done once a cloud and not once a point.
- The template is a set of evenly spread points in the unit ball, not a square: furniture has no boundary to tear
  along. Sinusoids of its coordinates let thin parts (legs, backs) be told apart.
- The template is a formula of N, so one set of weights gives clouds of any size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcgen.nets.base import Decoder, check_positive
from pcgen.nets.mlp import MLP


class FoldingDecoder(Decoder):
    """Moves the points of a template to a shape.

    Args:
        latent_dim: Z, length of a code.
        num_points: N of the clouds it makes; `forward` takes another one on demand.
        width: Channels of the per-point layers.
        depth: Number of per-point residual layers.
        code_widths: Layers of the network that turns a code into scales and shifts.
        frequencies: Octaves of sinusoids of the template's coordinates.
        batch_norm: Normalise the layers on the code over the batch.
        extra_channels: Further values per point (3 for a learned output scale).
    """

    def __init__(
        self,
        latent_dim: int = 128,
        num_points: int = 2048,
        width: int = 128,
        depth: int = 4,
        code_widths: Sequence[int] = (256, 256),
        frequencies: int = 4,
        batch_norm: bool = True,
        extra_channels: int = 0,
    ) -> None:
        super().__init__()
        check_positive(latent_dim=latent_dim, num_points=num_points, width=width, depth=depth)
        self.latent_dim, self.num_points, self.extra_channels = latent_dim, num_points, extra_channels
        self.width, self.depth, self.frequencies = width, depth, frequencies
        self.sample_shape = (num_points, 3)
        self.code = MLP(latent_dim, code_widths, 2 * width * depth, batch_norm=batch_norm)
        self.stem = nn.Linear(3 + 6 * frequencies, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, 3 + extra_channels)
        self.register_buffer("template", _encode(ball_points(num_points), frequencies), persistent=False)

    def forward(self, z: Tensor, num_points: int | None = None) -> Tensor:
        """Give clouds (B, N, 3 + extra_channels) of codes (B, Z), of `num_points` points if that is given."""
        return self._steered(self._template(num_points or self.num_points).to(z), z)

    def steer(self, points: Tensor, z: Tensor) -> Tensor:
        """Give what the network makes of any points (B, N, 3) in the template's place: (B, N, 3 + extra_channels)."""
        return self._steered(_encode(points, self.frequencies).to(z), z)  # half precision in the weights alone

    def _steered(self, encoded: Tensor, z: Tensor) -> Tensor:
        scale, shift = self.code(z).unflatten(1, (self.depth, 2, 1, self.width)).unbind(2)  # (B, depth, 1, width)
        h = self.stem(encoded)  # (N, width): the same for every cloud; of other points (B, N, width)
        for k, layer in enumerate(self.layers):
            h = h + torch.relu(layer(h) * (1 + scale[:, k]) + shift[:, k])  # (B, N, width)
        points: Tensor = self.out(h)
        return points

    def _template(self, n: int) -> Tensor:
        if n == self.num_points:
            template = self.template
            assert isinstance(template, Tensor)
            return template
        return _encode(ball_points(n), self.frequencies)


def ball_points(n: int) -> Tensor:
    """Spread n points evenly in the unit ball: a golden spiral of directions at radii of equal volume.

    Returns:
        (n, 3) float32. The radii follow the additive sequence of √2, so that neighbours on the spiral lie at different
        depths.
    """
    i = torch.arange(n, dtype=torch.float64)
    golden = (1 + math.sqrt(5)) / 2
    height = 1 - (2 * i + 1) / n
    angle = 2 * math.pi * i / golden
    radius = torch.frac((i + 0.5) * math.sqrt(2)).pow(1 / 3)
    ring = (1 - height.square()).sqrt()
    directions = torch.stack([ring * angle.cos(), ring * angle.sin(), height], 1)
    return (directions * radius[:, None]).float()


def _encode(points: Tensor, frequencies: int) -> Tensor:
    """Coordinates and sinusoids of their octaves: (…, n, 3) -> (…, n, 3 + 6 · frequencies)."""
    octaves = math.pi * 2.0 ** torch.arange(frequencies, device=points.device)
    angles = (points[..., None] * octaves).flatten(-2)
    return torch.cat([points, angles.sin(), angles.cos()], -1)
