"""Changes to training clouds, a batch at a time, all from one explicit source of chance.

Each is a plain class with plain arguments, so that a config can list them:

    augment:
      - class_path: pcgen.datamodules.RotateUp
      - class_path: pcgen.datamodules.Jitter
        init_args: {std: 0.01, clip: 0.03}
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from pcgen.corruptions.base import Chance, add_noise
from pcgen.errors import ConfigurationError
from pcgen.recipe import Recorded


class Augmentation(Recorded, ABC):
    """Changes training clouds at random."""

    @abstractmethod
    def __call__(self, x: Tensor, *, generator: Generator, up_axis: int | None = None) -> Tensor:
        """Give changed clouds of the same shape.

        Args:
            x: Clouds (B, N, 3); they are not written to.
            generator: Source of chance, on the clouds' device.
            up_axis: 0, 1 or 2 where it is known.

        Returns:
            (B, N, 3).
        """


class Jitter(Augmentation):
    """Moves every point by Gaussian noise, each coordinate at most by `clip` (PointNet, Qi et al. 2017).

    Args:
        std: Standard deviation, in the unit of the normalised clouds.
        clip: Largest change of a coordinate; infinity for none.
    """

    def __init__(self, std: float = 0.01, clip: float = 0.05) -> None:
        if std < 0 or clip < 0:
            raise ConfigurationError(f"Jitter(std={std}, clip={clip}): neither may be negative")
        self.std, self.clip = std, clip

    def __call__(self, x: Tensor, *, generator: Generator, up_axis: int | None = None) -> Tensor:  # noqa: ARG002
        """Give moved points (B, N, 3)."""  # up_axis is part of the shared signature
        return add_noise(x, self.std, Chance(x, generator), clip=self.clip)


class RotateUp(Augmentation):
    """Turns every cloud about the up axis through the origin, by an angle uniform in [−degrees, degrees].

    Args:
        degrees: Largest angle; 180 is any direction.
        axis: 0, 1 or 2; None takes the up axis of the data.
    """

    def __init__(self, degrees: float = 180.0, axis: int | None = None) -> None:
        if axis not in (None, 0, 1, 2):
            raise ConfigurationError(f"RotateUp(axis={axis}): an axis is 0, 1, 2 or None for the data's own")
        self.degrees, self.axis = degrees, axis

    def __call__(self, x: Tensor, *, generator: Generator, up_axis: int | None = None) -> Tensor:
        """Give turned clouds (B, N, 3)."""
        axis = up_axis if self.axis is None else self.axis
        if axis is None:
            raise ConfigurationError("RotateUp does not know the up axis of these data; set its axis, or data.up_axis")
        angle = (2 * Chance(x, generator).uniform(len(x)) - 1) * math.radians(self.degrees)
        cos, sin = angle.cos(), angle.sin()
        u, v = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.zeros(len(x), 3, 3, device=x.device, dtype=x.dtype)
        turn[:, axis, axis] = 1
        turn[:, u, u], turn[:, v, v], turn[:, u, v], turn[:, v, u] = cos, cos, -sin, sin
        return x @ turn.mT  # (B, N, 3)


class RandomScale(Augmentation):
    """Scales every cloud about the origin by one number uniform in [low, high].

    Args:
        low: Smallest factor.
        high: Largest factor.
    """

    def __init__(self, low: float = 0.8, high: float = 1.25) -> None:
        if not 0 < low <= high:
            raise ConfigurationError(f"RandomScale(low={low}, high={high}): 0 < low <= high is needed")
        self.low, self.high = low, high

    def __call__(self, x: Tensor, *, generator: Generator, up_axis: int | None = None) -> Tensor:  # noqa: ARG002
        """Give scaled clouds (B, N, 3)."""  # up_axis is part of the shared signature
        return x * Chance(x, generator).uniform(len(x), 1, 1, low=self.low, high=self.high)


class PointDropout(Augmentation):
    """Drops a share of every cloud's points, uniform in [0, max_share]; their places are taken by copies of a kept one.

    So the number of points stays, and a network that pools by maximum does not see the dropped ones (PointNet++, Qi
    et al. 2017). At least one point of a cloud is kept.

    Args:
        max_share: Largest share of points dropped, below 1.
    """

    def __init__(self, max_share: float = 0.875) -> None:
        if not 0 <= max_share < 1:
            raise ConfigurationError(f"PointDropout(max_share={max_share}): 0 <= max_share < 1 is needed")
        self.max_share = max_share

    def __call__(self, x: Tensor, *, generator: Generator, up_axis: int | None = None) -> Tensor:  # noqa: ARG002
        """Give thinned clouds (B, N, 3)."""  # up_axis is part of the shared signature
        B, N, _ = x.shape
        chance = Chance(x, generator)
        share = chance.uniform(B, 1, high=self.max_share)
        lot = chance.uniform(B, N)
        kept = lot.argmax(1)  # the point least likely to go stays in any case
        dropped = lot < share  # (B, N)
        dropped[torch.arange(B, device=x.device), kept] = False
        copy = x[torch.arange(B, device=x.device), kept][:, None]  # (B, 1, 3)
        return torch.where(dropped[..., None], copy, x)
