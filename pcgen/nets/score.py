"""Score networks: one number for a whole cloud, large for what looks like data.

Reference: J. Xie, Y. Xu, Z. Zheng, S.-C. Zhu, Y. N. Wu, "Generative PointNet: Deep Energy-Based Learning on Unordered
Point Sets for 3D Generation, Reconstruction and Classification", CVPR 2021, https://arxiv.org/abs/2004.01301.

Difference: there the normalisation has a scale and a shift for each *position* of a point, which sees the order of the
points and ties the network to one number of them. Here they belong to the channel, unless `norm="paper"`.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.nets import frozen
from pcgen.nets.base import check_clouds, check_positive
from pcgen.nets.critical import has_hooks
from pcgen.nets.mlp import MLP
from pcgen.recipe import Recorded

Norm = Literal["channel", "paper", "none"]


class PointNetScore(Recorded, nn.Module):
    """A score f(x) (B,) of clouds (B, N, 3): an MLP for each point, the mean over the points, an MLP.

    The mean, and not PointNet's maximum: each point has a gradient, so each can be moved by it.

    Args:
        widths: Width of each per-point layer.
        head_widths: Width of each layer after the mean; a linear layer to one number follows.
        norm: What follows each per-point layer. `channel` normalises a channel over the cloud's points, with a scale
            and a shift of its own: any number of points in any order. `paper` has a scale and a shift for each
            position of a point instead, as published: the score then depends on the order. `none` leaves it out.
        num_points: N, for `paper` alone.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        head_widths: Sequence[int] = (512, 256, 64),
        norm: Norm = "channel",
        num_points: int | None = None,
    ) -> None:
        super().__init__()
        _check(widths, norm, num_points)
        self.norm, self.num_points = norm, num_points
        self.permutation_invariant = norm != "paper"
        self.points = nn.ModuleList()
        in_features = 3
        for width in widths:
            self.points.append(PointLayer(in_features, width, norm, num_points))
            in_features = width
        self.head = MLP(in_features, head_widths, 1, batch_norm=False)
        self.num_features = sum(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Give the scores (B,) of clouds (B, N, 3), in no less than single precision.

        On a CPU, where no parameter asks for a gradient, a kernel gives them faster: see `pcgen.nets.frozen`.
        """
        parts = self._parts()
        if parts is not None and frozen.is_computed(self._checked(x), parts):
            return frozen.score(x, parts, self._plainly)
        return self._plainly(x)

    def _parts(self) -> frozen.Parts | None:
        layers = [layer for layer in self.points if type(layer) is PointLayer]
        if type(self) is not PointNetScore or len(layers) < len(self.points) or has_hooks(self.points, *layers):
            return None
        return frozen.parts_of(((layer.linear, layer.norm) for layer in layers), self.head)

    def _plainly(self, x: Tensor) -> Tensor:
        last = x
        for h in self.local(x):
            last = h
        score: Tensor = self.head(last.mean(2)).squeeze(1)
        return score.to(torch.promote_types(score.dtype, torch.float32))

    def local(self, x: Tensor) -> Iterator[Tensor]:
        """Give what each per-point layer makes (B, C, N) of clouds (B, N, 3), one after the other.

        Raises:
            DataError: If the clouds have another number of points than a network with `norm="paper"` was built for.
        """
        h = self._checked(x).transpose(1, 2)  # (B, 3, N)
        for layer in self.points:
            h = layer(h)
            yield h

    def _checked(self, x: Tensor) -> Tensor:
        if self.num_points not in (None, check_clouds(x).shape[1]):
            raise DataError(
                f'this {type(self).__name__} has norm "paper" for clouds of {self.num_points} points and got '
                f'{x.shape[1]}: set its num_points to the data\'s, or its norm to "channel", which takes any number'
            )
        return x

    def features(self, x: Tensor) -> Tensor:
        """Give the largest value of each channel of all per-point layers (B, F) over the points of clouds (B, N, 3)."""
        return torch.cat([h.amax(2) for h in self.local(x)], 1)


class PointLayer(nn.Module):
    """The same linear layer for every point, a normalisation over the points, ReLU: (B, C, N) -> (B, C', N)."""

    def __init__(self, in_features: int, width: int, norm: Norm, num_points: int | None) -> None:
        super().__init__()
        # The normalisation has a shift of its own. The paper keeps the bias that it undoes.
        self.linear = nn.Conv1d(in_features, width, 1, bias=norm != "channel")
        self.norm: nn.Module | None = None
        if norm == "channel":
            self.norm = nn.GroupNorm(width, width)
        elif norm == "paper":
            assert num_points is not None
            self.norm = nn.LayerNorm(num_points)

    def forward(self, h: Tensor) -> Tensor:
        """Give (B, C', N) of (B, C, N)."""
        h = self.linear(h)
        return F.relu_(h if self.norm is None else self.norm(h))


def _check(widths: Sequence[int], norm: str, num_points: int | None) -> None:
    if not widths:
        raise ConfigurationError("widths is empty; give the width of at least one layer for each point")
    if norm not in ("channel", "paper", "none"):
        raise ConfigurationError(f'norm is {norm!r}; choose "channel", "paper" or "none"')
    if (norm == "paper") != (num_points is not None):
        raise ConfigurationError(
            f'num_points is {num_points} and norm is "{norm}"; norm "paper" needs the number of points, and no other '
            "norm has one"
        )
    for width in widths:
        check_positive(width=width)
    if num_points is not None:
        check_positive(num_points=num_points)
